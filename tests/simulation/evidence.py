"""What a run leaves behind: the logs, decoded, and what the broker saw of each commit.

I/O: none.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from loadtest import invariants
from loadtest.audit_log import Log, LogReader
from loadtest.invariants import Cut, TaskKey
from schemas.admission import admit
from schemas.topology import Topology
from streams.processors.recovery import low_watermark_of
from streams.transport.batch import Batch
from tests.simulation.agents import Stage
from tests.simulation.deployment import Deployment
from tests.simulation.groups import Group
from tests.simulation.house import House
from tests.simulation.log import Record, State
from tests.simulation.shared import shared_codec
from tests.simulation.wire import Cluster, Message
from tests.simulation.world import Process

WORKERS, HOSTS, STORES = "pointsman-worker", "pointsman-host", "pointsman-store"


class HostCut(NamedTuple):
    """A commit of one inbox partition, and where the agent's log ended then."""

    agent: str
    number: int
    position: int
    end: int


class StoreCut(NamedTuple):
    """A commit of a store, and how many rows the history had taken by then."""

    topic: str
    number: int
    position: int
    rows: int


class Shown(NamedTuple):
    """What readers of committed records see of one partition after a transaction: until where in each topic that it
    has written, and the position of the submissions then."""

    number: int
    position: int
    ends: Mapping[str, int]


class Seen(NamedTuple):
    """A cut as the broker took it: when, and where the logs of its partition ended then."""

    at_ms: int
    cut: Cut
    ends: Mapping[str, int]


