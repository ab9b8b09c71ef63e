"""Tasks that are in flight for long, as records of the compacted topic: written with a cut, read whole by a recovery.

I/O: Kafka, through the producer that it is given.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas.codec import CARRIED_MAX, Codec
from schemas.epochs import LogEpochs, Since, halves, joined, spill_epoch
from schemas.records import table
from schemas.topology import Topology
from streams.core.cell import Cell
from streams.core.columns import task_keys
from streams.core.spill import Spill, Spilled
from streams.core.task import Attempt, Task, TaskKey
from streams.processors.outbox import Sender
from streams.processors.slips import SlipEncoder
from streams.transport.batch import Batch, TopicPartition
from streams.transport.telemetry import SPILLED_TASKS, get_logger

log = get_logger("pointsman.spill")

AROUND_BYTES = 1_024
"""What Kafka adds to key and value, and more."""


class SpillLog:
    """Writes what cells spill. `write` raises DeliveryError."""

    def __init__(self, topology: Topology, codec: Codec, producer: Sender) -> None:
        topics = topology.topics()
        self._topic, self._submitted = topics.spilled, topics.submitted
        self._codec, self._producer, self._slips = codec, producer, SlipEncoder(codec)
        self._bytes_max = CARRIED_MAX * topology.limits.record_bytes_max - AROUND_BYTES
        self._claims: dict[int, LogEpochs] = {}

    def claim(self, number: int, found: tuple[LogEpochs, int], generation: int) -> None:
        """A partition is ours, and its spilled tasks are as they were found: claims of former owners, and their end."""
        claims, end = found
        self._claims[number] = claims.claimed(end, spill_epoch(generation, claims.newest))

    def claims(self, number: int) -> Since:
        """To be committed with a cut of the partition."""
        return self._claims[number].since

    def write(self, cells: Mapping[int, Cell], positions: Mapping[TopicPartition, int], now_ms: int) -> bool:
        """Hands over what a cut at these positions has to say; whether there was anything.

        What led to it must be delivered already: a record that tells of a dispatch is believed.
        """
        has_news = False
        for number, cell in cells.items():
            spills = cell.spill(positions.get(TopicPartition(self._submitted, number), 0), now_ms)
            if spills:
                has_news = True
                self._write(number, cell, spills)
            SPILLED_TASKS.labels(partition=number).set(len(cell.spills))
        return has_news

    def _write(self, number: int, cell: Cell, spills: Sequence[Spill]) -> None:
        values = self._encode([each.task for each in spills if each.task is not None], self._claims[number].newest)
        told = [each.id for each in spills if self._fits(cell, each, values)]
        if told:
            self._producer.send(self._topic, number, list(map(values.get, told)), list(map(key_of, told)))

    def drop(self, partitions: Iterable[int]) -> None:
        """They are no longer ours."""
        for number in partitions:
            self._claims.pop(number, None)
            SPILLED_TASKS.labels(partition=number).set(0)

    def _fits(self, cell: Cell, spill: Spill, values: Mapping[TaskKey, bytes]) -> bool:
        """Whether it can be written; what cannot is kept, and holds the low watermark back."""
        if spill.task is None:
            return True
        value = values.get(spill.id)
        if value is not None and len(value) + len(key_of(spill.id)) <= self._bytes_max:
            return True
        log.warning("a task that is in flight for long is too large to be spilled", partition=cell.partition)
        cell.spills.keep(spill.id)
        return False

    def _encode(self, tasks: Sequence[Task], epoch: int) -> dict[TaskKey, bytes]:
        """The values of those that have a body to be read."""
        tasks = [task for task in tasks if task.attempts]
        if not tasks:
            return {}
        # A task's bytes are those of its dispatches, of whatever version: they are read as a dispatch is.
        slips = self._slips.encode([task.attempts[min(task.attempts)].slip for task in tasks])
        bodies = [task.frame + slip + task.datum for task, slip in zip(tasks, slips, strict=True)]
        decoded = self._codec.decode(bodies, "TaskDispatched")
        tasks = [tasks[row] for row in decoded.rows.tolist()]
        records = spill_table(tasks, epoch, decoded.batch.column("task"))
        return dict(zip([task.id for task in tasks], self._codec.encode(records, "TaskSpilled"), strict=True))


def key_of(task_id: TaskKey) -> bytes:
    """The record key in the compacted topic."""
    return json.dumps(task_id, ensure_ascii=False, separators=(",", ":")).encode()


def spill_table(tasks: Sequence[Task], epoch: int, bodies: pa.StructArray) -> pa.RecordBatch:
    """Columns of the record TaskSpilled; `bodies` are TaskSubmitted columns."""
    lives, generation = halves(epoch)
    columns: dict[str, Any] = {
        "appended_ms": [task.appended_ms for task in tasks],
        "epoch": generation,
        "lives": lives,
        "key": [task.key.decode() for task in tasks],
        "attempts": [[_said(task.attempts[ordinal]) for ordinal in sorted(task.attempts)] for task in tasks],
        "closed_seats": [sorted(task.closed_seats) for task in tasks],
        "event_ids": [task.event_ids for task in tasks],
        "conflict_noted": [task.conflict_noted for task in tasks],
        "cost_microusd": [task.cost_microusd for task in tasks],
        "tokens": [task.tokens for task in tasks],
        "task": bodies,
    }
    return table("TaskSpilled", columns, len(tasks))


def _said(attempt: Attempt) -> dict[str, Any]:
    vote = attempt.vote
    return {
        "slip": attempt.slip._asdict(),
        "event_id": attempt.event_id,
        "failure": None if attempt.failure is None else attempt.failure.value,
        "vote_key": None if vote is None else vote.key,
        "confidence": None if vote is None else vote.confidence,
        "answer": None if vote is None else vote.answer,
        "payload": None if vote is None else vote.payload,
    }


def latest(batches: Iterable[Batch]) -> dict[int, list[tuple[int, bytes]]]:
    """By partition, offset and value that each key has last; none of those whose last value is null."""
    found: dict[int, dict[bytes | None, tuple[int, bytes]]] = {}
    for batch in batches:
        rows = zip(batch.partitions.tolist(), batch.keys, batch.offsets.tolist(), batch.values, strict=True)
        for number, key, offset, value in rows:
            own = found.setdefault(number, {})
            own.pop(key, None)
            if value is not None:
                own[key] = offset, value
    return {number: list(own.values()) for number, own in found.items()}


def spilled_of(codec: Codec, records: Sequence[tuple[int, bytes]], claims: LogEpochs) -> Spilled:
    """The tasks of these offsets and values. What is no such record is nobody's: it is passed over, and said."""
    decoded = codec.decode([value for _, value in records], "TaskSpilled")
    if decoded.faults:
        why = decoded.faults[0]
        log.warning("records among the spilled tasks are none", records=len(decoded.faults), why=str(why.reason))
    has_attempts = pc.greater(pc.list_value_length(decoded.batch.column("attempts")), 0).to_numpy(zero_copy_only=False)
    lives, generations = (decoded.batch.column(name).to_pylist() for name in ("lives", "epoch"))
    written = zip(decoded.rows.tolist(), map(joined, lives, generations), strict=True)
    is_void = np.array([claims.is_void(records[row][0], epoch) for row, epoch in written], bool)
    doubtful = decoded.batch.filter(pa.array(is_void))
    if doubtful.num_rows:
        log.warning("tasks that a worker spilled after it had lost them are read from the logs", tasks=len(doubtful))
    batch = decoded.batch.filter(pa.array(has_attempts & ~is_void))
    datums = codec.encode_datums(pa.RecordBatch.from_struct_array(batch.column("task")), "TaskSubmitted")
    appended = zip(task_keys(doubtful.column("task")), doubtful.column("appended_ms").to_pylist(), strict=True)
    return Spilled(batch, [codec.frame("TaskDispatched")] * len(datums), datums, dict(appended))
