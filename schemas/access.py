"""Who reads and writes which topic: the one table from which access rules are derived and the pages are checked.

Names of operations and resources are Kafka's. I/O: none.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

from schemas.topics import Kind, Topics, TopicSpec

Principal = Literal["worker", "host", "store", "producer", "subscriber", "operator", "mender"]
Operation = Literal["Read", "Write", "Create", "Describe", "DescribeConfigs", "AlterConfigs"]
Pattern = Literal["literal", "prefix"]

PRINCIPALS: tuple[Principal, ...] = ("worker", "host", "store", "producer", "subscriber", "operator", "mender")
PROCESSES: tuple[Principal, ...] = ("worker", "host", "store")
# Where a client reads without joining a group, librdkafka still asks for the coordinator of one.
READER_GROUP = "pointsman-reader"
# The transactional id of all redrives of a deployment, behind its prefix.
REDRIVE_ID = "pointsman-redrive"
MANAGE: tuple[Operation, ...] = ("Create", "Describe", "DescribeConfigs", "AlterConfigs")


class Use(NamedTuple):
    """Who appends to topics of a kind, and who reads them."""

    writers: tuple[Principal, ...]
    readers: tuple[Principal, ...]


USES: dict[Kind, Use] = {
    # A mender sends back what was put away, to wherever it came from.
    "submitted": Use(("producer", "mender"), ("worker", "store")),
    # A worker reads back what it sent when it recovers.
    "inbox": Use(("worker", "mender"), ("host", "worker", "store")),
    "events": Use(("host", "mender"), ("worker", "host", "store")),
    "results": Use(("worker", "mender"), ("subscriber", "worker", "store")),
    # Host and mender say there that a topic was paused, or goes on.
    "orchestrator": Use(("worker", "host", "mender"), ("worker", "store")),
    # Whoever cannot take a record puts it there.
    "dead": Use(("worker", "host", "store", "mender"), ("store", "mender")),
    # Tasks that are in flight for long, for whoever owns their partition next.
    "spilled": Use(("worker",), ("worker",)),
    "pauses": Use(("worker", "host", "mender"), ("worker", "host", "store", "mender")),
    # What people say about the memory of agents.
    "memory": Use(("mender",), ("host", "store", "mender")),
    # A host reads there what the last owner of an agent's log had folded of it.
    "snapshots": Use(("host",), ("host",)),
    "breakers": Use(("worker",), ("worker", "store", "mender")),
    "cards": Use(("host",), ("store", "mender")),
    "health": Use(("worker",), ("worker", "store")),
}


@dataclass(frozen=True, slots=True)
class Grant:
    """One principal's rights on one resource; nothing is granted that is not in one of these."""

    principal: Principal
    resource: Literal["topic", "group", "transactional-id"]
    name: str
    operations: tuple[Operation, ...]
    pattern: Pattern = "literal"


def group_of(process: Principal, prefix: str) -> str:
    """The consumer group of a worker, host or store."""
    return f"{prefix}pointsman-{process}"


def used_by(process: Principal, topics: Topics) -> tuple[TopicSpec, ...]:
    """The topics that a principal reads or writes, in the order of the flow."""
    return tuple(spec for spec in topics.specs() if spec.kind and _rights(process, spec.kind))


def grants(topics: Topics) -> Iterator[Grant]:
    """The least rights of every principal of a deployment, in the order of PRINCIPALS.

    Read and Write imply Describe. A worker and a host compare the topics' properties with the topology when they start,
    hence DescribeConfigs. Idempotent producers need no right beyond Write (Kafka 3.0 and later); transactions need
    one on their id, which is granted in either delivery mode.
    """
    for principal in PRINCIPALS:
        for spec in topics.specs():
            if spec.kind and (operations := _rights(principal, spec.kind)):
                yield Grant(principal, "topic", spec.name, operations)
        yield from _groups(principal, topics.prefix)
    yield Grant("mender", "transactional-id", f"{topics.prefix}{REDRIVE_ID}", ("Write",))
    yield Grant("worker", "transactional-id", f"{group_of('worker', topics.prefix)}-", ("Write",), "prefix")


def _rights(principal: Principal, kind: Kind) -> tuple[Operation, ...]:
    if principal == "operator":
        return MANAGE
    use = USES[kind]
    rights: list[Operation] = []
    if principal in use.readers:
        rights.append("Read")
    if principal in use.writers:
        rights.append("Write")
    if rights and principal in ("worker", "host"):
        rights.append("DescribeConfigs")
    return tuple(rights)


def _groups(principal: Principal, prefix: str) -> Iterable[Grant]:
    if principal in PROCESSES:
        yield Grant(principal, "group", group_of(principal, prefix), ("Read",))
    if principal in ("worker", "host", "subscriber", "mender"):
        yield Grant(principal, "group", READER_GROUP, ("Describe",))
    if principal == "subscriber":
        yield Grant(principal, "group", f"{prefix}subscriber-", ("Read",), "prefix")
    if principal == "operator":
        for process in PROCESSES:
            yield Grant(principal, "group", group_of(process, prefix), ("Describe",))
        yield Grant(principal, "group", READER_GROUP, ("Describe",))
