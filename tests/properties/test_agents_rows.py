"""Batch agents served in columns and row by row: the same events and positions, whatever is asked and answered."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from itertools import chain
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.calls import Caller
from agents.context import Contexts
from agents.contract import BATCH_OUTPUT
from agents.event_log import EventLog
from agents.inbox import Inbox
from agents.intake import Intake
from agents.outcome import COMPLETED, UnusableAnswer, from_batch
from agents.outcome_columns import given_of, judged
from agents.recognition import AttemptId
from agents.recollection import Recollection
from agents.rows import Rows
from agents.runners.in_process import BatchRunner
from agents.runners.turns import CallThreads
from agents.service import Service
from agents.work import Room
from schemas.codec import Codec
from schemas.registry import FileRegistry
from schemas.topology import Topology
from streams.transport.batch import Batch, TopicPartition
from tests.support.agents_polls import poll_of
from tests.support.examples import examples

NAMES, PARTITIONS, BYTES_MAX = ("one", "two"), 2, 4_096
TOPOLOGY = Topology.model_validate(
    {
        "partitions": PARTITIONS,
        "agents": {name: {"run": "m:f", "kind": "batch", "effect": "read", "timeout_ms": 60_000} for name in NAMES},
        "routes": {"all": {"agents": list(NAMES), "fallback": {"answer": "none"}}},
        "default_route": "all",
        "limits": {"record_bytes_max": BYTES_MAX},
    }
)
TOPICS, CODEC = TOPOLOGY.topics(), Codec(FileRegistry.load(), BYTES_MAX)
TIMES = {"started_at", "finished_at"}

# What a batch agent may say of a row.
TEXT = st.one_of(st.none(), st.text(max_size=8))
COLUMNS: dict[str, st.SearchStrategy[Any]] = {
    "answer": TEXT,
    "confidence": st.one_of(st.none(), st.floats()),
    "vote_key": TEXT,
    "payload": TEXT,
    "citations": st.one_of(st.none(), st.lists(st.text(max_size=3), max_size=2)),
    "facts": st.one_of(st.none(), st.lists(st.text(max_size=3), max_size=2)),
    "error_class": st.sampled_from([None, None, "REFUSED", "INTERNAL", "OVERLOADED", "x" * 600]),
    "error": st.one_of(st.none(), st.text(max_size=8), st.just("é" * 700)),
    "tokens_in": st.one_of(st.none(), st.integers(0, 9)),
    "tokens_out": st.one_of(st.none(), st.integers(0, 9)),
    "cost_microusd": st.one_of(st.none(), st.integers(0, 9)),
}


@st.composite
def outputs(draw: st.DrawFn) -> tuple[pa.RecordBatch, int]:
    n = draw(st.integers(0, 6))
    names = draw(st.lists(st.sampled_from(sorted(COLUMNS)), unique=True))
    arrays = [
        pa.array(draw(st.lists(COLUMNS[name], min_size=n, max_size=n)), BATCH_OUTPUT.field(name).type) for name in names
    ]
    other = pa.array([0] * n, pa.int64())
    return pa.RecordBatch.from_arrays([*arrays, other], names=[*names, "its own"]), n


@given(st.lists(outputs(), min_size=1, max_size=4))
def test_what_batch_agents_give_back_is_read_in_columns_as_row_by_row(output: list[tuple[pa.RecordBatch, int]]) -> None:
    one_by_one = [from_batch(rows, n, may_have_acted=False) for rows, n in output]
    found = judged([given_of(rows, n) for rows, n in output])
    # As text: what is no number is equal to nothing.
    assert list(map(repr, found.rows())) == list(map(repr, chain.from_iterable(one_by_one)))
    counts = [dict(Counter(each.kind for each in part)) for part in one_by_one]
    assert found.counts([n for _, n in output]) == counts or (not found.n and found.kinds == COMPLETED)


@pytest.mark.parametrize(
    "rows",
    [
        None,
        pa.record_batch({"answer": ["one"]}),
        pa.record_batch({"answer": [1.5, 2.5], "confidence": ["high", "low"]}),
        pa.record_batch({"answer": ["a", "b"], "facts": [[None], []]}),
        pa.record_batch({"answer": pa.array([b"\xff", b"b"]).view(pa.binary()).cast(pa.string(), safe=False)}),
    ],
)
def test_both_refuse_what_no_log_can_hold(rows: Any) -> None:
    with pytest.raises(UnusableAnswer):
        from_batch(rows, 2, may_have_acted=False)
    with pytest.raises(UnusableAnswer):
        given_of(rows, 2)


class Sent:
    """A producer that keeps what it is given."""

    def __init__(self) -> None:
        self.records: dict[tuple[str, int], list[tuple[bytes | None, dict[str, Any]]]] = {}
        self.buried = 0

    def send(
        self, topic: str, partition: int, values: Sequence[bytes | None], keys: Sequence[bytes | None] | None = None
    ) -> None:
        assert keys is not None
        rows = CODEC.decode(values, "AgentEvent").batch.to_pylist()
        plain = [{name: value for name, value in row.items() if name not in TIMES} for row in rows]
        self.records.setdefault((topic, partition), []).extend(zip(keys, plain, strict=True))

    def send_one(self, topic: str, *_: object, **__: object) -> None:
        assert topic == TOPICS.dead
        self.buried += 1

    def drained(self, timeout_s: float = 0.0) -> bool:
        del timeout_s
        return True


async def _nobody_else() -> None:
    pass


def _raise(error: Exception) -> None:
    raise error


def answers(rows: pa.RecordBatch) -> pa.RecordBatch:
    """By the task's text: that it fails, is refused, stays silent, answers too much, or raises for all."""
    found: dict[str, list[Any]] = {"answer": [], "error_class": [], "error": []}
    for text in rows.column("text").to_pylist():
        if text == "breaks":
            raise ZeroDivisionError("a fault of its own")
        found["answer"].append({"fails": None, "silent": None, "much": "x" * 2 * BYTES_MAX}.get(text, f"to {text}"))
        found["error_class"].append({"fails": "INTERNAL", "refuses": "REFUSED"}.get(text))
        found["error"].append({"fails": "it did not work"}.get(text))
    return pa.record_batch(
        [
            pa.array(found["answer"], pa.string()),
            *(pa.array(found[name], pa.string()) for name in found if name != "answer"),
        ],
        names=list(found),
    )


