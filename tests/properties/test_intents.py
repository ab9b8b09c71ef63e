"""The columnar phrase rules against a scalar twin that reads one character at a time."""

from math import prod

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from schemas.topology import Agent, Phrase, Route, Topology
from streams.core.intents import SCORE_DECIMALS, PhraseRules, fold, joins

WORDS = ["a", "b", "ab", "ba", "Ab", "a b", "b-a", "é", "éa", "港", "港a", "+", "a+"]
TEXTS = st.text(alphabet="abAB é港+-_\u0301", max_size=12) | st.lists(st.sampled_from(WORDS), max_size=5).map(" ".join)
ROUTES = st.lists(
    st.dictionaries(st.sampled_from(WORDS), st.sampled_from([0.2, 0.5, 0.8, 0.9, 1.0]), max_size=4),
    min_size=1,
    max_size=3,
)


def topology(routes: list[dict[str, float]]) -> Topology:
    taken: set[str] = set()
    chosen: dict[str, Route] = {}
    for number, phrases in enumerate(routes):
        own = {phrase: c for phrase, c in phrases.items() if fold(phrase) not in taken}
        taken |= {fold(phrase) for phrase in own}
        chosen[f"r{number}"] = Route(
            agents=("a",), phrases=tuple(Phrase(phrase=phrase, confidence=c) for phrase, c in own.items())
        )
    return Topology(agents={"a": Agent(run="m:f", effect="read")}, routes=chosen, default_route="r0")


def stands_in(phrase: str, text: str) -> bool:
    text, phrase = fold(text), fold(phrase)
    for start in range(len(text) - len(phrase) + 1):
        end = start + len(phrase)
        continued = (joins(text[start - 1 : start]) and joins(phrase[0])) or (
            joins(text[end : end + 1]) and joins(phrase[-1])
        )
        if text[start:end] == phrase and not continued:
            return True
    return False


def twin(policy: Topology, text: str | None) -> tuple[int, float]:
    scores = []
    for route in policy.routes.values():
        found: dict[str, float] = {}
        for rule in route.phrases:
            if stands_in(rule.phrase, text or ""):
                found[fold(rule.phrase)] = max(rule.confidence, found.get(fold(rule.phrase), 0.0))
        scores.append(round(1 - prod(1 - confidence for confidence in found.values()), SCORE_DECIMALS))
    best = max(scores)
    if best == 0:
        return -1, 0.0
    code = scores.index(best)
    second = max((score for number, score in enumerate(scores) if number != code), default=0.0)
    return code, best * (best / (best + second))


@given(routes=ROUTES, texts=st.lists(st.none() | TEXTS, max_size=8))
def test_equals_the_scalar_twin(routes: list[dict[str, float]], texts: list[str | None]) -> None:
    policy = topology(routes)
    codes, confidences = PhraseRules.compile(policy).match(pa.array(texts, pa.string()))
    assert list(zip(codes.tolist(), confidences.tolist(), strict=True)) == [twin(policy, text) for text in texts]


@given(routes=ROUTES, texts=st.lists(TEXTS, min_size=1, max_size=6), at=st.integers(0, 6))
def test_a_text_is_judged_alone(routes: list[dict[str, float]], texts: list[str], at: int) -> None:
    rules = PhraseRules.compile(topology(routes))
    whole = rules.match(pa.array(texts))
    parts = [rules.match(pa.array(part, pa.string())) for part in (texts[:at], texts[at:])]
    assert whole.intent_code.tolist() == [code for part in parts for code in part.intent_code.tolist()]
    assert whole.confidence.tolist() == [sure for part in parts for sure in part.confidence.tolist()]
