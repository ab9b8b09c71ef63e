"""What a run has left behind, read back from topics, history and journal once everything is at rest.

I/O: Kafka, ClickHouse, the journal.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow.compute as pc

from console.chaos.fleet import Ended
from console.chaos.members import read_by
from console.chaos.recovery import Injected, Results
from loadtest.audit import View, audit
from loadtest.audit_log import Log, LogTail, Place
from loadtest.auditor import Report
from loadtest.invariants import TaskKey
from schemas.access import PROCESSES, group_of
from schemas.codec import Codec
from schemas.errors import PointsmanError
from schemas.registry import FileRegistry
from schemas.settings import Settings
from schemas.topology import Topology
from streams.transport.batch import TopicPartition
from streams.transport.clients import client_config
from streams.transport.consumer import BatchConsumer

POLL_S = 1.0
Positions = Mapping[tuple[str, int], int]


@dataclass
class Evidence:
    """All that the verdicts are made of.

    `acknowledged`: tasks that the broker confirmed to their producer. `due_ms`, `ended_ms`: by task, its deadline and
    the append time of its first result. `calls`: each run of an agent that writes. `positions`: what each group has
    committed; `unread`: records behind them. `changed`: what a restart of everything at rest added to the logs.
    `deaf`: processes that did not end when they were told to. `outages`: from when to when anything was wrong, in
    monotonic seconds. `zombies`: whether a worker may have been expelled without knowing it. `not_asked`: invariants
    that this run cannot tell, and why.
    """

    log: Log
    report: Report
    results: Results
    acknowledged: set[TaskKey]
    due_ms: Mapping[TaskKey, int]
    ended_ms: Mapping[TaskKey, int]
    late_ms: int
    calls: list[tuple[str, TaskKey]]
    writers: frozenset[str]
    positions: Mapping[str, Positions]
    unread: Mapping[str, int]
    topology: Topology
    injected: list[Injected] = field(default_factory=list)
    ended: list[Ended] = field(default_factory=list)
    outages: list[tuple[float, float]] = field(default_factory=list)
    changed: tuple[str, ...] = ()
    deaf: tuple[str, ...] = ()
    undelivered: int = 0
    zombies: bool = False
    not_asked: Mapping[str, str] = field(default_factory=dict)


def at_rest(
    settings: Settings,
    topology: Topology,
    view: View,
    corrupted: set[Place],
    timeout_s: float,
    meanwhile: Callable[[], None],
    complete: Callable[[Log], bool],
    starts: Positions | None = None,
    ours: Callable[[Log], Log] = lambda log: log,
) -> tuple[Log, Report]:
    """The audit, once it finds everything in its place; the last one made when time is up.

    `corrupted`: what was sent that is no record; `complete`: whether the log holds all that was sent. What cannot be
    asked yet, because somebody is starting, is asked again. `starts`: from where on the log is read; `ours`: what of it
    counts.
    """
    until, tail = time.monotonic() + timeout_s, LogTail(settings, topology, starts=starts)
    while True:
        meanwhile()
        began = time.monotonic()
        try:
            log = ours(tail.read_on())
            log.invalid |= corrupted
            report = audit(log, view)
        except PointsmanError:
            if time.monotonic() > until:
                raise
        else:
            if (report.sound and complete(log)) or time.monotonic() > until:
                return log, report
        pause_until = time.monotonic() + max(POLL_S, time.monotonic() - began)
        while time.monotonic() < pause_until:
            meanwhile()
            time.sleep(POLL_S / 10)


def read_results(
    settings: Settings, topology: Topology, since: Positions | None = None, prefix: str = ""
) -> tuple[Results, dict[TaskKey, int]]:
    """The columns of the results topic, and the append time of each task's first result.

    `since`: from where on, of any topics; only tasks whose ids begin with `prefix` count.
    """
    topic, codec = topology.topics().results, Codec(FileRegistry.load(), topology.limits.record_bytes_max)
    consumer = _consumer(settings, topology, None)
    partitions, appended, meant, completed, first = [], [], [], [], dict[TaskKey, int]()
    statuses = Counter[str]()
    try:
        marks = consumer.watermarks(consumer.partitions_of([topic]))
        starts, ends = ({tp: pair[which] for tp, pair in marks.items()} for which in (0, 1))
        starts |= {tp: at for tp, at in (since or {}).items() if tp in starts}
        for batch in consumer.read_to_end(starts, ends):
            decoded = codec.decode(batch.values, "TaskResult")
            wanted = pc.starts_with(decoded.batch.column("task_id"), prefix)
            columns, rows = decoded.batch.filter(wanted), decoded.rows[wanted.to_numpy(zero_copy_only=False)]
            partitions.append(batch.partitions[rows])
            appended.append(batch.timestamps_ms[rows])
            meant.append(columns.column("submitted_at").to_numpy(zero_copy_only=False).astype(np.int64) // 1000)
            statuses.update(
                {each["values"]: each["counts"] for each in columns.column("status").value_counts().to_pylist()}
            )
            completed.append(pc.equal(columns.column("status"), "COMPLETED").to_numpy(zero_copy_only=False))
            tenants, tasks = (columns.column(name).to_pylist() for name in ("tenant", "task_id"))
            for key, at in zip(zip(tenants, tasks, strict=True), appended[-1].tolist(), strict=True):
                first[key] = min(at, first.get(key, at))
    finally:
        consumer.close(1.0)
    if not partitions:
        empty = np.empty(0, np.int64)
        return Results(empty.astype(np.int32), empty, empty, empty.astype(np.bool_)), first
    return (
        Results(
            np.concatenate(partitions),
            np.concatenate(appended),
            np.concatenate(meant),
            np.concatenate(completed),
            statuses,
        ),
        first,
    )


def read_positions(settings: Settings, topology: Topology) -> tuple[dict[str, Positions], dict[str, int]]:
    """What each group has committed, and how many records stand behind that."""
    positions: dict[str, Positions] = {}
    unread: dict[str, int] = {}
    topics = topology.topics()
    control = (topics.health, topics.breakers, topics.cards)  # these go on at rest, and say nothing of tasks
    for process in PROCESSES:
        consumer = _consumer(settings, topology, group_of(process, topology.prefix))
        try:
            tps = consumer.partitions_of(each for each in read_by(process, topology.topics()) if each not in control)
            marks = consumer.watermarks(tps)
            committed = {tp: offset for tp, (offset, _) in consumer.committed(tps).items()}
            # Where nothing was ever committed the group stands at the beginning.
            starts = {tp: offset if offset >= 0 else marks[tp][0] for tp, offset in committed.items()}
            ends = {tp: high for tp, (_, high) in marks.items()}
            positions[process] = {(tp[0], tp[1]): at for tp, at in starts.items()}
            unread[process] = sum(len(batch) for batch in consumer.read_to_end(starts, ends))
        finally:
            consumer.close(1.0)
    return positions, unread


def ends_of(settings: Settings, topology: Topology) -> dict[TopicPartition, int]:
    """Where the topics end that say what became of tasks."""
    topics = topology.topics()
    consumer = _consumer(settings, topology, None)
    try:
        tps = consumer.partitions_of(
            [topics.submitted, *topics.inboxes, *topics.logs, topics.results, topics.orchestrator, topics.dead]
        )
        return {tp: high for tp, (_, high) in consumer.watermarks(tps).items()}
    finally:
        consumer.close(1.0)


def read_journal(path: Path) -> list[tuple[str, TaskKey]]:
    """Each run of an agent that writes: agent, and tenant and id of the task."""
    try:
        lines = path.read_text("utf-8").splitlines()
    except FileNotFoundError:
        return []
    return [(agent, (tenant, task)) for agent, tenant, task in map(json.loads, lines)]


def sizes(log: Log) -> dict[str, int]:
    """How many records of each kind there are."""
    return {
        "submissions": len(log.submissions),
        "dispatches": len(log.dispatches),
        # Not all events: whoever takes an inbox over claims its log, which is nothing that was decided.
        "outcomes": len(log.outcomes),
        "results": len(log.results),
        # Nor a breaker's: it closes by the clock, at rest too.
        "orchestrator events": len(log.orchestrator_event_ids) - log.breaker_changes,
        "dead letters": len(log.dead),
    }


def _consumer(settings: Settings, topology: Topology, group: str | None) -> BatchConsumer:
    config = client_config(settings, topology, "consumer", group=group, name="pointsman-chaos-audit")
    return BatchConsumer(config, str, rows_max=20_000, bytes_max=16 * 1024 * 1024, poll_s=0.1)
