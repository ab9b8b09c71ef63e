"""`pointsman topics list` and `describe`: the deployment's topics as they are, and how far our groups have read.

I/O: Kafka, stdout, stderr.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from console.cli.deployment import Deployment
from console.cli.failures import ExitCode, NotFoundError
from console.cli.output import Format, Output, Row
from console.cli.topic_pauses import paused_topics
from console.cli.topics import duration
from schemas.access import PROCESSES, USES, group_of
from schemas.codes import ErrorCode
from schemas.errors import UnreachableError
from schemas.nearest import suggest
from schemas.topics import TopicSpec
from streams.transport.admin import offsets
from streams.transport.topic_admin import TopicAdmin, copies

# What moves, in 80 cells; `describe` and JSON have the rest.
COLUMNS = ("topic", "partitions", "records", "lag")
PARTITION_COLUMNS = ("partition", "leader", "replicas", "in_sync", "first_offset", "end_offset", "records", "lag")
OFFSETS_TIMEOUT_S = 5.0
APPLY = "`pointsman topics apply` makes it."

Marks = Mapping[tuple[str, int], tuple[int, int]]
Groups = Mapping[str, Mapping[tuple[str, int], int]]


def list_topics(deployment: Deployment, *, form: Format, out: Output) -> ExitCode:
    """Prints one row for each topic that the deployment needs; those that the broker lacks have no numbers."""
    topics = deployment.topology.topics()
    admin = TopicAdmin(deployment.settings, deployment.topology)
    known = admin.listed()
    there = [spec for spec in topics.specs() if spec.name in known]
    marks, groups = _marks(deployment, there, known, out), _groups(admin, topics.prefix)
    paused = paused_topics(deployment, known)
    rows = [_row(spec, known.get(spec.name), marks, groups, paused) for spec in topics.specs()]
    out.records([_shown(row) for row in rows] if form is Format.TABLE else rows, COLUMNS, form)
    for name in sorted(paused or ()):
        out.note(f"{name} is paused: nobody reads it. `pointsman topics resume {name}` lets it go on.")
    if missing := len(rows) - len(there):
        out.note(
            f"{missing} of {len(rows)} topics are missing, or hidden from this user. "
            "`pointsman topics apply` makes them."
        )
    return ExitCode.OK


def describe_topic(deployment: Deployment, name: str, *, form: Format, out: Output) -> ExitCode:
    """Prints a topic's properties, who writes and reads it, and its partitions.

    `name` may leave out the deployment's prefix. Raises NotFoundError for a topic that is none of the deployment's, or
    that the broker does not have.
    """
    topics = deployment.topology.topics()
    specs = {spec.name: spec for spec in topics.specs()}
    spec = specs.get(name) or specs.get(f"{topics.prefix}{name}")
    if spec is None:
        text = f"{name} is no topic of this deployment{suggest(name, specs)}"
        raise NotFoundError(text, code=ErrorCode.NO_TOPIC)
    admin = TopicAdmin(deployment.settings, deployment.topology)
    known = admin.listed()
    topic = known.get(spec.name)
    if topic is None:
        text = f"The broker has no topic {spec.name}, or hides it from this user. {APPLY}"
        raise NotFoundError(text, code=ErrorCode.NO_TOPIC)
    config = admin.cluster([spec.name]).topics[spec.name].config
    marks, groups = _marks(deployment, [spec], {spec.name: topic}, out), _groups(admin, topics.prefix)
    about = _about(spec, config, _row(spec, topic, marks, groups, paused_topics(deployment, known)))
    partitions = [_partition(spec.name, number, topic, marks, groups) for number in sorted(topic.partitions)]
    if form is Format.TABLE:
        out.table(("property", "value"), list(_shown(about).items()))
        out.line()
        out.records([_shown(row) for row in partitions], PARTITION_COLUMNS, form)
    elif form is Format.JSON:
        out.json({**about, "partitions": partitions})
    else:
        out.records(partitions, PARTITION_COLUMNS, form)
    return ExitCode.OK


def _marks(deployment: Deployment, specs: Sequence[TopicSpec], known: Mapping[str, Any], out: Output) -> Marks:
    """First and next offset of each partition that has a leader; none where the leaders do not answer."""
    led = [
        (spec.name, number)
        for spec in specs
        for number, partition in known[spec.name].partitions.items()
        if partition.leader >= 0
    ]
    all_of_them = sum(len(known[spec.name].partitions) for spec in specs)
    if len(led) < all_of_them:
        out.note(f"{all_of_them - len(led)} of {all_of_them} partitions have no leader: their records are not counted.")
    try:
        return offsets(deployment.settings, led, deployment.topology, wait_s=OFFSETS_TIMEOUT_S)
    except UnreachableError as error:
        out.note(f"Records are not counted: {error.why}")
        return {}


def _groups(admin: TopicAdmin, prefix: str) -> Groups:
    return {process: admin.positions(group_of(process, prefix)) for process in PROCESSES}


def _row(spec: TopicSpec, topic: Any, marks: Marks, groups: Groups, paused: frozenset[str] | None) -> dict[str, Any]:
    own = {tp: mark for tp, mark in marks.items() if tp[0] == spec.name}
    return {
        "topic": spec.name,
        "record": spec.record,
        "partitions": len(topic.partitions) if topic else None,
        "replication": copies(topic) if topic else None,
        "retention_ms": spec.retention_ms,
        "cleanup": spec.cleanup,
        "paused": None if paused is None else spec.name in paused,
        "records": sum(end - first for first, end in own.values()) if own else None,
        "lag": _lag(own, groups),
    }


def _lag(marks: Marks, groups: Groups) -> dict[str, int]:
    """Records appended and not committed, by group, of the partitions in which it has committed."""
    behind = {
        process: [max(end - max(read[tp], first), 0) for tp, (first, end) in marks.items() if tp in read]
        for process, read in groups.items()
    }
    return {process: sum(each) for process, each in behind.items() if each}


def _about(spec: TopicSpec, config: Mapping[str, str], row: Row) -> dict[str, Any]:
    writers, readers = USES[spec.kind] if spec.kind else ((), ())
    kept = {key: config.get(key) for key in (*spec.config(), "min.insync.replicas", "max.message.bytes")}
    return {**row, "written_by": list(writers), "read_by": list(readers), "config": kept}


def _partition(name: str, number: int, topic: Any, marks: Marks, groups: Groups) -> dict[str, Any]:
    state, mark = topic.partitions[number], marks.get((name, number))
    own = {} if mark is None else {(name, number): mark}
    return {
        "partition": number,
        "leader": state.leader,
        "replicas": list(state.replicas),
        "in_sync": list(state.isrs),
        "first_offset": mark[0] if mark else None,
        "end_offset": mark[1] if mark else None,
        "records": mark[1] - mark[0] if mark else None,
        "lag": _lag(own, groups),
    }


def _shown(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row for people; of lags, those of whoever is behind."""
    shown: dict[str, Any] = {
        ("retention" if key == "retention_ms" else key): duration(value) if key == "retention_ms" else value
        for key, value in row.items()
    }
    if shown.get("lag"):
        shown["lag"] = {group: behind for group, behind in shown["lag"].items() if behind} or 0
    return shown
