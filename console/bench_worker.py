"""What a turn of the worker costs, by its size: real batches through decode, decide and encode, without a broker.

`python -m console.bench_worker` sends tasks of the load test's mix (80 % to one agent, 15 % to a panel, 5 % unsure of
their intent) through router and consensus, and answers each dispatch by rule: half of them a turn later than the other
half, so that the two of a panel are not always heard together; one attempt in twenty fails. It counts CPU time of the
process, of all its threads, so that a busy machine does not show. I/O: the clock, stdout.
"""

from __future__ import annotations

import argparse
import cProfile
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

from console.cli.output import Output
from loadtest.workload import Workload
from schemas.codec import Codec
from schemas.epochs import Epochs
from schemas.ids import agent_event_id
from schemas.records import record, table
from schemas.registry import FileRegistry
from schemas.topology import Topology, load_topology
from streams.core.cell import Cell
from streams.core.policy import Policy
from streams.processors.consensus import Consensus
from streams.processors.frontier import Frontier
from streams.processors.outbox import Outbox
from streams.processors.router import Router
from streams.transport.batch import Batch
from streams.transport.garbage import calm_collector

FAILED_SHARE, LATE_SHARE = 0.05, 0.5
US = 1e6


Answer: TypeAlias = tuple[bytes, bytes | None, int]
"""Value, key and partition."""


class Sent:
    """A producer that keeps what a turn sends; delivery is librdkafka's, and costs the same whatever the turn does."""

    def __init__(self) -> None:
        self.records: dict[tuple[str, int], tuple[list[bytes | None], list[bytes | None]]] = {}

    def send(
        self, topic: str, partition: int, values: Sequence[bytes | None], keys: Sequence[bytes | None] | None = None
    ) -> None:
        values_, keys_ = self.records.setdefault((topic, partition), ([], []))
        values_ += values
        keys_ += keys or [None] * len(values)

    def send_one(self, topic: str, value: bytes | None, key: bytes | None = None, *_: object, **__: object) -> None:
        self.send(topic, 0, [value], [key])

    def take(self) -> dict[tuple[str, int], tuple[list[bytes | None], list[bytes | None]]]:
        taken, self.records = self.records, {}
        return taken


@dataclass
class Cost:
    """CPU seconds by processor, and what went through."""

    router_s: float = 0.0
    consensus_s: float = 0.0
    tasks: int = 0
    events: int = 0
    results: int = 0
    turns: int = 0
    held: int = 0
    profile: cProfile.Profile | None = field(default=None, repr=False)

    def spend(self, work: Callable[[], None]) -> float:
        """CPU seconds that the work takes, its garbage included."""
        if self.profile is not None:
            self.profile.enable()
        began = time.process_time()
        work()
        took = time.process_time() - began
        if self.profile is not None:
            self.profile.disable()
        return took


