"""Submissions as records and as whole record batches; and a registry that knows only the lower ids."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from schemas.admission import SUBMISSION
from streams.transport.batch import Batch, TopicPartition
from streams.transport.packed import Packed, packs_of

TOPIC = "tasks.submitted.v1"


class Ids:
    """Knows the ids below `known`."""

    def __init__(self, known: int = 10) -> None:
        self.known = known
        self.asked: list[int] = []

    def unsettled(self, ids: Iterable[int]) -> set[int]:
        unknown = {each for each in ids if each >= self.known}
        self.asked += sorted(unknown)
        return unknown


def records(*rows: tuple[int, int, bytes | None]) -> Batch:
    """Partition, offset and value of each record."""
    partitions, offsets, values = zip(*rows, strict=True)
    return Batch(
        channel="router",
        values=list(values),
        keys=[str(offset).encode() for offset in offsets],
        topics=[TOPIC] * len(rows),
        partitions=np.array(partitions, np.int32),
        offsets=np.array(offsets, np.int64),
        timestamps_ms=np.array(offsets, np.int64),
        headers=None,
        ends={(TOPIC, partition): offset for partition, offset, _ in rows},
    )


def places(part: Batch | None) -> list[tuple[int, int]]:
    return [] if part is None else list(zip(part.partitions.tolist(), part.offsets.tolist(), strict=True))


def packed(partition: int, base: int, values: Sequence[bytes], keys: Sequence[bytes]) -> Packed:
    """One record batch, as the broker gives it out."""
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, 0, 1 << 24)
    for row, (value, key) in enumerate(zip(values, keys, strict=True)):
        builder.append(row, 1_700_000_000_000, key, value, [])
    data = base.to_bytes(8, "big") + bytes(builder.build())[8:]
    return Packed(SUBMISSION, packs_of(TopicPartition(TOPIC, partition), data, base, ())[0])
