"""What is written while calls run still: handed over with what comes of them, and not kept for a call that is long."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
import pytest

from agents import event_log
from agents.event_columns import Block
from agents.event_log import EventLog
from agents.inbox import Inbox
from agents.intake import Intake
from agents.outcome_columns import given_of
from agents.rows import Rows
from schemas.codec import Codec
from schemas.registry import FileRegistry
from schemas.topology import Topology
from streams.transport.batch import TopicPartition
from tests.support.agents_polls import poll_of
from tests.support.waiting import PATIENCE

TOPOLOGY = Topology.model_validate(
    {
        "partitions": 1,
        "agents": {"reader": {"run": "m:f", "kind": "batch", "effect": "read", "timeout_ms": 60_000}},
        "routes": {"all": {"agents": ["reader"], "fallback": {"answer": "none"}}},
        "default_route": "all",
    }
)
TOPICS, CODEC = TOPOLOGY.topics(), Codec(FileRegistry.load(), 1 << 20)


class Producer:
    """Counts what it is given."""

    def __init__(self) -> None:
        self.sent = self.asked = 0
        self.is_drained = True

    def send(self, topic: str, partition: int, values: Sequence[Any], keys: Any = None) -> None:
        del topic, partition, keys
        self.sent += len(values)

    def send_one(self, topic: str, *_: object, **__: object) -> None:
        raise AssertionError(f"a dispatch was not taken: {topic}")

    def drained(self, timeout_s: float = 0.0) -> bool:
        del timeout_s
        self.asked += 1
        return self.is_drained


class Calls:
    """What runs, as the log asks for it."""

    def __init__(self, *, are_running: bool) -> None:
        self.are_running, self.asked = are_running, 0

    def __call__(self) -> bool:
        self.asked += 1
        return self.are_running


async def _until(found: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not found():  # noqa: ASYNC110  nobody tells it
            await asyncio.sleep(0.001)


class Bench:
    """A log, and an inbox from which its events come."""

    def __init__(self, calls: Calls) -> None:
        self.producer = Producer()
        self.log = EventLog(TOPOLOGY, CODEC, self.producer, more_to_come=calls)
        inbox = Inbox("reader", TOPICS.inbox("reader"), 0)
        self._intake = Intake(TOPOLOGY, CODEC, self.producer, {TopicPartition(inbox.topic, 0): inbox})
        self._read = 0

    def end_one(self) -> None:
        """A call has ended, of one row."""
        ((_, rows),) = self._intake.take(poll_of(TOPICS, CODEC, [("reader", 0, self._read, "hello")], self._read))
        assert isinstance(rows, Rows)
        self._read += 1
        self.log.write_rows(Block(rows, given_of(pa.record_batch({"answer": ["yes"]}), 1), 1, 2, lambda _counts: None))


async def test_what_comes_of_calls_that_run_is_handed_over_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_log, "COMPANY_S", 2 * PATIENCE)
    calls = Calls(are_running=True)
    bench = Bench(calls)
    writing = asyncio.create_task(bench.log.run())
    bench.end_one()
    await _until(lambda: calls.asked > 1)
    bench.end_one()
    before = bench.producer.sent
    calls.are_running = False
    await _until(lambda: bench.producer.sent > 0)
    assert (before, bench.producer.sent) == (0, 2)
    writing.cancel()


async def test_nothing_waits_for_a_call_that_hangs() -> None:
    bench = Bench(Calls(are_running=True))
    writing = asyncio.create_task(bench.log.run())
    bench.end_one()
    await _until(lambda: bench.producer.sent == 1)
    writing.cancel()


async def test_a_confirmation_that_takes_long_is_not_asked_for_at_each_turn_of_the_loop() -> None:
    """No broker answers: a host that asks each millisecond takes from the broker the core on which to start."""
    bench = Bench(Calls(are_running=False))
    bench.producer.is_drained = False
    assert not await bench.log.settle(1.0)
    asked = bench.producer.asked
    assert 10 < asked < 100
    bench.producer.is_drained = True
    assert await bench.log.settle(PATIENCE)
