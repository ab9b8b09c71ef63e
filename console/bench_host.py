"""What a dispatch costs a host, by the size of a poll: from its bytes to its outcome's, without a broker.

`python -m console.bench_host` puts dispatches of twelve agents in four partitions before their services, each of which
answers by rule; `--kind` says how they are called. It counts CPU time of the process, of all its threads, so that a
busy machine does not show. It ends with an error where a service fails, or a poll takes over `POLL_S_MAX`. I/O: the
clock, stdout.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from agents.calls import Caller
from agents.context import Contexts
from agents.contract import Answer, Context, Task
from agents.event_log import EventLog
from agents.inbox import Inbox
from agents.intake import Intake
from agents.recognition import RECENT_MAX, AttemptId
from agents.recollection import Recollection
from agents.runners.make import make_runner
from agents.runners.turns import CallThreads
from agents.service import Service
from agents.work import Room
from console.cli.output import Output
from schemas.codec import Codec
from schemas.errors import PointsmanError
from schemas.records import record, table
from schemas.registry import FileRegistry
from schemas.topology import Topology
from streams.transport.batch import Batch, TopicPartition
from streams.transport.garbage import calm_collector

AGENTS, PARTITIONS = 12, 4
US = 1e6
FAILS_EACH = 20
CALLED = 50
POLL_S_MAX = 60.0
"""What a poll may take: a thousand times what it does."""
TEXT = "What was the revenue of the region in the third quarter, and how does it compare to the year before?"


def answer_rows(rows: pa.RecordBatch) -> pa.RecordBatch:
    """A batch agent that has one answer, and fails at every twentieth row, as agents of a load do."""
    n = rows.num_rows
    fails = pa.array(np.arange(n) % FAILS_EACH == 0)
    columns = {
        "answer": pa.repeat(pa.scalar("the figures of the region"), n),
        "confidence": pa.repeat(0.9, n),
        "error_class": pc.if_else(fails, pa.scalar("OVERLOADED"), pa.scalar(None, pa.string())),
    }
    return pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))


async def answer_one(task: Task, context: Context) -> Answer:  # noqa: ARG001  an agent's form
    """A python agent that has one answer."""
    return Answer("the figures of the region", confidence=0.9)


class Sent:
    """A producer that counts; delivery is librdkafka's, and costs the same whatever the host does."""

    def __init__(self) -> None:
        self.records = 0

    def send(
        self, topic: str, partition: int, values: Sequence[bytes | None], keys: Sequence[bytes | None] | None = None
    ) -> None:
        del topic, partition, keys
        self.records += len(values)

    def send_one(self, topic: str, *_: object, **__: object) -> None:
        raise AssertionError(f"a dispatch was not taken: {topic}")

    def drained(self, timeout_s: float = 0.0) -> bool:
        del timeout_s
        return True


def _remember(inbox: Inbox) -> None:
    """What a host has that has run for minutes: as many outcomes as are remembered, of calls of `CALLED` rows."""
    known = inbox.known
    for first in range(0, RECENT_MAX, CALLED):
        attempts = [AttemptId("default", f"before-{number}", 1, "WORK") for number in range(first, first + CALLED)]
        if (met := known.meet_all([each.key for each in attempts], 0)) is not None:
            known.ended_all(met, 0)


async def _nobody_else() -> None:
    pass


class BenchFailedError(PointsmanError):
    """What was measured did not do its work."""


