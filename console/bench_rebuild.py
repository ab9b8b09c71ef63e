"""How long an agent of a million events takes to be taken over, with and without a snapshot.

The records are real and in memory, so that what is measured is decoding and folding, and no broker. I/O: stdout.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from agents.memory.model import Key
from agents.memory.snapshot import Part, pack, to_record
from agents.rebuild import Rebuilder, Rebuilt
from console.cli.output import Output
from schemas.codec import Codec
from schemas.epochs import LogEpochs
from schemas.records import table
from schemas.registry import FileRegistry
from schemas.topology import Topology
from streams.transport.batch import Batch, TopicPartition

AGENT, PIECE, EPOCH = "agent", 10_000, 1
ASKED = "What was the revenue of the region {} in the third quarter, and how does it compare to the year before?"
ANSWER = "It was {} million, which is 4.2 percent more than the year before; the region is ahead of its plan."


def alone(agent: str, partitions: int = 1) -> Topology:
    """Of one agent, which is asked for everything and reads."""
    return Topology.model_validate(
        {
            "partitions": partitions,
            "agents": {agent: {"run": "a:b", "effect": "read"}},
            "routes": {"all": {"agents": [agent], "fallback": {"answer": "none"}}},
            "default_route": "all",
        }
    )


class Stored:
    """A consumer of records that are in memory: `PIECE` of them a batch."""

    def __init__(self) -> None:
        self.records: dict[TopicPartition, list[list[bytes]]] = {}

    def add(self, tp: TopicPartition, values: list[bytes]) -> None:
        self.records.setdefault(tp, []).append(values)

    def watermarks(self, tps: Iterable[tuple[str, int]]) -> dict[TopicPartition, tuple[int, int]]:
        return {TopicPartition(*tp): (0, sum(map(len, self.records.get(TopicPartition(*tp), [])))) for tp in tps}

    def offsets_for_times(self, times: Mapping[Any, int]) -> dict[Any, int]:
        return dict.fromkeys(times, 0)

    def read_to_end(self, starts: Mapping[Any, int], until: Mapping[Any, int]) -> Iterator[Batch]:
        for tp, start in starts.items():
            first = 0
            for values in self.records.get(tp, []):
                stop = first + len(values)
                if stop > start and first < until[tp]:
                    at = max(start - first, 0)
                    yield _batch(tp, values[at:], first + at)
                first = stop


def _batch(tp: TopicPartition, values: Sequence[bytes | None], first: int) -> Batch:
    n = len(values)
    return Batch(
        channel=tp.topic,
        values=list(values),
        keys=[b"k"] * n,
        topics=[tp.topic] * n,
        partitions=np.full(n, tp.partition, np.int32),
        offsets=np.arange(first, first + n),
        timestamps_ms=np.zeros(n, np.int64),
        headers=None,
        ends={tp: first + n - 1},
    )


def records(codec: Codec, first: int, n: int, conversations: int) -> tuple[list[bytes], list[bytes]]:
    """Dispatches, and the outcome of each."""
    numbers = range(first, first + n)
    slip: dict[str, Any] = {
        "agent_id": AGENT, "attempt": 1, "stage": "WORK", "intent": "all", "confidence": 0.9, "reason": "ROUTED",
        "route_version": "1", "attempts": 1, "timeout_ms": 5_000, "deadline_default_ms": 0,
        "routed_at": [number * 1_000 for number in numbers],
    }  # fmt: skip
    task: dict[str, Any] = {
        "task_id": [f"t{number}" for number in numbers], "tenant": "default", "submitted_at": 0, "deadline_ms": 0,
        "conversation_id": [f"c{number % conversations}" for number in numbers],
    }  # fmt: skip
    asked = {**task, "text": [ASKED.format(number) for number in numbers]}
    event: dict[str, Any] = {
        "event_id": [f"{number:032x}" for number in numbers], "kind": "COMPLETED", "slip": slip, "task": task,
        "agent_version": "1", "epoch": EPOCH, "answer": [ANSWER.format(number) for number in numbers],
        "ordinal": [number // conversations + 1 for number in numbers],
        "finished_at": [number * 1_000 for number in numbers],
    }  # fmt: skip
    dispatches = codec.encode(table("TaskDispatched", {"slip": slip, "task": asked}, n), "TaskDispatched")
    return dispatches, codec.encode(table("AgentEvent", event, n), "AgentEvent")


class Rig:
    """One agent's inbox and log, and what a host makes of them."""

    def __init__(self, events: int, conversations: int) -> None:
        self.topology = alone(AGENT)
        topics, self._codec = self.topology.topics(), Codec(FileRegistry.load(), 1 << 20)
        self.inbox, self.log = TopicPartition(topics.inbox(AGENT), 0), TopicPartition(topics.events(AGENT), 0)
        self.stored: Any = Stored()
        self.bytes = 0
        for first in range(0, events, PIECE):
            dispatches, outcomes = records(self._codec, first, min(PIECE, events - first), conversations)
            self.stored.add(self.inbox, dispatches)
            self.stored.add(self.log, outcomes)
            self.bytes += sum(map(len, dispatches)) + sum(map(len, outcomes))

    def rebuild(self, parts: Sequence[Part] = (), done: int | None = None) -> Rebuilt:
        reader = Rebuilder(self.topology, self._codec, self.stored, self.stored)
        return reader.rebuild(AGENT, 0, LogEpochs([(-1, EPOCH)]), parts, done)


