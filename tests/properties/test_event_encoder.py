"""Events of few attempts are encoded without Arrow, those of many with it: the same bytes."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from agents.dispatches import Attempt
from agents.event_encoder import Entry, EventEncoder
from agents.inbox import Inbox
from agents.intake import Intake
from agents.outcome import Outcome
from schemas.codec import FEW, Codec
from schemas.registry import FileRegistry
from streams.transport.batch import TopicPartition
from tests.support.agents_bench import make_topology
from tests.support.agents_polls import poll_of
from tests.support.examples import examples

TOPOLOGY = make_topology("", {"one": {}})
TOPICS, CODEC = TOPOLOGY.topics(), Codec(FileRegistry.load(), 1 << 20)
TEXT = st.none() | st.text(max_size=8)
TEXTS = st.lists(st.text(max_size=3), max_size=2).map(tuple)
OUTCOMES = st.builds(
    Outcome,
    st.sampled_from(["STARTED", "COMPLETED", "FAILED", "REFUSED"]),
    *(TEXT, TEXT, TEXT, st.none() | st.floats(), TEXTS, TEXTS, TEXT, TEXT),
    *(st.integers(0, 1 << 40) for _ in range(6)),
    TEXT,
)


def attempts(n: int) -> list[Attempt]:
    tp = TopicPartition(TOPICS.inbox("one"), 0)
    intake: Any = Intake(TOPOLOGY, CODEC, None, {tp: Inbox("one", *tp, epoch=7)})  # type: ignore[arg-type]
    polls = (poll_of(TOPICS, CODEC, [("one", 0, at, "hello")], at) for at in range(n))
    return [attempt for poll in polls for _, found in intake.take(poll) for attempt in found]


ATTEMPTS = attempts(FEW + 1)


def attempts_together(polls: int, n: int) -> list[Attempt]:
    """Of polls of so many dispatches: those of a poll have one source."""
    tp = TopicPartition(TOPICS.inbox("one"), 0)
    intake: Any = Intake(TOPOLOGY, CODEC, None, {tp: Inbox("one", *tp, epoch=7)})  # type: ignore[arg-type]
    firsts = range(0, polls * n, n)
    dispatched = (poll_of(TOPICS, CODEC, [("one", 0, at, f"hello {at}") for at in range(f, f + n)], f) for f in firsts)
    return [attempt for poll in dispatched for _, found in intake.take(poll) for attempt in found]


TOGETHER = attempts_together(4, FEW)


@examples(25)
@given(st.lists(OUTCOMES, min_size=1, max_size=5))
def test_few_events_have_the_bytes_that_they_have_among_many(outcomes: list[Outcome]) -> None:
    encoder = EventEncoder(CODEC, {"one": "1"}, frozenset(), 1 << 20, lambda _: None)
    entries = [Entry(each, outcomes[at % len(outcomes)], None) for at, each in enumerate(ATTEMPTS)]
    _, many = encoder.encoded(entries)
    _, few = encoder.encoded(entries[:FEW])
    assert few == many[:FEW]


@examples(25)
@given(st.lists(st.sampled_from(TOGETHER), min_size=FEW + 1, max_size=3 * FEW), st.booleans(), OUTCOMES)
def test_events_of_many_sources_in_any_order_have_the_bytes_that_each_has_alone(
    ended: list[Attempt], in_order: bool, outcome: Outcome
) -> None:
    encoder = EventEncoder(CODEC, {"one": "1"}, frozenset(), 1 << 20, lambda _: None)
    if in_order:
        ended = TOGETHER[: len(ended)]
    entries, values = encoder.encoded([Entry(each, outcome, None) for each in ended])
    assert {id(each.attempt) for each in entries} == {id(each) for each in ended}
    assert values == [encoder.encoded([each])[1][0] for each in entries]
