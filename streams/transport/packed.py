"""Records as the broker has them: packed in record batches, to be decoded together instead of one by one.

I/O: none.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from aiokafka.record.memory_records import MemoryRecords

from schemas.envelope import opened
from streams.transport.batch import Batch, TopicPartition, merged
from streams.transport.compression import uncompressed
from streams.transport.inflate import inflated

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    import numpy.typing as npt

# kafka.apache.org/documentation, "Record Batch": base offset, length, leader epoch, format, sum, attributes, last
# offset's delta, first and last time, producer id and epoch, its number, count.
_HEADER: Final = struct.Struct(">qiibIhiqqqhii")
_FROM_LENGTH: Final = 12
_FORMAT: Final = 2
_APPEND_TIME, _TRANSACTIONAL, _CONTROL = 0x08, 0x10, 0x20
_ABORT_KEY: Final = b"\0\0\0\0"
"""The key of a marker that ends a transaction: version and kind, of which nought is an abort."""


@dataclass(slots=True, eq=False)
class Pack:
    """One record batch of a topic-partition, header and all; of its records those from offset `start` on are wanted.

    Times are in ms since the epoch. Not frozen, as many are made: that would take three times as long.
    """

    tp: TopicPartition
    data: bytes
    start: int
    base: int
    end: int
    attributes: int
    first_ms: int
    last_ms: int
    producer_id: int
    rows: int

    @property
    def is_control(self) -> bool:
        return bool(self.attributes & _CONTROL)

    @property
    def is_abort(self) -> bool:
        return self.is_control and next(iter(self)).key[:4] == _ABORT_KEY

    @property
    def is_transactional(self) -> bool:
        return bool(self.attributes & _TRANSACTIONAL)

    @property
    def has_append_time(self) -> bool:
        """Whether all its records have the time at which the broker took them, `last_ms`."""
        return bool(self.attributes & _APPEND_TIME)

    def records(self) -> bytes:
        """The records without the header, uncompressed."""
        return uncompressed(self.body, self.attributes)

    @property
    def body(self) -> bytes:
        """The records without the header, as they are."""
        return self.data[_HEADER.size :]

    def __iter__(self) -> Iterator[Any]:
        """Its records, one by one, as aiokafka has them."""
        batch = MemoryRecords(self.data).next_batch()
        return iter(batch if batch is not None else ())


@dataclass(frozen=True, slots=True)
class Packed:
    """Record batches of one channel, in the order in which they were read."""

    channel: str
    packs: Sequence[Pack]

    def __len__(self) -> int:
        """Records, those before a `start` included."""
        return sum(self.rows())

    def next_positions(self) -> dict[TopicPartition, int]:
        """Offset of the next record to read of each topic-partition, once all this is done."""
        return {pack.tp: pack.end for pack in self.packs}

    def topics(self) -> list[str]:
        """The topic of each pack."""
        return [pack.tp.topic for pack in self.packs]

    def rows(self) -> list[int]:
        """How many records each pack has."""
        return [pack.rows for pack in self.packs]

    def records(self) -> list[bytes]:
        """The records of all packs without their headers, uncompressed; not as many pieces as there are packs."""
        return inflated((pack.body, pack.attributes) for pack in self.packs)

    def each(self, of_pack: Callable[[Pack], int]) -> npt.NDArray[np.int64]:
        """Of each record, what its pack says."""
        return np.repeat(np.array([of_pack(pack) for pack in self.packs], np.int64), self.rows())

    def unpacked(self) -> Batch:
        """The same records, those before a `start` left out.

        Where all of them have keys and values, and none has headers, they are taken apart in one call; else those
        packs where that is so, and the others record by record.
        """
        whole = self._opened()
        if whole is None and len(self.packs) > 1:
            return merged([Packed(self.channel, [pack]).unpacked() for pack in self.packs])
        return self.one_by_one() if whole is None else whole

    def _opened(self) -> Batch | None:
        found = opened(self.records(), len(self))
        if found is None:
            return None
        times_ms = self.each(lambda pack: pack.last_ms if pack.has_append_time else pack.first_ms)
        in_batch = self.each(lambda pack: not pack.has_append_time)
        batch = Batch(
            channel=self.channel,
            values=found.values,  # type: ignore[arg-type]  # of a list of its own
            keys=found.keys,  # type: ignore[arg-type]
            topics=[topic for pack in self.packs for topic in [pack.tp.topic] * pack.rows],
            partitions=self.each(lambda pack: pack.tp.partition).astype(np.int32),
            offsets=self.each(lambda pack: pack.base) + found.offset_deltas,
            timestamps_ms=times_ms + found.time_deltas * in_batch,
            headers=None,
            ends=self._ends(),
        )
        wanted = batch.offsets >= self.each(lambda pack: pack.start)
        if wanted.all():
            return batch
        rest = batch.take(np.flatnonzero(wanted))
        rest.ends = batch.ends
        return rest

    def one_by_one(self) -> Batch:
        """As `unpacked`, which this is the measure of."""
        found = [(pack, record) for pack in self.packs for record in pack if record.offset >= pack.start]
        headers = [record.headers for _, record in found]
        return Batch(
            channel=self.channel,
            values=[record.value for _, record in found],
            keys=[record.key for _, record in found],
            topics=[pack.tp.topic for pack, _ in found],
            partitions=np.array([pack.tp.partition for pack, _ in found], np.int32),
            offsets=np.array([record.offset for _, record in found], np.int64),
            timestamps_ms=np.array([record.timestamp for _, record in found], np.int64),
            headers=headers if any(headers) else None,
            ends=self._ends(),
        )

    def _ends(self) -> dict[tuple[str, int], int]:
        return {tp: end - 1 for tp, end in self.next_positions().items()}


def packs_of(
    tp: TopicPartition, data: bytes, start: int, aborted: Iterable[tuple[int, int]] | None
) -> tuple[list[Pack], int]:
    """The record batches of a fetch's answer that hold something of ours, and the offset to go on from.

    `aborted` are transactions that were, as the broker names them: the producer's id and the first offset of each;
    what they wrote is left out, as are the markers of transactions (KIP-98). Of a batch that was cut off there is
    nothing. Raises ValueError for a format older than Kafka 0.11.
    """
    place, at = 0, start
    ahead = sorted(((first, producer) for producer, first in aborted or ()), reverse=True)
    gone: set[int] = set()
    found: list[Pack] = []
    while place + _HEADER.size <= len(data):
        header = _HEADER.unpack_from(data, place)
        base, length, _, magic, _, attributes, delta, first_ms, last_ms, producer_id, _, _, rows = header
        stop = place + _FROM_LENGTH + length
        if stop > len(data):
            break
        if magic != _FORMAT:
            raise ValueError(f"a record batch of format {magic}")
        end = base + delta + 1
        pack = Pack(tp, data[place:stop], start, base, end, attributes, first_ms, last_ms, producer_id, rows)
        place = stop
        while ahead and ahead[-1][0] < pack.end:
            gone.add(ahead.pop()[1])
        if pack.is_control:
            if pack.is_abort:
                gone.discard(producer_id)
        elif rows and end > start and not (gone and pack.is_transactional and producer_id in gone):
            found.append(pack)
        at = max(at, end)
    return found, at
