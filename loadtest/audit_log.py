"""Reads a deployment's topics to their end and says what they hold, as identities.

I/O: Kafka.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from sys import intern
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from loadtest.invariants import Dispatched, Ended, Outcome, Submission
from schemas.admission import admit
from schemas.codec import Codec
from schemas.deadletter import parse
from schemas.redrive import is_marker
from schemas.registry import FileRegistry, SchemaRegistry
from schemas.topics import Topics
from schemas.topology import Topology
from streams.transport.batch import Batch
from streams.transport.clients import BrokerSettings, client_config
from streams.transport.consumer import BatchConsumer

Place: TypeAlias = tuple[str, int, int]  # topic, partition, offset

OUTCOMES = frozenset({"COMPLETED", "FAILED", "REFUSED"})
ROWS_MAX = 20_000
BYTES_MAX = 16 * 1024 * 1024
POLL_S = 0.1


@dataclass
class Log:
    """What the topics hold. `invalid`: where the records stand that are none; `dead`: which of them were put away;
    `breaker_changes`: how many of the orchestrator's events are of no task, but of a breaker."""

    submissions: list[Submission] = field(default_factory=list)
    dispatches: list[Dispatched] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    results: list[Ended] = field(default_factory=list)
    event_ids: list[str] = field(default_factory=list)
    orchestrator_event_ids: list[str] = field(default_factory=list)
    breaker_changes: int = 0
    invalid: set[Place] = field(default_factory=set)
    dead: set[Place] = field(default_factory=set)

    def events(self) -> int:
        """How many records that is, of agents, router and clients: submissions, dispatches, agents' and orchestrator's
        events, results."""
        told = len(self.event_ids) + len(self.orchestrator_event_ids) + len(self.results)
        return len(self.submissions) + len(self.dispatches) + told

    def facts(self) -> Mapping[str, Iterable[Hashable]]:
        """Identities of the valid records, by the history's names for their kinds."""
        return {
            "tasks": [submission[:2] for submission in self.submissions],
            "dispatches": [dispatch[:5] for dispatch in self.dispatches],
            "agent_events": self.event_ids,
            "results": [tuple(end) for end in self.results],
            "orchestrator_events": self.orchestrator_event_ids,
            "dead_letters": self.dead,
        }


def read_log(
    settings: BrokerSettings,
    topology: Topology,
    registry: SchemaRegistry | None = None,
    starts: Mapping[tuple[str, int], int] | None = None,
) -> Log:
    """Reads from the first record held to the last one present at the call; let the deployment come to rest before.

    `starts`: from which offset on, of topic-partitions of which the beginning is of no interest.

    Raises TransportError when a topic is missing, or the broker does not answer.
    """
    return LogTail(settings, topology, registry, starts).read_on()


class LogTail:
    """Reads a deployment's topics, and reads on: nothing is read twice. Else as `read_log`."""

    def __init__(
        self,
        settings: BrokerSettings,
        topology: Topology,
        registry: SchemaRegistry | None = None,
        starts: Mapping[tuple[str, int], int] | None = None,
    ) -> None:
        self._settings, self._topology = settings, topology
        self._codec = Codec(registry or FileRegistry.load(), topology.limits.record_bytes_max)
        self._next: dict[tuple[str, int], int] = dict(starts or {})
        self._reader: LogReader | None = None

    def read_on(self) -> Log:
        """All up to the last record present at the call; the same log each time, with what has come since.

        Raises TransportError when a topic is missing, or the broker does not answer: what it has read so far stays.
        """
        config = client_config(self._settings, self._topology, "consumer", name="pointsman-audit")
        consumer = BatchConsumer(
            config, lambda topic: topic, rows_max=ROWS_MAX, bytes_max=BYTES_MAX, poll_s=POLL_S, with_headers=True
        )
        try:
            # Agents that have left the topology have left their records behind.
            own = self._topology.topics()
            topics = own.of_any_agent(consumer.topics(own.submitted))
            reader = self._reader = LogReader(topics, self._codec, None if self._reader is None else self._reader.log)
            self._read(consumer, reader)
        finally:
            consumer.close()
        return reader.log

    def _read(self, consumer: BatchConsumer, reader: LogReader) -> None:
        marks = consumer.watermarks(consumer.partitions_of(reader.topics))
        starts: dict[tuple[str, int], int] = {
            owner: max(low, self._next.get(owner, low)) for owner, (low, _high) in marks.items()
        }
        ends: dict[tuple[str, int], int] = {owner: high for owner, (_low, high) in marks.items()}
        for batch in consumer.read_to_end(starts, ends):
            # A record that came after the ends were taken may have consequences that are past their topics' ends.
            bounds = np.array([ends[batch.channel, number] for number in batch.partitions.tolist()])
            inside = batch.take(np.flatnonzero(batch.offsets < bounds))
            reader.take(inside)
            for number in set(inside.partitions.tolist()):
                self._next[batch.channel, number] = int(inside.offsets[inside.partitions == number].max()) + 1
        self._next |= ends


