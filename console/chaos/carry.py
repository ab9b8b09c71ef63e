"""One connection through a link: two sockets, and what is on its way between them, in order and each piece in its time.

Everything here runs in the loop of the links. I/O: loopback sockets.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from enum import StrEnum
from typing import Protocol

HOST = "127.0.0.1"
HIGH_BYTES = 1024 * 1024  # what a delay holds back of one direction before the sender has to wait
ERROR_500 = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 16\r\nConnection: close\r\n\r\nfailed on order\n"


class Mode(StrEnum):
    """What a link does with bytes."""

    OPEN = "open"
    CUT = "cut"  # connections are reset, new ones refused
    SILENT = "silent"  # half-open: connections are taken, and stay; nothing passes
    ERRORS = "errors"  # of HTTP: each request is answered with status 500
    NO_ANSWERS = "no-answers"  # requests pass; where an answer comes the connection is reset instead


class Carrier(Protocol):
    """The link, as far as its connections know it."""

    target: int
    carried_bytes: int
    connections: set[Connection]

    @property
    def mode(self) -> Mode: ...

    def lateness_s(self) -> float: ...


class Connection:
    """Two sockets and what is on its way between them."""

    def __init__(self, link: Carrier, near: asyncio.Transport) -> None:
        self.link, self.near = link, near
        self.far: asyncio.Transport | None = None
        self.outward, self.inward = Way(link), Way(link)
        link.connections.add(self)
        self.outward.source, self.inward.sink = near, near
        self.heed()
        self._dialling = asyncio.ensure_future(self._dial())

    def heed(self) -> None:
        """What is wrong with the link has changed."""
        silent = self.link.mode is Mode.SILENT
        self.outward.hold(silent=silent)
        self.inward.hold(silent=silent)

    def sent(self, data: bytes) -> None:
        """The near side has said something."""
        if self.link.mode is Mode.ERRORS:
            self.near.write(ERROR_500)
            self.near.close()
            return
        self.outward.put(data)

    def answered(self, data: bytes) -> None:
        """The target has said something."""
        if self.link.mode is Mode.NO_ANSWERS:
            self.abort()
            return
        self.inward.put(data)

    def abort(self) -> None:
        self.link.connections.discard(self)
        self._dialling.cancel()
        for transport in (self.near, self.far):
            if transport is not None:
                _reset_on_close(transport)
                transport.abort()

    def ended(self, by: asyncio.BaseTransport) -> None:
        """One side is gone: what it had said still passes, then the other side ends, too."""
        self.link.connections.discard(self)
        if by is self.near:
            self.outward.finish()
            if self.far is None:
                self._dialling.cancel()
        else:
            self.inward.finish()

    async def _dial(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            self.far, _ = await loop.create_connection(lambda: Far(self), HOST, self.link.target)
        except OSError:
            self.abort()
            return
        self.outward.sink, self.inward.source = self.far, self.far
        self.outward.flow()
        self.heed()


class Way:
    """One direction: pieces in order, each due at a time."""

    def __init__(self, link: Carrier) -> None:
        self.source: asyncio.Transport | None = None
        self.sink: asyncio.Transport | None = None
        self._link = link
        self._pieces: deque[tuple[float, bytes]] = deque()
        self._held_bytes = 0
        self._silent = self._stuck = self._finished = False
        self._timer: asyncio.TimerHandle | None = None

    def put(self, data: bytes) -> None:
        now = asyncio.get_running_loop().time()
        due = max(now + self._link.lateness_s(), self._pieces[-1][0] if self._pieces else 0.0)
        self._pieces.append((due, data))
        self._held_bytes += len(data)
        self.flow()
        self._brake()

    def hold(self, *, silent: bool) -> None:
        """Nothing passes while it is silent; the sender notices only that nobody takes what it sends."""
        self._silent = silent
        self._brake()
        if not silent:
            self.flow()

    def stuck(self, *, stuck: bool) -> None:
        """Whether the receiver does not keep up."""
        self._stuck = stuck
        self._brake()

    def finish(self) -> None:
        self._finished = True
        self.flow()

    def flow(self) -> None:
        """Passes what is due."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.sink is None or self._silent:
            return
        now = asyncio.get_running_loop().time()
        while self._pieces and self._pieces[0][0] <= now:
            _, data = self._pieces.popleft()
            self._held_bytes -= len(data)
            self._link.carried_bytes += len(data)
            self.sink.write(data)
        if self._pieces:
            self._timer = asyncio.get_running_loop().call_at(self._pieces[0][0], self._flow_on)
        elif self._finished:
            self.sink.close()

    def _flow_on(self) -> None:
        self.flow()
        self._brake()

    def _brake(self) -> None:
        if self.source is None or self.source.is_closing():
            return
        if self._silent or self._stuck or self._held_bytes > HIGH_BYTES:
            self.source.pause_reading()
        else:
            self.source.resume_reading()


class Near(asyncio.Protocol):
    """The side that connected."""

    def __init__(self, link: Carrier) -> None:
        self._link = link
        self._connection: Connection | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._connection = Connection(self._link, transport)

    def data_received(self, data: bytes) -> None:
        assert self._connection is not None
        self._connection.sent(data)

    def pause_writing(self) -> None:
        if self._connection is not None:
            self._connection.inward.stuck(stuck=True)

    def resume_writing(self) -> None:
        if self._connection is not None:
            self._connection.inward.stuck(stuck=False)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  as asyncio calls it
        if self._connection is not None:
            self._connection.ended(self._connection.near)


class Far(asyncio.Protocol):
    """The target's side."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._connection.far = transport

    def data_received(self, data: bytes) -> None:
        self._connection.answered(data)

    def pause_writing(self) -> None:
        self._connection.outward.stuck(stuck=True)

    def resume_writing(self) -> None:
        self._connection.outward.stuck(stuck=False)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  as asyncio calls it
        if self._connection.far is not None:
            self._connection.ended(self._connection.far)


def _reset_on_close(transport: asyncio.Transport) -> None:
    """The other end gets a reset, as from a machine that is gone, and no orderly end."""
    opened: socket.socket | None = transport.get_extra_info("socket")
    if opened is not None and opened.fileno() >= 0:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
