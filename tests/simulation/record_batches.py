"""Record batches of the in-memory broker's log as bytes, as a broker has them on its disk.

kafka.apache.org/documentation, "Record Batch" and "Record". I/O: none.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from aiokafka.codec import lz4_encode
from aiokafka.record.util import calc_crc32c

from tests.simulation.log import Partition, Record, State

_HEAD = struct.Struct(">qiibI")
"""Base offset, length from the leader's epoch on, that epoch, format, sum."""
_SUMMED = struct.Struct(">hiqqqhii")
"""Attributes, last offset's delta, first and last time, producer id and epoch, its number, count."""
_BEFORE_EPOCH = 12
_LZ4, _APPEND_TIME, _TRANSACTIONAL, _CONTROL = 0x03, 0x08, 0x10, 0x20
_IN_TRANSACTIONS = (State.OPEN, State.COMMITTED, State.ABORTED)
WAITED_MS = 40
"""How long before it was appended a batch was begun, by its producer's clock."""


class RecordBatches:
    """Of one log; each batch is written once. `has_append_time`: as the topic's `message.timestamp.type`."""

    def __init__(self, partition: Partition, *, has_append_time: bool) -> None:
        self.partition, self._has_append_time = partition, has_append_time
        self._ends: dict[int, int] = {}
        self._written: dict[tuple[int, int], bytes] = {}

    def read(self, position: int, until: int, bytes_max: int, *, at_least_one: bool) -> bytes:
        """Whole batches from the one on that holds `position`, as many as there is room for."""
        found: list[bytes] = []
        size = 0
        records = self.partition.records
        at = records[position].first if position < until else until
        while at < until:
            stop = self._end(at)
            batch = self._batch(at, stop)
            if batch and size + len(batch) > bytes_max and not (at_least_one and not found):
                break
            if batch:
                found.append(batch)
                size += len(batch)
            at = stop
        return b"".join(found)

    def aborted(self, position: int, until: int) -> list[tuple[int, int]]:
        """Producer and first offset of the transactions that were, of which there may be something between the two."""
        return [
            (producer, first)
            for producer, first, marker in self.partition.aborted
            if marker >= position and first < until
        ]

    def _end(self, first: int) -> int:
        """Behind the batch that begins there: once there, it stays as long as it is."""
        found = self._ends.get(first)
        if found is None:
            records, found = self.partition.records, first + 1
            while found < len(records) and records[found].first == first:
                found += 1
            self._ends[first] = found
        return found

    def _batch(self, first: int, stop: int) -> bytes:
        """Nothing, where compaction has left nothing; what it has left keeps its place, and the batch its ends."""
        rows = [record for record in self.partition.records[first:stop] if record.state is not State.COMPACTED]
        if not rows:
            return b""
        known = self._written.get((first, len(rows)))
        if known is None:
            known = self._written[first, len(rows)] = encoded(rows, first, stop, has_append_time=self._has_append_time)
        return known


def encoded(rows: Sequence[Record], first: int, stop: int, *, has_append_time: bool) -> bytes:
    """One batch that begins with `first` and ends before `stop`. Each second one is compressed."""
    one = rows[0]
    appended_ms = max(record.timestamp_ms for record in rows)
    begun_ms = appended_ms - WAITED_MS if has_append_time else one.timestamp_ms
    attributes = _APPEND_TIME if has_append_time else 0
    if one.state in _IN_TRANSACTIONS:
        attributes |= _TRANSACTIONAL
    body = b"".join(_record(record, record.timestamp_ms - begun_ms, record.offset - first) for record in rows)
    if one.state is State.MARKER:
        attributes |= _TRANSACTIONAL | _CONTROL
    elif first % 2:
        attributes, body = attributes | _LZ4, lz4_encode(body)
    producer, epoch = (-1, -1) if one.producer is None else one.producer
    summed = _SUMMED.pack(attributes, stop - first - 1, begun_ms, appended_ms, producer, epoch, -1, len(rows)) + body
    length = _HEAD.size + len(summed) - _BEFORE_EPOCH
    return _HEAD.pack(first, length, -1, 2, calc_crc32c(summed)) + summed


def _record(record: Record, time_delta: int, offset_delta: int) -> bytes:
    parts = [b"\0", _varint(time_delta), _varint(offset_delta), *_text(record.key), *_text(record.value)]
    parts.append(_varint(len(record.headers)))
    for name, value in record.headers:
        parts += (*_text(name.encode()), *_text(value))
    inner = b"".join(parts)
    return _varint(len(inner)) + inner


def _text(value: bytes | None) -> tuple[bytes, bytes]:
    return (_varint(-1), b"") if value is None else (_varint(len(value)), value)


def _varint(number: int) -> bytes:
    """Zigzag, as of Protocol Buffers."""
    left = (number << 1) ^ (number >> 63)
    found = bytearray()
    while left >= 0x80:
        found.append((left & 0x7F) | 0x80)
        left >>= 7
    found.append(left)
    return bytes(found)