@dataclass(slots=True)
class Given:
    """That a generation of the workers' group gave a partition to one of them: when, and when that one first committed
    a cut of it; None where it never did. Between the two it reads back, and nothing new."""

    at_ms: int
    live_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One valid record: its columns, and where and when it stands. `is_void`: in a log, behind a newer epoch."""

    offset: int
    at_ms: int
    is_zombie: bool
    writer: str
    fields: Mapping[str, Any]
    is_void: bool = False


class Evidence:
    """Of one run on `cluster`."""

    def __init__(self, cluster: Cluster, topology: Topology, stage: Stage, house: House) -> None:
        self._cluster, self.topology, self.stage, self.house = cluster, topology, stage, house
        self.topics = topology.topics()
        self._inboxes = {self.topics.events(agent): self.topics.inbox(agent) for agent in topology.agents}
        self._agents = {self.topics.inbox(agent): agent for agent in topology.agents}
        self.codec = shared_codec(topology.limits.record_bytes_max)
        self.cuts: list[Seen] = []
        self.given: dict[int, list[Given]] = {number: [] for number in range(topology.partitions)}
        self.host_cuts: list[HostCut] = []
        self.store_cuts: list[StoreCut] = []
        self.shown: list[Shown] = []
        self.fallen: list[str] = []
        self.read_ms: dict[tuple[str, str, int, int], int] = {}
        """When a host first had a dispatch: by its process, the inbox, its partition and the offset."""
        self._rows: dict[tuple[str, int], tuple[list[Row], list[int]]] = {}
        self._records: dict[tuple[str, int], tuple[int, list[Record]]] = {}
        """Those that are visible, as of so many changes of their partition."""

    def watch(self) -> None:
        """From now on commits and writes are seen."""
        for name in (WORKERS, HOSTS):
            self._cluster.broker.group(name).watchers.append(self._committed)
        self._cluster.broker.group(WORKERS).on_agreed.append(self._agreed)
        self._cluster.broker.group(STORES).watchers.append(self._stored)
        self._cluster.broker.on_commit.append(self._transacted)
        self._cluster.on_hand_over = self._handed_over
        self._cluster.on_write = self._written
        self._cluster.on_read = self._read_by

    def _handed_over(self, process: Process, tp: tuple[str, int], record: Record) -> None:
        record.is_zombie = self._is_zombie(process, *tp)

    def _written(self, process: Process, tp: tuple[str, int], records: list[Record]) -> None:
        for record in records:
            record.is_zombie = record.is_zombie or self._is_zombie(process, *tp)
        world = self._cluster.world
        if world.trace is not None:
            zombie = ", as a zombie" if any(record.is_zombie for record in records) else ""
            world.note(process.name, f"-> {tp[0]}[{tp[1]}]{zombie}: {self._said(tp[0], records)}")

    def _read_by(self, process: Process, messages: Sequence[Message]) -> None:
        now_ms = self._cluster.broker.now_ms()
        for each in messages:
            if each.topic() in self._agents:
                self.read_ms.setdefault((process.name, each.topic(), each.partition(), each.offset()), now_ms)

    def _is_zombie(self, process: Process, topic: str, number: int) -> bool:
        """Whether it writes for a partition that its group has taken from it for being silent."""
        groups = self._cluster.broker.groups
        if topic in self._inboxes and groups[HOSTS].has_expelled(process.name, (self._inboxes[topic], number)):
            return True
        return groups[WORKERS].has_expelled(process.name, (self.topics.submitted, number))

    def _said(self, topic: str, records: list[Record]) -> str:
        """What records say, in a few words each."""
        name = self.topics.record_of(topic)
        if name is None:
            return f"{len(records)} records"
        decoded = self.codec.decode([each.value for each in records], name)
        return "; ".join(map(_brief, decoded.batch.to_pylist()))

    def _committed(self, group: Group, offsets: Mapping[tuple[str, int], tuple[int, str]]) -> None:
        broker = self._cluster.broker
        for (topic, number), (position, metadata) in offsets.items():
            before = group.offsets.get((topic, number), (0, ""))[0]
            if position < before:
                self.fallen.append(f"{topic}[{number}] from {before} to {position}")
            if topic == self.topics.submitted:
                cut = Cut(number, position, low_watermark_of(metadata))
                self._cluster.world.note("broker", f"cut of [{number}]: {position}, {metadata}")
                ends = {name: len(each[number].records) for name, each in broker.topics.items() if number < len(each)}
                self.cuts.append(Seen(broker.now_ms(), cut, ends))
                for given in self.given[number][-1:]:
                    given.live_ms = given.live_ms or broker.now_ms()
            elif topic in self._agents:
                agent = self._agents[topic]
                end = broker.topics[self.topics.events(agent)][number].end
                self.host_cuts.append(HostCut(agent, number, position, end))

    def _agreed(self, tps: Iterable[tuple[str, int]]) -> None:
        now_ms = self._cluster.broker.now_ms()
        for topic, number in tps:
            if topic == self.topics.submitted:
                self.given[number].append(Given(now_ms))

    def _stored(self, group: Group, offsets: Mapping[tuple[str, int], tuple[int, str]]) -> None:
        for (topic, number), (position, _) in offsets.items():
            self.store_cuts.append(StoreCut(topic, number, position, len(self.house.placed)))

    def _transacted(self, written: Collection[tuple[str, int]]) -> None:
        broker, outputs = self._cluster.broker, {*self.topics.inboxes, self.topics.results}
        ends: dict[int, dict[str, int]] = {}
        for topic, number in written:
            if topic in outputs:
                ends.setdefault(number, {})[topic] = broker.topics[topic][number].end
        for number, each in ends.items():
            position = broker.group(WORKERS).offsets.get((self.topics.submitted, number), (0, ""))[0]
            self.shown.append(Shown(number, position, each))

    # ------------------------------------------------------------------ the logs

    def records(self, topic: str, number: int) -> Sequence[Record]:
        partition = self._cluster.broker.topics[topic][number]
        known = self._records.get((topic, number))
        if known is None or known[0] != partition.changes:
            visible = [record for record in partition.records if record.is_visible]
            known = self._records[topic, number] = partition.changes, visible
        return known[1]

    def rows(self, topic: str, number: int) -> list[Row]:
        """Valid records of one partition."""
        return self._read(topic, number)[0]

    def invalid(self, topic: str, number: int) -> list[int]:
        """Offsets of the others."""
        return self._read(topic, number)[1]

    def all(self, *topics: str) -> list[tuple[int, Row]]:
        """Valid records of all partitions, each with its partition's number."""
        numbers = range(self.topology.partitions)
        return [(number, row) for topic in topics for number in numbers for row in self.rows(topic, number)]

    def _read(self, topic: str, number: int) -> tuple[list[Row], list[int]]:
        records, name = self.records(topic, number), self.topics.record_of(topic)
        known = self._rows.get((topic, number))
        if known is not None and len(known[0]) + len(known[1]) == len(records):
            return known
        assert name is not None
        if not records:
            return [], []
        decoded = admit(self.codec, name, [each.value for each in records], [each.key for each in records])
        fields = decoded.batch.to_pylist()
        places = decoded.rows.tolist()
        rows = [
            Row(records[at].offset, records[at].timestamp_ms, records[at].is_zombie, records[at].writer, columns)
            for at, columns in zip(places, fields, strict=True)
        ]
        if topic in self.topics.logs:
            void = invariants.void((row.offset, row.fields["epoch"]) for row in rows)
            rows = [replace(row, is_void=row.offset in void) for row in rows]
        found = rows, [records[fault.row].offset for fault in decoded.faults]
        self._rows[topic, number] = found
        return found

    def spilled(self, number: int, until: int = 1 << 62) -> set[TaskKey]:
        """The tasks that stood in the compacted topic when it ended there: what was compacted since was there then."""
        found: dict[bytes | None, bytes | None] = {}
        for each in self._cluster.broker.topics[self.topics.spilled][number].records[:until]:
            if each.is_visible or each.state is State.COMPACTED:
                found[each.key] = each.value
        return {(tenant, task) for key, value in found.items() if value for tenant, task in [json.loads(key or b"")]}

    def batch(self, topic: str, number: int, until: int) -> Batch:
        """The partition's records before an offset, as recovery reads them."""
        records = [each for each in self.records(topic, number) if each.offset < until]
        n = len(records)
        offsets = np.array([each.offset for each in records], np.int64)
        return Batch(
            channel=topic,
            values=[each.value for each in records],
            keys=[each.key for each in records],
            topics=[topic] * n,
            partitions=np.full(n, number, np.int32),
            offsets=offsets,
            timestamps_ms=np.array([each.timestamp_ms for each in records], np.int64),
            headers=[each.headers for each in records],
            ends={(topic, number): int(offsets[-1])} if n else {},
        )

    @property
    def topics_of_tasks(self) -> tuple[str, ...]:
        """Whose records are facts about tasks, or what is put away."""
        topics = self.topics
        return (topics.submitted, *topics.inboxes, *topics.logs, topics.results, topics.orchestrator, topics.dead)

    def log(self) -> Log:
        """What the topics hold, as an audit reads it."""
        reader = LogReader(self.topics, self.codec)
        for topic in self.topics_of_tasks:
            for number in range(self.topology.partitions):
                batch = self.batch(topic, number, 1 << 62)
                if len(batch):
                    reader.take(batch)
        return reader.log

    # ------------------------------------------------------------------ rest

    def is_at_rest(self, deployment: Deployment) -> bool:
        """Whether everyone is at work, and everything is read, answered and committed."""
        return next(self._unrest(deployment), None) is None

    def unrest(self, deployment: Deployment) -> list[str]:
        """What keeps the deployment from rest."""
        return list(self._unrest(deployment))

    def _unrest(self, deployment: Deployment) -> Iterator[str]:
        """What the logs say is of interest only where everything in them is read and committed."""
        for why in (self._unready(deployment), self._unread(deployment), self._unfinished()):
            found = False
            for each in why:
                found = True
                yield each
            if found:
                return

    def _unready(self, deployment: Deployment) -> Iterator[str]:
        yield from (f"{slot.name} is not at work" for slot in deployment.slots if slot.is_wanted and not slot.is_ready)
        yield from (f"the broker takes nothing for {topic}" for topic in self._cluster.broker.refused)

    def _unread(self, deployment: Deployment) -> Iterator[str]:
        broker = self._cluster.broker
        read = {WORKERS: (self.topics.submitted, *self.topics.logs), HOSTS: self.topics.inboxes}
        if any(slot.kind == "store" for slot in deployment.slots):
            read[STORES] = self.topics_of_tasks
        for name, topics in read.items():
            group = broker.group(name)
            if not group.is_stable:
                yield f"{name} has not agreed"
            for topic in topics:
                for number, partition in enumerate(broker.topics[topic]):
                    position = group.offsets.get((topic, number), (0, ""))[0]
                    if not partition.visible_end <= position <= partition.end:
                        yield f"{topic}[{number}] is committed to {position} of {partition.visible_end}"
                    if partition.has_open:
                        yield f"{topic}[{number}] has an open transaction"

    def _unfinished(self) -> Iterator[str]:
        if unanswered := sorted(self._unanswered()):
            yield from (f"{tenant}/{task} has no result" for tenant, task in unanswered)
            return
        spilled = {key for number in range(self.topology.partitions) for key in self.spilled(number)}
        yield from (f"{tenant}/{task} is still spilled" for tenant, task in sorted(spilled))

    def _unanswered(self) -> set[TaskKey]:
        asked = {key_of(row) for _, row in self.all(self.topics.submitted)}
        return asked - {key_of(row) for _, row in self.all(self.topics.results)}


def _brief(fields: Mapping[str, Any]) -> str:
    slip, task = fields.get("slip"), fields.get("task", fields)
    words = [fields.get("kind") or fields.get("status"), fields.get("reason") or fields.get("error_class")]
    words += [fields.get("agent_id") or (slip and slip["agent_id"]), slip and f"attempt {slip['attempt']}"]
    return " ".join(str(word) for word in (task.get("task_id"), *words) if word)


def key_of(row: Row) -> TaskKey:
    """Of a submission or a result."""
    return row.fields["tenant"], row.fields["task_id"]


def key_of_event(row: Row) -> TaskKey:
    """Of an agent's event."""
    return row.fields["task"]["tenant"], row.fields["task"]["task_id"]
