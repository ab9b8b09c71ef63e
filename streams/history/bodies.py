"""The body of an HTTP request or answer as bytes: sized or chunked, compressed or not, and never too long.

I/O: reads the connection.
"""

from __future__ import annotations

import gzip
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping
from email.message import Message
from typing import Any, Protocol

import lz4.frame  # type: ignore[import-untyped]

from streams.history.engine import fault

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

CHUNK_BYTES = 256 * 1024
BODY_BYTES_MAX = 1024**3
# What is no insert's data must fit in memory: a statement, or a form.
TEXT_BYTES_MAX = 64 * 1024**2
LINE_BYTES_MAX = 1024


class Stream(Protocol):
    """The readable end of a connection."""

    def read(self, size: int, /) -> bytes: ...
    def readline(self, size: int, /) -> bytes: ...


def read_body(headers: Message, stream: Stream) -> Iterator[bytes]:
    """The body's content, piece by piece, as it comes. The iterator raises EngineError for a body that is none."""
    return _bounded(_decoded(_raw_body(headers, stream), headers.get("Content-Encoding", "").lower()))


def gathered(body: Iterator[bytes], limit: int = TEXT_BYTES_MAX) -> bytes:
    """The whole body. Raises EngineError where it is longer than `limit` bytes."""
    parts, size = [], 0
    for chunk in body:
        size += len(chunk)
        if size > limit:
            raise fault(307, "TOO_MANY_BYTES", f"The statement is longer than {limit} bytes")
        parts.append(chunk)
    return b"".join(parts)


def _raw_body(headers: Message, stream: Stream) -> Iterator[bytes]:
    if "chunked" in headers.get("Transfer-Encoding", "").lower():
        return _chunked(stream)
    length = headers.get("Content-Length", "0")
    if not length.isdecimal():
        raise fault(381, "HTTP_LENGTH_REQUIRED", "Content-Length is not a number")
    return _sized(stream, int(length))


def _sized(stream: Stream, remaining: int) -> Iterator[bytes]:
    while remaining:
        chunk = stream.read(min(remaining, CHUNK_BYTES))
        if not chunk:
            raise fault(33, "CANNOT_READ_ALL_DATA", "The request's body ended early")
        remaining -= len(chunk)
        yield chunk


def _chunked(stream: Stream) -> Iterator[bytes]:
    while True:
        line = stream.readline(LINE_BYTES_MAX)
        try:
            size = int(line.split(b";", 1)[0].strip() or b"x", 16)
        except ValueError as error:
            raise fault(117, "INCORRECT_DATA", "The request's chunked body is malformed") from error
        if size == 0:
            break
        yield from _sized(stream, size)
        stream.readline(LINE_BYTES_MAX)
    while stream.readline(LINE_BYTES_MAX).strip():  # trailers
        pass


def _decoded(raw: Iterator[bytes], encoding: str) -> Iterator[bytes]:
    if encoding in ("", "identity"):
        return raw
    make = _DECOMPRESSORS.get(encoding)
    if make is None:
        raise fault(89, "UNKNOWN_COMPRESSION_METHOD", f"Unknown compression method: {encoding}")
    return _decompressed(raw, make)


class _Inflate:
    """zlib with the interface that the other decompressors have."""

    def __init__(self, window_bits: int) -> None:
        self._inflate = zlib.decompressobj(window_bits)
        self.needs_input = True

    @property
    def eof(self) -> bool:
        return self._inflate.eof

    @property
    def unused_data(self) -> bytes:
        return self._inflate.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        content = self._inflate.decompress(self._inflate.unconsumed_tail + data, max_length)
        self.needs_input = len(content) < max_length
        return content


_DECOMPRESSORS: Mapping[str, Callable[[], Any]] = {
    "lz4": lz4.frame.LZ4FrameDecompressor,
    "zstd": zstd.ZstdDecompressor,
    "gzip": lambda: _Inflate(zlib.MAX_WBITS | 16),
    "deflate": lambda: _Inflate(zlib.MAX_WBITS),
}


def _decompressed(raw: Iterator[bytes], make: Callable[[], Any]) -> Iterator[bytes]:
    """The contents of one frame after the other (clients compress each block on its own), never much at a time."""
    decompressor = make()
    begun = False
    try:
        for chunk in raw:
            data = chunk
            while data or not (decompressor.needs_input or decompressor.eof):
                begun = True
                yield decompressor.decompress(data, CHUNK_BYTES)
                data = b""
                if decompressor.eof:
                    data, decompressor, begun = decompressor.unused_data or b"", make(), False
    except (RuntimeError, zlib.error, zstd.ZstdError, EOFError) as error:
        raise fault(271, "CANNOT_DECOMPRESS", "The request's body cannot be decompressed") from error
    if begun:
        raise fault(271, "CANNOT_DECOMPRESS", "The request's compressed body ended early")


def _bounded(body: Iterator[bytes]) -> Iterator[bytes]:
    size = 0
    for chunk in body:
        size += len(chunk)
        if size > BODY_BYTES_MAX:
            raise fault(307, "TOO_MANY_BYTES", f"The request's body is longer than {BODY_BYTES_MAX} bytes")
        yield chunk


def encoded(body: bytes, accepted: str) -> tuple[bytes, str]:
    """The body in the first encoding of ours that the client takes, and that encoding's name ("" for none)."""
    names = [part.split(";")[0].strip().lower() for part in accepted.split(",")]
    if "lz4" in names:
        return lz4.frame.compress(body), "lz4"
    if "zstd" in names:
        return zstd.compress(body), "zstd"
    if "gzip" in names:
        return gzip.compress(body, 1), "gzip"
    if "deflate" in names:
        return zlib.compress(body, 1), "deflate"
    return body, ""
