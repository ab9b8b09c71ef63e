"""Records that wait until their schema id is known, and what follows them in their partition; the others go on.

So a registry that is away stops a partition only where a new schema comes in, and only from there on. Nothing that is
held is done with: the positions stay before it, and whoever owns the partition next reads it again. I/O: none.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import replace
from typing import Protocol

import numpy as np

from schemas.codec import FRAME_BYTES
from streams.transport.batch import Batch, TopicPartition
from streams.transport.telemetry import RECORDS_HELD


class Ids(Protocol):
    """The part of streams.transport.foreign_ids.ForeignIds that is used here."""

    def unsettled(self, ids: Iterable[int]) -> set[int]: ...


class HeldBack:
    """Used by one thread. The caller pauses the topic-partitions of `tps`, so that what is held stays small."""

    def __init__(self, ids: Ids) -> None:
        self._ids = ids
        self._held: dict[TopicPartition, list[Batch]] = {}

    @property
    def tps(self) -> frozenset[TopicPartition]:
        """Where something is held."""
        return frozenset(self._held)

    def __len__(self) -> int:
        return sum(len(batch) for batches in self._held.values() for batch in batches)

    def oldest_ms(self) -> int | None:
        """Append time of the first record that is held; None where nothing is."""
        times = (int(batch.timestamps_ms.min()) for batches in self._held.values() for batch in batches)
        return min(times, default=None)

    def admit(self, batch: Batch) -> Batch | None:
        """What of the batch may go on now; the rest is held, in order. None where nothing may."""
        heads = {value[:FRAME_BYTES] for value in batch.values if value}
        ids = {head: struct.unpack(">I", head[1:])[0] for head in heads if len(head) == FRAME_BYTES and head[0] == 0}
        unsettled = self._ids.unsettled(ids.values())
        if not unsettled and not self._held:
            return batch
        waiting = {head for head, schema_id in ids.items() if schema_id in unsettled}
        stopped = set(self._held)
        goes: list[int] = []
        stays: list[int] = []
        for row, tp in enumerate(zip(batch.topics, batch.partitions.tolist(), strict=True)):
            value = batch.values[row]
            if tp not in stopped and value and value[:FRAME_BYTES] in waiting:
                stopped.add(TopicPartition(*tp))
            (stays if tp in stopped else goes).append(row)
        if not stays:
            return batch
        for tp, part in _by_tp(_rows(batch, stays)):
            self._held.setdefault(tp, []).append(part)
        RECORDS_HELD.set(len(self))
        return _rows(batch, goes) if goes else None

    def released(self) -> list[Batch]:
        """What may go on by now, in the order of each partition."""
        if not self._held:
            return []
        held, self._held = self._held, {}
        parts = [self.admit(batch) for batches in held.values() for batch in batches]
        RECORDS_HELD.set(len(self))
        return [part for part in parts if part is not None]

    def drop(self, tps: Iterable[tuple[str, int]]) -> None:
        """Forget what is held of these: they are another's to read."""
        for tp in tps:
            self._held.pop(TopicPartition(*tp), None)
        RECORDS_HELD.set(len(self))


def _rows(batch: Batch, rows: list[int]) -> Batch:
    """These rows, in order; `ends` is where they end, not where the batch does."""
    part = batch.take(np.asarray(rows, np.intp))
    owners = zip(part.topics, part.partitions.tolist(), strict=True)
    return replace(part, ends=dict(zip(owners, part.offsets.tolist(), strict=True)))


def _by_tp(batch: Batch) -> list[tuple[TopicPartition, Batch]]:
    places: dict[TopicPartition, list[int]] = {}
    for row, owner in enumerate(zip(batch.topics, batch.partitions.tolist(), strict=True)):
        places.setdefault(TopicPartition(*owner), []).append(row)
    return [(tp, _rows(batch, rows)) for tp, rows in places.items()]


class SetAside:
    """Batches of topics that were paused while they were on their way: to be taken when their topic goes on."""

    def __init__(self) -> None:
        self._batches: list[tuple[str, Batch]] = []

    def admit(self, processor: str, batch: Batch, resting: frozenset[str]) -> Batch | None:
        """What of the batch may be taken now; the rest is set aside, in order. None where nothing may."""
        if not resting or not any(topic in resting for topic, _ in batch.ends):
            return batch
        stays = [topic in resting for topic in batch.topics]
        self._batches.append((processor, _rows(batch, [row for row, rests in enumerate(stays) if rests])))
        goes = [row for row, rests in enumerate(stays) if not rests]
        return _rows(batch, goes) if goes else None

    def released(self, resting: frozenset[str]) -> list[tuple[str, Batch]]:
        """What may be taken by now, with the processor that it is for, in the order in which it was read."""
        kept, self._batches = self._batches, []
        parts = [(processor, self.admit(processor, batch, resting)) for processor, batch in kept]
        return [(processor, part) for processor, part in parts if part is not None]

    def drop(self, partitions: Iterable[int]) -> None:
        """Forget what is held of these: they are another's to read."""
        gone = set(partitions)
        kept, self._batches = self._batches, []
        for processor, batch in kept:
            rows = [row for row, number in enumerate(batch.partitions.tolist()) if number not in gone]
            if rows:
                self._batches.append((processor, _rows(batch, rows)))
