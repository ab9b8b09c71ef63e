import numpy as np
import pyarrow as pa
import pytest

from schemas.errors import ConfigurationError
from schemas.topology import Agent, Phrase, Route, Topology
from streams.core.intents import NO_INTENT, PhraseRules, fold, joins


def rules(**routes: dict[str, float]) -> PhraseRules:
    return PhraseRules.compile(
        Topology(
            agents={"a": Agent(run="m:f", effect="read")},
            routes={
                name: Route(
                    agents=("a",),
                    phrases=tuple(Phrase(phrase=text, confidence=confidence) for text, confidence in phrases.items()),
                )
                for name, phrases in routes.items()
            },
            default_route=next(iter(routes)),
        )
    )


def match(compiled: PhraseRules, text: str | None) -> tuple[str | None, float]:
    codes, confidences = compiled.match(pa.array([text], pa.string()))
    code = int(codes[0])
    return (None if code == NO_INTENT else compiled.intents[code]), float(confidences[0])


@pytest.mark.parametrize(
    ("phrase", "text", "found"),
    [
        ("port", "port", True),
        ("port", "a PORT, open", True),
        ("PORT", "a port", True),
        ("port", "report", False),
        ("port", "ports", False),
        ("port", "port_1", False),
        ("port", "port-side", True),
        ("port", "report on the port", True),
        ("port", "éport", False),
        ("port", "porté", False),
        ("port", "port\u0301", False),  # a combining accent belongs to the word
        ("port", "“port”", True),
        ("port", "port—side", True),
        ("port", "港port港", True),  # no spaces are written there
        ("c++", "c++17", True),  # an edge that is no letter touches anything
        ("c++", "use c++.", True),
        ("c++", "abc++", False),
        ("sales report", "the Sales Report for May", True),
        ("sales report", "sales reports", False),
        ("umsatz", "der Umsatz über alles", True),
        ("über", "gegenüber", False),
        ("売上", "第三四半期の売上高", True),
        ("매출", "삼분기 매출을 보여줘", True),
        ("выручка", "выручка за май", True),
        ("выручка", "невыручка", False),
        ("  port  ", "a port", True),
    ],
)
def test_a_phrase_counts_as_whole_words(phrase: str, text: str, *, found: bool) -> None:
    intent, confidence = match(rules(money={phrase: 0.9}), text)
    assert (intent, confidence) == (("money", 0.9) if found else (None, 0.0))


@pytest.mark.parametrize("confidence", [0.05, 0.1, 0.3, 0.7, 0.8, 0.9, 1.0])
def test_a_lone_phrase_gives_exactly_its_own_confidence(confidence: float) -> None:
    assert match(rules(money={"revenue": confidence}), "the revenue") == ("money", confidence)


def test_a_phrase_said_twice_counts_once() -> None:
    assert match(rules(money={"revenue": 0.7}), "revenue, Revenue and REVENUE") == ("money", 0.7)


def test_several_phrases_make_surer() -> None:
    intent, confidence = match(rules(money={"revenue": 0.7, "quarter": 0.5}), "revenue of the quarter")
    assert intent == "money"
    assert confidence == pytest.approx(1 - 0.3 * 0.5)


def test_a_phrase_within_a_phrase_counts_too() -> None:
    assert match(rules(money={"sales": 0.5, "sales report": 0.5}), "sales report")[1] == pytest.approx(0.75)


def test_a_rival_lowers_the_confidence() -> None:
    compiled = rules(paper={"document": 0.6}, money={"revenue": 0.9})
    intent, confidence = match(compiled, "the revenue document")
    assert intent == "money"
    assert confidence == pytest.approx(0.9 * 0.9 / 1.5)


def test_a_third_rival_changes_nothing() -> None:
    compiled = rules(paper={"document": 0.6}, money={"revenue": 0.9}, people={"customer": 0.2})
    assert match(compiled, "the customer's revenue document")[1] == pytest.approx(0.9 * 0.9 / 1.5)


def test_a_tie_goes_to_the_earlier_route_at_half_the_confidence() -> None:
    for first, second in (("paper", "money"), ("money", "paper")):
        compiled = rules(**{first: {first: 0.8}, second: {second: 0.8}})
        assert match(compiled, "money paper") == (first, 0.4)


def test_nulls_empty_texts_and_empty_batches_match_nothing() -> None:
    compiled = rules(money={"revenue": 0.9})
    assert match(compiled, None) == (None, 0.0)
    assert match(compiled, "") == (None, 0.0)
    codes, confidences = compiled.match(pa.array([], pa.string()))
    assert (codes.dtype, len(codes)) == (np.dtype(np.int32), 0)
    assert (confidences.dtype, len(confidences)) == (np.dtype(np.float64), 0)


def test_a_topology_without_phrases_matches_nothing() -> None:
    assert match(rules(money={}), "revenue") == (None, 0.0)


def test_slices_and_wide_strings_are_read_at_their_own_offsets() -> None:
    compiled = rules(money={"revenue": 0.9}, paper={"pdf": 0.8})
    texts = pa.array(["revenue", None, "xrevenue", "a pdf", "re", "venue", "the revenue"])
    for array in (texts, texts.cast(pa.large_string()), texts.cast(pa.string_view())):
        codes, _ = compiled.match(array[2:])
        assert codes.tolist() == [-1, 1, -1, -1, 0]


def test_a_word_never_spans_two_texts() -> None:
    codes, _ = rules(money={"revenue": 0.9}).match(pa.array(["x", "revenue", "y"]))
    assert codes.tolist() == [-1, 0, -1]


def test_the_same_phrase_in_two_routes_is_refused_whatever_its_case() -> None:
    with pytest.raises(ConfigurationError, match=r"routes\.paper\.phrases: 'Report'"):
        rules(money={"report": 0.9}, paper={"Report": 0.9})


def test_of_one_phrase_spelled_twice_in_a_route_the_surer_counts() -> None:
    assert match(rules(money={"report": 0.6, "Report": 0.9, "REPORT": 0.7}), "report") == ("money", 0.9)


def test_only_ascii_letters_are_folded() -> None:
    assert fold("ÄBC") == "Äbc"
    assert match(rules(money={"École": 0.9}), "école") == (None, 0.0)


def test_what_joins_a_word() -> None:
    assert all(joins(character) for character in "aZ0_éж\u0301")
    assert not any(joins(character) for character in ["", " ", "-", "'", "—", "港", "ก", "매"])