class LogReader:
    """Takes batches of one topic each, in any order, into a `Log`, a new one unless it is given. `topics` are those
    that it understands."""

    def __init__(self, topics: Topics, codec: Codec, log: Log | None = None) -> None:
        self.log = Log() if log is None else log
        self._codec = codec
        self._dead = topics.dead
        self._takers: dict[str, tuple[str, Callable[[_Rows], None]]] = {
            topics.submitted: ("TaskSubmitted", self._take_submissions),
            **dict.fromkeys(topics.inboxes, ("TaskDispatched", self._take_dispatches)),
            **dict.fromkeys(topics.logs, ("AgentEvent", self._take_events)),
            topics.results: ("TaskResult", self._take_results),
            topics.orchestrator: ("OrchestratorEvent", self._take_orchestrator_events),
        }
        self.topics = (*self._takers, topics.dead)

    def take(self, batch: Batch) -> None:
        if batch.channel == self._dead:
            self._take_dead(batch)
            return
        record, taker = self._takers[batch.channel]
        decoded = admit(self._codec, record, batch.values, batch.keys)
        rows = _Rows(batch, decoded.batch, decoded.rows.tolist())
        bad = [fault.row for fault in decoded.faults]
        self.log.invalid.update((batch.channel, int(batch.partitions[row]), int(batch.offsets[row])) for row in bad)
        taker(rows)

    def _take_submissions(self, rows: _Rows) -> None:
        who = rows.lists("tenant", "task_id", "conversation_id")
        self.log.submissions += [
            Submission._make((*fields, partition, offset)) for fields, (partition, offset) in rows.with_places(who)
        ]

    def _take_dispatches(self, rows: _Rows) -> None:
        seats = pc.list_value_length(rows["slip.panel"]).to_pylist()
        routed_at = rows["slip.routed_at"].to_pylist()
        who = rows.lists("task.tenant", "task.task_id", "slip.agent_id", "slip.attempt", "slip.stage")
        self.log.dispatches += [
            Dispatched._make((*fields, seats[row], partition, offset, routed_at[row]))
            for row, (fields, (partition, offset)) in enumerate(rows.with_places(who))
        ]

    def _take_events(self, rows: _Rows) -> None:
        who = rows.lists("task.tenant", "task.task_id", "slip.agent_id", "slip.attempt", "slip.stage")
        kinds = rows["kind"].to_pylist()
        self.log.event_ids += rows["event_id"].to_pylist()
        self.log.outcomes += [Outcome(*fields) for fields, kind in zip(who, kinds, strict=True) if kind in OUTCOMES]

    def _take_results(self, rows: _Rows) -> None:
        self.log.results += [Ended(*fields) for fields in rows.lists("tenant", "task_id")]

    def _take_orchestrator_events(self, rows: _Rows) -> None:
        self.log.orchestrator_event_ids += rows["event_id"].to_pylist()
        self.log.breaker_changes += rows["kind"].to_pylist().count("BREAKER_CHANGED")

    def _take_dead(self, batch: Batch) -> None:
        for headers in batch.headers or ():
            origin = parse(headers).origin
            if origin is not None and not is_marker(headers):
                self.log.dead.add((origin.topic, origin.partition, origin.offset))


class _Rows:
    """The valid rows of a batch; `places` are their indices in it."""

    def __init__(self, batch: Batch, columns: pa.RecordBatch, places: list[int]) -> None:
        self._batch, self._columns, self.places = batch, columns, places

    def __getitem__(self, path: str) -> Any:
        """A column by its dotted path."""
        name, *inner = path.split(".")
        column = self._columns.column(name)
        return pc.struct_field(column, inner) if inner else column

    def lists(self, *paths: str) -> Iterator[tuple[Any, ...]]:
        """Row by row, the values of these columns."""
        return zip(*(_values(self[path]) for path in paths), strict=True)

    def with_places(self, fields: Iterable[tuple[Any, ...]]) -> Iterator[tuple[tuple[Any, ...], tuple[int, int]]]:
        """The same rows, each with its partition and offset."""
        partitions = self._batch.partitions[self.places].tolist()
        offsets = self._batch.offsets[self.places].tolist()
        return zip(fields, zip(partitions, offsets, strict=True), strict=True)


def _values(column: pa.Array) -> list[Any]:
    """A task's id stands in each of its records: each text is held once."""
    values: list[Any] = column.to_pylist()
    return [value if value is None else intern(value) for value in values] if column.type == pa.string() else values