def measure(out: Output, events: int, conversations: int, tail: int) -> None:
    """Rebuilds from the log alone, and from a snapshot that `tail` events follow; the hashes must agree."""
    before, rig = Rig(events - tail, conversations), Rig(events, conversations)
    began, cpu = time.monotonic(), time.process_time()
    whole = rig.rebuild()
    whole_hash = whole.memory.hash()
    out.line(f"{events} events, {conversations} conversations, {rig.bytes / events:.0f} bytes an interaction")
    out.line(f"  from the log alone: {_spent(began, cpu)}, hash {whole_hash}")
    # All that was asked by then was answered by then.
    parts = pack(before.rebuild(done=events - tail).snapshot(AGENT, 0, EPOCH, "1", 20_000), 190_000)
    size = sum(len(to_record(part)) for part in parts)
    began, cpu = time.monotonic(), time.process_time()
    begun = rig.rebuild(parts)
    begun_hash = begun.memory.hash()
    found = f"a snapshot of {size / 1024:.0f} KiB and {begun.events} events"
    out.line(f"  from {found}: {_spent(began, cpu)}, hash {begun_hash}")
    assert begun.found.snapshot is not None
    assert begun_hash == whole_hash, "snapshot and tail are the full fold"
    assert Key("default", AGENT, "c0") in whole.memory.states()


def _spent(began: float, cpu: float) -> str:
    return f"{time.monotonic() - began:.2f} s, {time.process_time() - cpu:.2f} s of CPU"


def flat(out: Output, lengths: Sequence[int]) -> None:
    """What a snapshot of one conversation takes, however long it is."""
    for length in lengths:
        rig = Rig(length, 1)
        parts = pack(rig.rebuild().snapshot(AGENT, 0, EPOCH, "1", 20_000), 190_000)
        size = sum(len(to_record(part)) for part in parts)
        out.line(
            f"  one conversation of {length}: {rig.bytes / length:.1f} bytes an interaction, snapshot {size} bytes"
        )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m console.bench_rebuild", description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--conversations", type=int, default=1_000)
    parser.add_argument("--tail", type=int, default=10_000, help="events behind the snapshot")
    parser.add_argument("--flat", action="store_true", help="what a conversation of up to 60,000 events takes, instead")
    given = parser.parse_args()
    out = Output()
    if given.flat:
        flat(out, (600, 6_000, 60_000))
    else:
        measure(out, given.events, given.conversations, given.tail)


if __name__ == "__main__":
    main()