async def served(polls: Sequence[Batch], *, in_columns: bool, given_up: int | None) -> tuple[Any, Any, int]:
    """All polls through a host without a broker: what is in the logs, the positions, and how many were put away."""
    sent, memory, room = Sent(), Recollection(Contexts(TOPOLOGY), None), Room(1_000)
    tps = [TopicPartition(TOPICS.inbox(name), number) for name in NAMES for number in range(PARTITIONS)]
    names = {TOPICS.inbox(name): name for name in NAMES}
    inboxes = {tp: Inbox(names[tp.topic], *tp, epoch=7 + tp.partition) for tp in tps}
    owned = dict(inboxes)
    events = EventLog(TOPOLOGY, CODEC, sent)
    intake = Intake(TOPOLOGY, CODEC, sent, owned)
    if not in_columns:
        intake._in_columns = frozenset()
    threads = CallThreads()
    services = {
        name: Service(
            name,
            agent,
            Caller(BatchRunner(agent, answers, threads), writes=False),
            *(events, memory, room, _nobody_else, _raise),
        )
        for name, agent in TOPOLOGY.agents.items()
    }
    writing = asyncio.create_task(events.run())
    for number, batch in enumerate(polls):
        for agent_id, work in intake.take(batch):
            services[agent_id].take(work)
        if number == given_up:
            gone = owned.pop(tps[0])
            for service in services.values():
                await service.release({gone}, 0.0)
    while room.taken:  # noqa: ASYNC110  a room tells nobody
        await asyncio.sleep(0.001)
    assert await events.settle(5.0)
    writing.cancel()
    for service in services.values():
        await service.close()
    kept = {(TOPICS.events(names[tp.topic]), tp.partition): inboxes[tp].tracker.position for tp in owned}
    return {log: sent.records.get(log, []) for log in kept}, kept, sent.buried


ROW = st.tuples(
    st.sampled_from(NAMES),
    st.integers(0, PARTITIONS - 1),
    st.integers(0, 12),  # the task; few, so that some come again
    st.sampled_from(["hello", "hello", "hello", "fails", "refuses", "silent", "much", "overdue", "garbage"]),
)


@examples(60)
@given(
    st.lists(st.lists(ROW, min_size=1, max_size=12), min_size=1, max_size=4),
    st.booleans(),
    st.one_of(st.none(), st.integers(0, 3)),
    st.sampled_from([False, False, False, True]),
)
def test_batch_agents_in_columns_leave_what_they_leave_row_by_row(
    polls: list[list[tuple[str, int, int, str]]], interleaved: bool, given_up: int | None, broken: bool
) -> None:
    """`broken`: the agents raise at every call, for all its rows; which rows share a call is nobody's business."""
    batches, first = [], 0
    for poll in polls:
        rows = [(*row[:3], "breaks" if broken and row[3] == "hello" else row[3]) for row in poll]
        rows = [row for row in rows if not broken or row[3] in {"breaks", "overdue", "garbage"}]
        if not rows:
            continue
        batches.append(poll_of(TOPICS, CODEC, rows if interleaved else sorted(rows, key=lambda row: row[:2]), first))
        first += len(rows)
    logs, positions, buried = asyncio.run(served(batches, in_columns=True, given_up=given_up))
    expected, expected_positions, expected_buried = asyncio.run(served(batches, in_columns=False, given_up=given_up))
    assert (positions, buried) == (expected_positions, expected_buried)
    for log, records in expected.items():
        assert sorted(map(repr, logs[log])) == sorted(map(repr, records)), log


@examples(40)
@given(st.lists(ROW, min_size=1, max_size=20), st.integers(-100_000, 100_000))
def test_rows_that_are_overdue_are_told_from_the_others_as_one_by_one(
    poll: list[tuple[str, int, int, str]], later_ms: int
) -> None:
    rows = [(*row[:2], number, row[3]) for number, row in enumerate(poll) if row[3] != "garbage"]
    inboxes = {
        TopicPartition(TOPICS.inbox(name), number): Inbox(name, TOPICS.inbox(name), number)
        for name in NAMES
        for number in range(PARTITIONS)
    }
    intake = Intake(TOPOLOGY, CODEC, Sent(), inboxes)
    for _, taken in intake.take(poll_of(TOPICS, CODEC, sorted(rows, key=lambda row: row[:2]))) if rows else ():
        assert isinstance(taken, Rows)
        attempts = taken.attempts()
        now_us = (attempts[0].expires_ms + later_ms) * 1000
        overdue, others = taken.split(now_us)
        expected = [each for each in attempts if each.expires_ms * 1000 <= now_us]
        assert _ids(overdue) == [each.id for each in expected]
        assert _ids(others) == [each.id for each in attempts if each not in expected]
        for part in (overdue, others):
            if part is not None:
                times = [each.expires_ms for each in part.attempts()]
                assert part.expires_ms == (min(times), max(times))
        if overdue is not None:
            assert overdue.read_late().tolist() == [each.was_read_late for each in expected]


def _ids(rows: Rows | None) -> list[AttemptId]:
    return [] if rows is None else [each.id for each in rows.attempts()]
