"""The records of many record batches, uncompressed, one behind the other.

LZ4 is what most are compressed with, and the decoder of its frames takes 8 us for each, however small it is. Most
frames have a single block, and that takes 0.6 (the frame: lz4/doc/lz4_Frame_format.md). I/O: none.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

import cramjam

from streams.transport.compression import is_lz4, uncompressed

if TYPE_CHECKING:
    from collections.abc import Iterable

_HEADER: Final = struct.Struct("<IBBxI")
_MAGIC: Final = 0x184D2204
_INDEPENDENT, _HAS_BLOCK_SUMS = 0x60, 0x10
_UP_TO_64K: Final = 0x40
_END_BYTES, _SUM_BYTES = 4, 4

BLOCK_BYTES_MAX: Final = 1 << 16
_BUFFER_BYTES: Final = 1 << 18


def inflated(batches: Iterable[tuple[bytes, int]]) -> list[bytes]:
    """The records of batches, each given without its header and with its attributes; put together they are those of
    all, and each piece of them begins with a record.

    Raises as `uncompressed`. No sums are compared: the broker has compared its own, of all that it got.
    """
    whole: list[bytes] = []
    buffer, at = memoryview(bytearray(_BUFFER_BYTES)), 0
    for data, attributes in batches:
        block = _only_block(data) if is_lz4(attributes) else None
        if block is not None:
            if at > _BUFFER_BYTES - BLOCK_BYTES_MAX:
                whole.append(bytes(buffer[:at]))
                at = 0
            try:
                at += cramjam.lz4.decompress_block_into(block, buffer[at : at + BLOCK_BYTES_MAX])
            except cramjam.DecompressionError:  # the other decoder says so, or knows better
                pass
            else:
                continue
        whole += (bytes(buffer[:at]), uncompressed(data, attributes))
        at = 0
    return [piece for piece in (*whole, bytes(buffer[:at])) if piece]


def _only_block(frame: bytes) -> memoryview | None:
    """Of a frame that is made of a compressed block of the usual size, and of nothing else; None of any other."""
    if len(frame) < _HEADER.size:
        return None
    magic, flags, largest, size = _HEADER.unpack_from(frame)
    if magic != _MAGIC or largest != _UP_TO_64K or flags & ~_HAS_BLOCK_SUMS != _INDEPENDENT:
        return None
    end = _HEADER.size + size  # far behind the frame where the block is not compressed, as its highest bit says
    behind = _END_BYTES + (_SUM_BYTES if flags & _HAS_BLOCK_SUMS else 0)
    return memoryview(frame)[_HEADER.size : end] if end + behind == len(frame) else None