class Rig:
    """One worker's processors over all partitions of a topology."""

    def __init__(self, topology: Topology, seed: int = 1) -> None:
        self._topology, self._topics = topology, topology.topics()
        self._codec = Codec(FileRegistry.load(), topology.limits.record_bytes_max)
        self._policy, self._sent = Policy.compile(topology), Sent()
        self._cells = {number: Cell(self._policy, number) for number in range(topology.partitions)}
        outbox = Outbox(topology, self._codec, self._sent)
        self._router = Router(self._policy, self._codec, outbox, self._cells)
        self._consensus = Consensus(
            topology.agents, self._codec, outbox, self._cells, Epochs(), {number: Frontier() for number in self._cells}
        )
        self._workload, self._draw = Workload(topology, self._codec, seed), np.random.default_rng(seed)
        self._number, self._now_ms, self._offset = 0, time.time_ns() // 1_000_000, 0
        self._late: list[Answer] = []
        self._log_of = dict(zip(self._topics.inboxes, self._topics.logs, strict=True))

    def turns(self, size: int, tasks: int, cost: Cost) -> None:
        """So many tasks, in turns of `size` of them, until each has its result."""
        due: list[Batch] = []
        for start in range(0, tasks, size):
            self._now_ms += 50
            batch = self._submissions(min(size, tasks - start))
            cost.router_s += cost.spend(lambda batch=batch: self._router.handle(batch, self._now_ms))  # type: ignore[misc]
            cost.tasks += len(batch)
            cost.turns += 1
            due = self._answers(cost)
            self._collect(due, cost)
        while due := self._answers(cost):
            self._collect(due, cost)
        cost.held = sum(map(len, self._cells.values()))

    def written(self, topic: str, partition: int, values: list[Any], keys: list[Any]) -> None:
        """Told of all that worker and agents write."""

    def _collect(self, batches: list[Batch], cost: Cost) -> None:
        self._now_ms += 5
        for batch in batches:
            cost.consensus_s += cost.spend(lambda batch=batch: self._consensus.handle(batch, self._now_ms))  # type: ignore[misc]
            cost.events += len(batch)

    def _submissions(self, n: int) -> Batch:
        """As a poll brings them: one partition after the other."""
        what, who = self._workload.draw(self._number, n)
        sent_us = np.full(n, self._now_ms * 1000 - 20_000, np.int64)
        ticks = self._workload.ticks(self._number, what, who, sent_us)
        self._number += n
        return self._batch(
            self._topics.submitted,
            [value for tick in ticks for value in tick.values],
            [key for tick in ticks for key in tick.keys],
            np.repeat(np.array([tick.partition for tick in ticks], np.int32), [len(tick.keys) for tick in ticks]),
        )

    def _batch(self, topic: str, values: list[Any], keys: list[Any], partitions: Any) -> Batch:
        n = len(values)
        offsets = np.arange(self._offset, self._offset + n)
        self._offset += n
        ends = {(topic, int(number)): self._offset for number in set(partitions.tolist())}
        at = np.full(n, self._now_ms - 5, np.int64)
        return Batch("", values, keys, [topic] * n, partitions, offsets, at, None, ends)

    def _answers(self, cost: Cost) -> list[Batch]:
        """What agents say to dispatches sent before this call, in one batch; nothing where there were none."""
        said, self._late = self._late, []
        for (topic, partition), (sent, keys) in self._sent.take().items():
            self.written(topic, partition, sent, keys)
            kind = self._topics.record_of(topic)
            cost.results += len(sent) if kind == "TaskResult" else 0
            if kind == "TaskDispatched":
                is_late = (self._draw.random(len(sent)) < LATE_SHARE).tolist()
                replies = self._replies(sent)
                self.written(self._log_of[topic], partition, replies, keys)
                for value, key, late in zip(replies, keys, is_late, strict=True):
                    (self._late if late else said).append((value, key, partition))
        if not said and not self._late:
            return []
        if not said:
            return self._answers(cost)
        values, keys, partitions = map(list, zip(*said, strict=True))
        return [self._batch("events", values, keys, np.array(partitions, np.int32))]

    def _replies(self, dispatches: Sequence[bytes | None]) -> list[bytes]:
        batch = self._codec.decode(dispatches, "TaskDispatched").batch
        slip, task, n = batch.column("slip"), batch.column("task"), batch.num_rows
        failed = self._draw.random(n) < FAILED_SHARE
        kinds = np.where(failed, "FAILED", "COMPLETED").tolist()
        identity = {name: task.field(name) for name in record("AgentEvent").arrow.field("task").type.names}
        identity["deadline_ms"] = slip.field("deadline_default_ms")
        names = zip(
            *(task.field(name).to_pylist() for name in ("tenant", "task_id")),
            *(slip.field(name).to_pylist() for name in ("agent_id", "attempt", "stage")),
            kinds,
            strict=True,
        )
        columns: dict[str, Any] = {
            "event_id": [agent_event_id(*each) for each in names],
            "kind": kinds,
            "slip": slip,
            "task": pa.StructArray.from_arrays(
                [identity[each.name] for each in record("AgentEvent").arrow.field("task").type],
                fields=list(record("AgentEvent").arrow.field("task").type),
            ),
            "agent_version": "0123456789ab",
            "epoch": 1,
            "answer": pa.array([None if each else "the figures of the region" for each in failed], pa.string()),
            "confidence": pa.array([None if each else 0.9 for each in failed], pa.float64()),
            "citations": pa.repeat(pa.scalar(["the request"]), n),
            "error_class": pa.array(["INTERNAL" if each else None for each in failed], pa.string()),
            "cost_microusd": 12,
            "tokens_in": 100,
            "tokens_out": 30,
            "started_at": self._now_ms * 1000,
            "finished_at": self._now_ms * 1000 + 1_000,
        }
        return self._codec.encode(table("AgentEvent", columns, n), "AgentEvent")


def measure(topology: Topology, size: int, tasks: int, profile: cProfile.Profile | None = None) -> Cost:
    """A worker that has run in, and then so many tasks."""
    calm_collector()  # as the worker does
    rig = Rig(topology)
    rig.turns(size, min(tasks, 4 * size), Cost())
    cost = Cost(profile=profile)
    rig.turns(size, tasks, cost)
    assert cost.results == cost.tasks, "each task has a result"
    return cost


def _rows(topology: Topology, sizes: Sequence[int], tasks: int) -> Iterator[list[Any]]:
    for size in sizes:
        cost = measure(topology, size, max(tasks, size))
        router, consensus = (each / cost.tasks * US for each in (cost.router_s, cost.consensus_s))
        yield [size, round(router, 2), round(consensus, 2), round(router + consensus, 2), cost.tasks]


def main(arguments: Sequence[str]) -> int:
    """Prints a row for each size of turn."""
    parser = argparse.ArgumentParser(prog="python -m console.bench_worker", description=__doc__)
    parser.add_argument("--turn", type=int, nargs="+", default=[100, 1_000, 5_000], help="tasks in a turn")
    parser.add_argument("--tasks", type=int, default=30_000, help="tasks in all, for each size")
    parser.add_argument("--topology", type=Path, default=Path("topology.yaml"))
    parser.add_argument("--profile", type=Path, default=None, help="write cProfile's statistics of all turns here")
    given = parser.parse_args(arguments)
    topology = load_topology(given.topology)
    if given.profile is not None:
        profile = cProfile.Profile()
        measure(topology, given.turn[-1], given.tasks, profile)
        profile.dump_stats(given.profile)
        return 0
    headers = ["tasks_per_turn", "router_us", "consensus_us", "together_us", "tasks"]
    Output().table(headers, list(_rows(topology, given.turn, given.tasks)), "CPU-us a task")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
