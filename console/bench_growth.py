"""What an interaction takes on disk as its conversation grows: in a broker's topics and in the history's tables.

`python -m console.bench_growth` has one agent asked and answering up to 60,000 times in one conversation, sends what is
written of each (submission, dispatch, event, result) into the topics of a broker of its own, `--batch` interactions at
a time, puts the same records into an embedded history as a store does, with the summaries of every ten, and says what
each part of the conversation has added, per interaction, once its rows are merged. Snapshots are counted as they fall
due. I/O: a process, Kafka, ClickHouse, files, stdout.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from agents.memory.canonical import state_bytes
from agents.memory.extractive import summarise
from agents.memory.fold import fold
from agents.memory.model import CHUNK, Interaction, Key, State
from agents.memory.snapshot import Position, Snapshot, pack, to_record
from console.bench_rebuild import alone
from console.cli.output import Output
from console.local.broker import LocalBroker
from console.memory.summaries import row_of
from schemas.codec import Codec
from schemas.records import table
from schemas.registry import FileRegistry
from schemas.settings import DATABASE, Settings
from streams.history.door import Door
from streams.history.engine import Engine
from streams.history.migrations import migrate
from streams.history.queries import connect
from streams.history.summaries import Summaries
from streams.history.tables import TABLES, places_of, rows_of
from streams.transport.admin import ensure_topics
from streams.transport.batch import Batch
from streams.transport.clients import client_config
from streams.transport.producer import Producer

AGENT, TENANT, CONVERSATION, EPOCH = "agent", "acme", "the long one", 1
KEY = Key(TENANT, AGENT, CONVERSATION)
BEGAN_US, EVERY_US = 1_790_000_000_000_000, 30_000_000
PARTS_MAX = 190_000
BLOCK = 10_000
ASKED = "What was the revenue of region {} in quarter {}, and how does it compare to the year before?"
ANSWER = "It was {} million, which is {} percent more than the year before; the region is ahead of its plan."
TOPOLOGY = alone(AGENT)


def interactions(first: int, stop: int) -> list[Interaction]:
    """Numbers from 1; one answer in fifty is to be remembered."""
    return [
        Interaction(
            KEY,
            f"{number * 2_654_435_761 % 2**32:08x}-{number:08x}",
            ASKED.format(number % 300, number % 4 + 1),
            ANSWER.format(number * 17 % 997, number % 23),
            ordinal=number,
            epoch=EPOCH,
            facts=(f"Region {number % 300} has a plan of its own.",) if number % 50 == 0 else (),
            asked_at=BEGAN_US + number * EVERY_US,
            at=BEGAN_US + number * EVERY_US + 900_000,
            agent_version="1",
        )
        for number in range(first, stop)
    ]


def records(said: Sequence[Interaction]) -> dict[str, Any]:
    """The columns of what is written of them, by record type."""
    asked_at, at = [each.asked_at for each in said], [each.at for each in said]
    named = {"task_id": [each.task_id for each in said], "tenant": TENANT, "conversation_id": CONVERSATION}
    asked = {**named, "text": [each.asked for each in said], "submitted_at": asked_at}
    slip = {
        "agent_id": AGENT, "attempt": 1, "stage": "WORK", "intent": "all", "confidence": 0.9, "reason": "ROUTED",
        "route_version": "1", "attempts": 1, "timeout_ms": 5_000, "routed_at": [each + 5_000 for each in asked_at],
        "deadline_default_ms": [each // 1_000 + 30_000 for each in asked_at],
    }  # fmt: skip
    task = {**named, "submitted_at": asked_at, "deadline_ms": [each // 1_000 + 30_000 for each in asked_at]}
    answer = [each.answer for each in said]
    event = {
        "event_id": [f"{each.id[:24]}-{each.ordinal}" for each in said], "kind": "COMPLETED", "slip": slip,
        "task": task, "agent_version": "1", "epoch": EPOCH, "answer": answer, "facts": [list(e.facts) for e in said],
        "ordinal": [each.ordinal for each in said], "started_at": [each + 20_000 for each in asked_at],
        "finished_at": at, "tokens_in": 400, "tokens_out": 40, "cost_microusd": 900, "confidence": 0.9,
    }  # fmt: skip
    result = {
        **named, "status": "COMPLETED", "reason": "ANSWERED", "intent": "all", "answer": answer, "confidence": 0.9,
        "submitted_at": asked_at, "decided_at": [each + 10_000 for each in at], "attempts": 1, "route_version": "1",
        "cost_microusd": 900, "tokens": 440,
    }  # fmt: skip
    return {
        "TaskSubmitted": asked,
        "TaskDispatched": {"slip": slip, "task": asked},
        "AgentEvent": event,
        "TaskResult": result,
    }


class Kafka:
    """The topics of a broker of its own; what they hold."""

    def __init__(self, settings: Settings, folder: Path, codec: Codec) -> None:
        topics = TOPOLOGY.topics()
        self._topics = {
            "TaskSubmitted": topics.submitted,
            "TaskDispatched": topics.inbox(AGENT),
            "AgentEvent": topics.events(AGENT),
            "TaskResult": topics.results,
        }
        ensure_topics(settings, topics.specs())
        self._producer = Producer(client_config(settings, TOPOLOGY, "producer", name="pointsman-bench"))
        self._folder, self._codec = folder, codec

    def send(self, said: Sequence[Interaction]) -> None:
        for name, columns in records(said).items():
            values = self._codec.encode(table(name, columns, len(said)), name)
            self._producer.send(self._topics[name], 0, values, [CONVERSATION.encode()] * len(values))
        self._producer.flush(60)

    def bytes(self) -> dict[str, int]:
        """Of each topic's records, as the broker keeps them."""
        return {
            topic: sum(each.stat().st_size for each in self._folder.glob(f"**/{topic}-0/*.log"))
            for topic in self._topics.values()
        }

    def close(self) -> None:
        self._producer.close()


