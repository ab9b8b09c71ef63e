"""Rules of redriving: markers are told from letters, and each letter that stays has a reason."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.deadletter import ATTEMPT, DeadLetter, Headers, Origin, attempts_of, burial, headers, parse
from schemas.reasons import DeadReason
from schemas.redrive import Redriven, Refusal, Rules, is_marker, marker_headers, parse_marker, redriven_headers
from schemas.topics import Topics

TOPICS = Topics(agents=("alpha",), partitions=4, prefix="p.")
RULES = Rules.of(TOPICS, redrives_max=3)
LETTER = DeadLetter(Origin(TOPICS.submitted, 3, 17, 1), "UNKNOWN_SCHEMA", "", "router")

numbers = st.integers(0, 2**63 - 1)


@given(
    st.builds(
        Redriven,
        st.builds(Origin, st.text(min_size=1), st.integers(0, 2**31 - 1), numbers, st.just(-1)),
        numbers,
        st.integers(-1, 2**63 - 1),
        st.integers(1, 1000),
        numbers,
        st.sampled_from(["", "deadline_ms"]),
    )
)
def test_what_a_marker_says_is_read_and_it_is_no_letter(redriven: Redriven) -> None:
    assert parse_marker(marker_headers(redriven)) == redriven
    assert parse(marker_headers(redriven)).origin == redriven.origin


@given(st.lists(st.tuples(st.text(), st.none() | st.binary())))
def test_headers_of_strangers_are_no_marker_and_break_nothing(given_headers: list[tuple[str, bytes | None]]) -> None:
    assert not is_marker(given_headers) or any(name.startswith("pointsman.") for name, _ in given_headers)


def test_a_letter_is_no_marker() -> None:
    assert not is_marker(headers(Origin("t", 0, 1, 2), "X", "", "c"))


def test_the_count_goes_all_the_way_and_the_records_own_headers_with_it() -> None:
    own: Headers = [("traceparent", b"00-1")]
    for times in range(1, 5):
        letter = burial(b"v", b"k", LETTER.origin or Origin("", 0, 0, 0), DeadReason.UNFRAMED, "", "router", own)
        said = parse(letter.headers)
        assert said.attempt == times
        own = redriven_headers(letter.headers, said.attempt)
        assert own == [("traceparent", b"00-1"), (ATTEMPT, str(times).encode())]
        assert attempts_of(own) == times


@pytest.mark.parametrize(
    ("letter", "refusal"),
    [
        (LETTER, None),
        (replace(LETTER, origin=None), Refusal.NO_ORIGIN),
        (replace(LETTER, origin=Origin("tasks.submitted.v1", 0, 1, 2)), Refusal.FOREIGN_TOPIC),
        (replace(LETTER, origin=Origin(TOPICS.inbox("gone"), 0, 1, 2)), Refusal.FOREIGN_TOPIC),
        (replace(LETTER, origin=Origin(TOPICS.inbox("alpha"), 0, 1, 2)), None),
        (replace(LETTER, origin=Origin(TOPICS.submitted, 4, 1, 2)), Refusal.NO_PARTITION),
        (replace(LETTER, origin=Origin(TOPICS.submitted, -1, 1, 2)), Refusal.NO_PARTITION),
        *(
            (replace(LETTER, origin=Origin(topic, 0, 1, 2)), Refusal.OUTDATED)
            for topic in (TOPICS.breakers, TOPICS.cards, TOPICS.health, TOPICS.dead)
        ),
        (replace(LETTER, left_out=frozenset({"value"})), Refusal.LEFT_OUT),
        (replace(LETTER, attempt=3), None),
        (replace(LETTER, attempt=4), Refusal.LOOP),
    ],
)
def test_a_letter_that_cannot_go_back_says_why(letter: DeadLetter, refusal: Refusal | None) -> None:
    found = RULES.refusal(letter, is_redriven=False)
    assert (found[0] if found else None) == refusal
    assert found is None or found[1]


def test_what_went_back_stays_unless_it_is_asked_for_again_and_force_overrules_the_loop_guard_alone() -> None:
    looped = replace(LETTER, attempt=9)
    before = RULES.refusal(LETTER, is_redriven=True)
    assert before is not None
    assert before[0] is Refusal.REDRIVEN
    assert replace(RULES, again=True).refusal(LETTER, is_redriven=True) is None
    assert replace(RULES, force=True).refusal(looped, is_redriven=False) is None
    gone = replace(RULES, force=True).refusal(replace(looped, origin=None), is_redriven=False)
    assert gone is not None
    assert gone[0] is Refusal.NO_ORIGIN
    assert Rules.of(TOPICS, redrives_max=0).refusal(LETTER, is_redriven=False) == (
        Refusal.LOOP,
        "it was redriven 0 times and came back each time",
    )