class Rig:
    """One host's intake, services and log."""

    def __init__(self, kind: str) -> None:
        code = f"{__name__}:answer_rows" if kind == "batch" else f"{__name__}:answer_one"
        agent = {"run": code, "kind": kind, "effect": "read", "timeout_ms": 600_000, "concurrency": 64}
        names = [f"agent{number}" for number in range(AGENTS)]
        self.topology = Topology.model_validate(
            {
                "partitions": PARTITIONS,
                "agents": dict.fromkeys(names, agent),
                "routes": {"all": {"agents": names, "fallback": {"answer": "none"}}},
                "default_route": "all",
                "limits": {"host_inflight_max": 100_000},
            }
        )
        self.sent, self._offset = Sent(), 0
        self.failures: list[BaseException] = []
        self._codec = Codec(FileRegistry.load(), self.topology.limits.record_bytes_max)
        self._topics = self.topology.topics()
        memory, room, threads = Recollection(Contexts(self.topology), None), Room(100_000), CallThreads()
        self.inboxes = {
            TopicPartition(self._topics.inbox(name), number): Inbox(name, self._topics.inbox(name), number)
            for name in names
            for number in range(PARTITIONS)
        }
        for inbox in self.inboxes.values():
            _remember(inbox)
        self.events = EventLog(self.topology, self._codec, self.sent, more_to_come=lambda: threads.is_calling)
        self._intake = Intake(self.topology, self._codec, self.sent, self.inboxes)
        module: Callable[..., Any] = answer_rows if kind == "batch" else answer_one
        self._services = {
            name: Service(
                name,
                self.topology.agents[name],
                Caller(make_runner(name, self.topology.agents[name], module, threads=threads), writes=False),
                self.events,
                memory,
                room,
                _nobody_else,
                self.failures.append,
            )
            for name in names
        }

    def polls(self, size: int, dispatches: int) -> list[Batch]:
        return [self._poll(size) for _ in range(max(dispatches // size, 1))]

    async def serve(self, batch: Batch) -> None:
        """One poll, up to the delivery of its last outcome. Raises BenchFailedError where that does not come."""
        before, until = self.sent.records, time.monotonic() + POLL_S_MAX
        for agent_id, attempts in self._intake.take(batch):
            self._services[agent_id].take(attempts)
        while (done := self.sent.records - before) < len(batch):
            if self.failures:
                raise BenchFailedError(f"the host failed at a poll of {len(batch)}: {self.failures[0]!r}")
            if time.monotonic() > until:
                raise BenchFailedError(f"{done} of {len(batch)} outcomes came in {POLL_S_MAX:g} s, the others do not")
            await asyncio.sleep(0.001)

    async def close(self) -> None:
        for service in self._services.values():
            await service.close()

    def _poll(self, size: int) -> Batch:
        now_us = time.time_ns() // 1000
        fields = record("TaskSubmitted")
        numbers = range(self._offset, self._offset + size)
        # As a poll brings them: one topic-partition after the other.
        places = sorted((number % AGENTS, number // AGENTS % PARTITIONS, number) for number in numbers)
        ids = [f"task-{number:012d}" for _, _, number in places]
        columns: dict[str, Any] = {name: [fields.defaults.get(name)] * size for name in fields.arrow.names}
        columns |= {"task_id": ids, "text": [TEXT] * size, "submitted_at": [now_us] * size, "labels": [[]] * size}
        columns["conversation_id"] = [f"c{number % 1000}" if number % 3 == 0 else None for _, _, number in places]
        slip: dict[str, Any] = {
            "agent_id": [f"agent{agent}" for agent, _, _ in places],
            "attempt": 1,
            "intent": "all",
            "confidence": 0.9,
            "reason": "ROUTED",
            "route_version": "v1",
            "attempts": 1,
            "timeout_ms": 600_000,
            "deadline_default_ms": now_us // 1000 + 600_000,
            "routed_at": now_us,
        }
        values = self._codec.encode(table("TaskDispatched", {"slip": slip, "task": columns}, size), "TaskDispatched")
        topics = [self._topics.inbox(f"agent{agent}") for agent, _, _ in places]
        partitions = np.array([partition for _, partition, _ in places], np.int32)
        offsets = np.array([number for _, _, number in places], np.int64)
        self._offset += size
        ends = dict(zip(zip(topics, partitions.tolist(), strict=True), offsets.tolist(), strict=True))
        keys = [
            (conversation or task).encode() for conversation, task in zip(columns["conversation_id"], ids, strict=True)
        ]
        at = np.full(size, now_us // 1000, np.int64)
        return Batch("dispatches", list(values), list(keys), topics, partitions, offsets, at, None, ends)


def _note_end(rig: Rig, writing: asyncio.Task[None]) -> None:
    if not writing.cancelled():
        rig.failures.append(writing.exception() or AssertionError("the log is written no longer"))


async def _measure(kind: str, size: int, dispatches: int, profile: cProfile.Profile | None) -> tuple[float, int]:
    calm_collector()
    rig = Rig(kind)
    writing = asyncio.create_task(rig.events.run())
    writing.add_done_callback(partial(_note_end, rig))
    for batch in rig.polls(size, min(dispatches, 4 * size)):
        await rig.serve(batch)
    polls = rig.polls(size, dispatches)
    if profile is not None:
        profile.enable()
    began = time.process_time()
    for batch in polls:
        await rig.serve(batch)
    took = time.process_time() - began
    if profile is not None:
        profile.disable()
    writing.cancel()
    await rig.close()
    n = sum(map(len, polls))
    done = sum(inbox.tracker.span for inbox in rig.inboxes.values())
    assert done == 0, "all that was taken is done with"
    return took, n


def main(arguments: Sequence[str]) -> int:
    """Prints a row for each size of poll."""
    parser = argparse.ArgumentParser(prog="python -m console.bench_host", description=__doc__)
    parser.add_argument("--poll", type=int, nargs="+", default=[200, 1_000, 5_000], help="dispatches in a poll")
    parser.add_argument("--dispatches", type=int, default=30_000, help="in all, for each size")
    parser.add_argument("--kind", choices=["batch", "python"], default="batch", help="of the agents")
    parser.add_argument("--profile", type=Path, default=None, help="write cProfile's statistics of all polls here")
    given = parser.parse_args(arguments)
    profile = None if given.profile is None else cProfile.Profile()
    rows = []
    for size in given.poll:
        try:
            took, n = asyncio.run(_measure(given.kind, size, given.dispatches, profile))
        except BenchFailedError as error:
            print(error, file=sys.stderr)
            return 1
        rows.append([size, round(took / n * US, 2), n])
    if profile is not None:
        profile.dump_stats(given.profile)
    Output().table(
        ["dispatches_per_poll", "cpu_us", "dispatches"], rows, f"CPU-us a dispatch, agents of kind {given.kind}"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