class History:
    """An embedded history; what its tables hold once nothing is left to merge."""

    def __init__(self, folder: Path, codec: Codec) -> None:
        self._engine = Engine(folder)
        self._door = Door(self._engine, 0)
        self._client, self._codec = connect(self._door.url), codec
        migrate(self._client)
        self._summaries = Summaries(self._door.url)
        self._rows = 0

    def put(self, said: Sequence[Interaction]) -> None:
        """As the sink does, and with the summaries of every ten."""
        n, topics = len(said), TOPOLOGY.topics()
        offsets = np.arange(self._rows, self._rows + n)
        for name, columns in records(said).items():
            topic = topics.events(AGENT) if name == "AgentEvent" else name
            values: list[bytes | None] = list(self._codec.encode(table(name, columns, n), name))
            batch = Batch(
                channel=name, topics=[topic] * n, partitions=np.zeros(n, np.int32), offsets=offsets,
                timestamps_ms=np.array([each.at // 1_000 for each in said]), ends={},
                values=values, keys=[b"k"] * n, headers=None,
            )  # fmt: skip
            decoded = self._codec.decode(batch.values, name)
            rows = rows_of(TABLES[name], decoded.batch, places_of(batch, decoded.rows))
            with self._engine.handle() as handle:
                handle.insert_rows(f"{DATABASE}.{TABLES[name].name}", [rows])
        self._rows += n
        chunks = [said[at : at + CHUNK] for at in range(0, n, CHUNK)]
        self._summaries.put([row_of(KEY, summarise(each, each[0].ordinal, each[-1].ordinal)) for each in chunks])

    def bytes(self) -> dict[str, int]:
        named = self._client.query(_SIZES).result_rows
        for name, _ in named:
            self._client.command(f"OPTIMIZE TABLE {DATABASE}.{name} FINAL")
        return dict(self._client.query(_SIZES).result_rows)

    def close(self) -> None:
        self._summaries.close()
        self._client.close()
        self._door.close()
        self._engine.close()


_SIZES = f"""
SELECT table, sum(bytes_on_disk) FROM system.parts
WHERE active AND rows > 0 AND database = '{DATABASE}' AND (endsWith(table, '_log') OR table = 'conversation_summaries')
GROUP BY table ORDER BY table
"""  # noqa: S608 - constants


class Snapshots:
    """What their owner writes of one conversation: when as many dispatches came as are wanted, and not before the log
    grew by as much as the last one took."""

    def __init__(self) -> None:
        self.state, self.bytes, self.written = State(KEY), 0, 0
        self._due_bytes, self._seen, self._since = 0, 0, 0

    def take(self, said: Sequence[Interaction], log_bytes: int) -> None:
        for each in said:
            self.state = fold(self.state, each)
        self._since += len(said)
        if self._since < TOPOLOGY.limits.snapshot_events or log_bytes < self._due_bytes:
            return
        held = Snapshot(AGENT, 0, EPOCH, Position(0, self.state.count), {KEY: state_bytes(self.state)}, "1")
        size = sum(len(to_record(part)) for part in pack(held, PARTS_MAX))
        self.bytes, self.written, self._since = self.bytes + size, self.written + 1, 0
        self._due_bytes = log_bytes + size


def spans(lengths: Sequence[int], batch: int) -> Iterator[tuple[int, int, bool]]:
    """First and last number of each step, and whether a length is reached with it."""
    first = 1
    for length in lengths:
        while first <= length:
            last = min(first + batch - 1, length)
            yield first, last, last == length
            first = last + 1


def measure(lengths: Sequence[int], batch: int, folder: Path, out: Output) -> list[list[Any]]:
    """A row for each place: what each part of the conversation added to it, per interaction."""
    codec = Codec(FileRegistry.load(), TOPOLOGY.limits.record_bytes_max)
    added: defaultdict[str, list[float]] = defaultdict(list)
    before: dict[str, int] = {}
    block: list[Interaction] = []
    reached = 0
    with LocalBroker(folder / "broker", short_lived=True) as broker:
        settings, snapshots = Settings(broker=broker.address), Snapshots()
        kafka = Kafka(settings, folder / "broker", codec)
        with closing(kafka), closing(History(folder / "history", codec)) as history:
            for first, last, is_length in spans(lengths, batch):
                said = interactions(first, last + 1)
                kafka.send(said)
                block += said
                snapshots.take(said, sum(kafka.bytes().values()))
                if len(block) >= BLOCK or is_length:
                    history.put(block)
                    block = []
                if is_length:
                    now = {f"Kafka: {name}": size for name, size in kafka.bytes().items()}
                    now |= {"Kafka: snapshots": snapshots.bytes}
                    now |= {f"ClickHouse: {name}": size for name, size in history.bytes().items()}
                    for name, size in now.items():
                        added[name].append(round((size - before.get(name, 0)) / (last - reached), 1))
                    before, reached = now, last
                    out.note(f"{last} interactions; {snapshots.written} snapshots")
    for where in ("Kafka", "ClickHouse"):
        parts = [values for name, values in added.items() if name.startswith(where)]
        added[f"{where}, all"] = [round(sum(each), 1) for each in zip(*parts, strict=True)]
    return [[name, *values] for name, values in added.items()]


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m console.bench_growth", description=__doc__)
    parser.add_argument("--lengths", type=int, nargs="+", default=[600, 6_000, 60_000])
    parser.add_argument("--batch", type=int, default=10, help="interactions that are written together")
    given = parser.parse_args(arguments)
    out, lengths = Output(), sorted(given.lengths)
    with tempfile.TemporaryDirectory(prefix="pointsman-bench-") as folder:
        rows = measure(lengths, given.batch, Path(folder), out)
    names = [f"{first + 1} to {last}" for first, last in zip([0, *lengths], lengths, strict=False)]
    out.table(["bytes of an interaction", *names], rows, "one conversation")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
