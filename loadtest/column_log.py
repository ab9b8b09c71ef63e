"""Reads a deployment's topics to their end into columns: what an audit of millions of tasks needs of each record.

A task is known by a hash of (tenant, task_id), a fact by a hash of its identity, 64 bits each, good for this process
alone; what a record decides or was decided by is in two more hashes. So a record takes some 80 bytes, whatever it held.
Two identities with one hash would show as a breach, or hide one. Where n are held against each other that any two have
one has a chance of n^2 in 2^65: of the 12 million tasks of ten minutes at rate one in 250,000; that a certain breach is
hidden so, n in 2^64. `loadtest.audit_log` reads the same as Python objects, for runs of thousands. I/O: Kafka.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from loadtest.audit_log import BYTES_MAX, OUTCOMES, POLL_S, Place
from schemas.admission import admit
from schemas.codec import Codec
from schemas.deadletter import parse
from schemas.redrive import is_marker
from schemas.topics import Topics
from schemas.topology import Topology
from streams.transport.batch import Batch
from streams.transport.clients import BrokerSettings, client_config
from streams.transport.consumer import BatchConsumer

ROWS_MAX = 50_000
# Seeds of the hashes: of identities, and of what a decision depends on.
IDENTITY, ONE, TWO = 1, 2, 3
Starts: TypeAlias = Mapping[tuple[str, int], int]

_PLACE: Mapping[str, Any] = {"topic": pl.UInt16, "partition": pl.Int32, "offset": pl.Int64, "appended_ms": pl.Int64}
_FACT: Mapping[str, Any] = {"key": pl.UInt64, "fact": pl.UInt64, "one": pl.UInt64, "two": pl.UInt64}
SUBMISSIONS: Mapping[str, Any] = {**_FACT, "line": pl.UInt64, "sent_us": pl.Int64, **_PLACE}
DISPATCHES: Mapping[str, Any] = {
    **_FACT,
    "agent": pl.UInt64,
    "attempt": pl.Int32,
    "seats": pl.UInt32,
    "again": pl.Boolean,
    "try": pl.UInt64,
    "routed_us": pl.Int64,
    **_PLACE,
}
EVENTS: Mapping[str, Any] = {**_FACT, "outcome": pl.Boolean, "try": pl.UInt64, **_PLACE}
RESULTS: Mapping[str, Any] = {
    **_FACT,
    "line": pl.UInt64,
    "sent_us": pl.Int64,
    "decided_us": pl.Int64,
    "status": pl.String,
    "reason": pl.String,
    **_PLACE,
}
NOTES: Mapping[str, Any] = {**_FACT, "kind": pl.String, **_PLACE}


def hashed(*columns: pl.Expr | str, seed: int = IDENTITY) -> pl.Expr:
    """64 bits of a row; the same for the same values, in whatever frame, in this process."""
    return pl.struct(*columns).hash(seed)


@dataclass(frozen=True)
class ColumnLog:
    """What the topics hold. `frames` by the history's names of the kinds; `topics` by the numbers in their columns.

    `bytes_of` are keys and values, by topic. `invalid`: where the records stand that are none; `dead`: which of them
    were put away.
    """

    frames: Mapping[str, pl.DataFrame]
    topics: tuple[str, ...]
    bytes_of: Mapping[str, int]
    invalid: frozenset[Place]
    dead: frozenset[Place]

    @property
    def submissions(self) -> pl.DataFrame:
        return self.frames["tasks"]

    @property
    def dispatches(self) -> pl.DataFrame:
        return self.frames["dispatches"]

    @property
    def events(self) -> pl.DataFrame:
        return self.frames["agent_events"]

    @property
    def results(self) -> pl.DataFrame:
        return self.frames["results"]

    @property
    def notes(self) -> pl.DataFrame:
        return self.frames["orchestrator_events"]

    @property
    def records(self) -> int:
        """Valid ones of the lifecycle."""
        return sum(frame.height for frame in self.frames.values())


def read_batches(
    settings: BrokerSettings,
    topology: Topology,
    topics: Iterable[str],
    take: Callable[[Batch], None],
    starts: Starts,
    *,
    until: Starts | None = None,
    with_headers: bool = False,
) -> dict[tuple[str, int], int]:
    """Gives every batch of one topic's records to `take`, up to where the topics end now, or to `until` where it is
    named; gives the offsets up to which was read."""
    config = client_config(settings, topology, "consumer", fetch="bulk", name="pointsman-audit")
    consumer = BatchConsumer(
        config,
        lambda topic: topic,
        rows_max=ROWS_MAX,
        bytes_max=BYTES_MAX,
        poll_s=POLL_S,
        with_headers=with_headers,
    )
    try:
        marks = consumer.watermarks(consumer.partitions_of(topics))
        begins = {owner: max(low, starts.get(owner, low)) for owner, (low, _high) in marks.items()}
        bounds = until or {}
        ends: dict[tuple[str, int], int] = {
            owner: min(high, bounds.get(owner, high)) for owner, (_low, high) in marks.items()
        }
        for batch in consumer.read_to_end(begins, ends):
            # A record that came after the ends were taken may have consequences that are past their topics' ends.
            inside = batch.offsets < _each(batch, ends)
            if inside.all():
                take(batch)
            elif inside.any():
                take(batch.take(np.flatnonzero(inside)))
        return ends
    finally:
        consumer.close()


def _each(batch: Batch, ends: Starts) -> npt.NDArray[np.int64]:
    """Of each record, where its partition ends."""
    numbers, place = np.unique(batch.partitions, return_inverse=True)
    return np.array([ends[batch.channel, number] for number in numbers.tolist()], np.int64)[place]


class ColumnReader:
    """Takes batches of one topic each, in any order. `topics` are those that it understands.

    `keep` is given each frame with the name of its kind; without it, they are gathered for `log`.
    """

    def __init__(self, topics: Topics, codec: Codec, keep: Callable[[str, pl.DataFrame], None] | None = None) -> None:
        self._keep = keep or self._gather
        self._codec = codec
        self._kinds: dict[str, Kind] = {
            topics.submitted: _KINDS["tasks"],
            **dict.fromkeys(topics.inboxes, _KINDS["dispatches"]),
            **dict.fromkeys(topics.logs, _KINDS["agent_events"]),
            topics.results: _KINDS["results"],
            topics.orchestrator: _KINDS["orchestrator_events"],
        }
        self.topics = tuple(self._kinds)
        self._numbers = {name: number for number, name in enumerate(self.topics)}
        self._frames: dict[str, list[pl.DataFrame]] = {name: [] for name in _KINDS}
        self._bytes = dict.fromkeys(self.topics, 0)
        self.invalid: set[Place] = set()

    def take(self, batch: Batch) -> None:
        kind = self._kinds[batch.channel]
        decoded = admit(self._codec, kind.record, batch.values, batch.keys)
        self.invalid.update(
            (batch.channel, int(batch.partitions[fault.row]), int(batch.offsets[fault.row])) for fault in decoded.faults
        )
        self._bytes[batch.channel] += sum(map(len, filter(None, batch.values))) + sum(
            map(len, filter(None, batch.keys))
        )
        if not len(decoded.rows):
            return
        frame = pl.DataFrame(pl.from_arrow(decoded.batch)).select(**kind.columns)
        places: dict[str, npt.NDArray[Any]] = {
            "topic": np.full(frame.height, self._numbers[batch.channel], np.uint16),
            "partition": batch.partitions[decoded.rows],
            "offset": batch.offsets[decoded.rows],
            "appended_ms": batch.timestamps_ms[decoded.rows],
        }
        self._keep(kind.name, frame.with_columns(**{name: pl.Series(each) for name, each in places.items()}))

    def log(self, dead: Iterable[Place] = ()) -> ColumnLog:
        """What was taken so far, and gathered."""
        frames = {
            name: pl.concat(found) if (found := self._frames[name]) else pl.DataFrame(schema=dict(schema))
            for name, schema in SCHEMAS.items()
        }
        return self.log_of(frames, dead)

    def log_of(self, frames: Mapping[str, pl.DataFrame], dead: Iterable[Place] = ()) -> ColumnLog:
        """Of these frames, and what else was seen."""
        return ColumnLog(frames, self.topics, self._bytes, frozenset(self.invalid), frozenset(dead))

    def _gather(self, kind: str, frame: pl.DataFrame) -> None:
        self._frames[kind].append(frame)


class DeadReader:
    """Takes batches of the dead topic, headers and all. A marker of a redrive is no letter, and bears its origin."""

    def __init__(self) -> None:
        self.places: set[Place] = set()

    def take(self, batch: Batch) -> None:
        for headers in batch.headers or ():
            origin = parse(headers).origin
            if origin is not None and not is_marker(headers):
                self.places.add((origin.topic, origin.partition, origin.offset))


@dataclass(frozen=True)
class Kind:
    """How records of one kind become columns."""

    name: str
    record: str
    columns: Mapping[str, pl.Expr]
    schema: Mapping[str, Any]


def _slip(*names: str) -> list[pl.Expr]:
    return [pl.col("slip").struct.field(name) for name in names]


def _task(*names: str) -> list[pl.Expr]:
    return [pl.col("task").struct.field(name) for name in names]


def _content(tag: str, *columns: pl.Expr | str) -> dict[str, pl.Expr]:
    """What a decision depends on, or decided, without identities and times."""
    tagged = (pl.lit(tag).alias("tag"), *columns)
    return {"one": hashed(*tagged, seed=ONE), "two": hashed(*tagged, seed=TWO)}


_IDENTITY = hashed("tenant", "task_id")
_OF_TASK = hashed(*_task("tenant", "task_id"))
# Whose order has to hold: nobody's where a task has no conversation.
_LINE = pl.when(pl.col("conversation_id").is_null()).then(0).otherwise(hashed("tenant", "conversation_id"))
_ATTEMPT = _slip("agent_id", "attempt", "stage")
_OUTCOME = pl.col("kind").is_in(list(OUTCOMES))

_KINDS: Mapping[str, Kind] = {
    "tasks": Kind(
        "tasks",
        "TaskSubmitted",
        {
            "key": _IDENTITY,
            "fact": _IDENTITY,
            **_content(
                "task",
                *("tenant", "text", "intent", "confidence", "value_tier", "budget_microusd", "depth"),
                pl.col("deadline_ms").is_null(),
            ),
            "line": _LINE,
            "sent_us": pl.col("submitted_at"),
        },
        SUBMISSIONS,
    ),
    "dispatches": Kind(
        "dispatches",
        "TaskDispatched",
        {
            "key": _OF_TASK,
            "fact": hashed(*_task("tenant", "task_id"), *_ATTEMPT),
            **_content(
                "dispatch",
                *_slip("agent_id", "attempt", "seat", "stage", "intent", "confidence", "band", "panel", "chain"),
                *_slip("reason", "value_tier", "attempts", "cost_microusd", "tokens", "probe_epoch", "timeout_ms"),
            ),
            "agent": hashed(*_slip("agent_id")),
            "attempt": _slip("attempt")[0],
            "seats": _slip("panel")[0].list.len(),
            "again": _slip("stage")[0] == "REGROUND",
            "try": hashed(*_ATTEMPT),
            "routed_us": _slip("routed_at")[0],
        },
        DISPATCHES,
    ),
    "agent_events": Kind(
        "agent_events",
        "AgentEvent",
        {
            "key": _OF_TASK,
            "fact": pl.col("event_id").hash(IDENTITY),
            **{
                # STARTED and NOTE decide nothing.
                name: pl.when(_OUTCOME).then(each).otherwise(0)
                for name, each in _content(
                    "event",
                    *("kind", "answer", "vote_key", "payload", "confidence", "error_class"),
                    *_slip("agent_id", "attempt", "seat", "stage"),
                    pl.col("citations").list.len() > 0,
                    *("tokens_in", "tokens_out", "cost_microusd"),
                ).items()
            },
            "outcome": _OUTCOME,
            "try": hashed(*_ATTEMPT),
        },
        EVENTS,
    ),
    "results": Kind(
        "results",
        "TaskResult",
        {
            "key": _IDENTITY,
            "fact": _IDENTITY,
            **_content(
                "result",
                *("status", "reason", "intent", "answer", "payload", "confidence", "agents", "votes", "dissent"),
                *("attempts", "cost_microusd", "tokens"),
            ),
            "line": _LINE,
            "sent_us": pl.col("submitted_at"),
            "decided_us": pl.col("decided_at"),
            "status": pl.col("status"),
            "reason": pl.col("reason"),
        },
        RESULTS,
    ),
    "orchestrator_events": Kind(
        "orchestrator_events",
        "OrchestratorEvent",
        {
            "key": pl.when(pl.col("task_id").is_null()).then(None).otherwise(_IDENTITY),
            "fact": pl.col("event_id").hash(IDENTITY),
            **_content("note", "kind", "reason", "agent_id"),
            "kind": pl.col("kind"),
        },
        NOTES,
    ),
}

SCHEMAS: Mapping[str, Mapping[str, Any]] = {name: kind.schema for name, kind in _KINDS.items()}
"""Columns of each kind, by the history's names."""
