"""Links between processes that can be slowed, cut and silenced: TCP proxies on loopback, which rewrite nothing.

A link carries bytes both ways between whoever connects to it and one target. What is wrong with it is its `Trouble`; a
change applies to open connections, too. All links live in one event loop in a thread of its own, and are told what to
do from other threads. I/O: loopback sockets.
"""

from __future__ import annotations

import asyncio
import random
import socket
import threading
from collections import deque
from collections.abc import Coroutine
from concurrent.futures import Future
from dataclasses import dataclass
from enum import StrEnum
from types import TracebackType
from typing import Any, Self, TypeVar

T = TypeVar("T")
HOST = "127.0.0.1"
CALL_TIMEOUT_S = 10.0
HIGH_BYTES = 1024 * 1024  # what a delay holds back of one direction before the sender has to wait
ERROR_500 = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 16\r\nConnection: close\r\n\r\nfailed on order\n"


class Mode(StrEnum):
    """What a link does with bytes."""

    OPEN = "open"
    CUT = "cut"  # connections are reset, new ones refused
    SILENT = "silent"  # half-open: connections are taken, and stay; nothing passes
    ERRORS = "errors"  # of HTTP: each request is answered with status 500
    NO_ANSWERS = "no-answers"  # requests pass; where an answer comes the connection is reset instead


@dataclass(frozen=True, slots=True)
class Trouble:
    """A mode, and how late bytes pass each way: `delay_ms`, and up to `jitter_ms` more. They never overtake."""

    mode: Mode = Mode.OPEN
    delay_ms: float = 0.0
    jitter_ms: float = 0.0


SOUND = Trouble()


class Links:
    """Opens links, and runs them until `close`."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="chaos-links", daemon=True)
        self._thread.start()
        self._links: list[Link] = []

    def open(self, name: str, target: int, port: int = 0, seed: int = 0) -> Link:
        """A link to the loopback port `target`; listens on `port`, 0: a free one. Raises OSError where it is taken."""
        link = Link(self, name, target, seed)
        self.call(link.listen(port))
        self._links.append(link)
        return link

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Runs it in the loop and waits for it. Raises what it raises, TimeoutError after ten seconds."""
        job: Future[T] = asyncio.run_coroutine_threadsafe(work, self._loop)
        return job.result(CALL_TIMEOUT_S)

    def close(self) -> None:
        """Resets every connection; nothing listens any more."""
        if not self._thread.is_alive():
            return
        for link in self._links:
            self.call(link.shut())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CALL_TIMEOUT_S)
        self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Link:
    """One proxy. `port` is where it listens; it keeps that through every cut."""

    def __init__(self, links: Links, name: str, target: int, seed: int) -> None:
        self.name, self.target, self.port = name, target, 0
        self.trouble = SOUND
        self.carried_bytes = 0
        self.connections: set[_Connection] = set()
        self._links, self._draw = links, random.Random(f"{seed}/{name}")  # noqa: S311  a seed has to repeat it
        self._server: asyncio.Server | None = None

    def set(self, trouble: Trouble) -> None:
        """From now on; `SOUND` heals it."""
        self._links.call(self._set(trouble))

    def reset(self) -> None:
        """Resets what is connected now; new connections are taken as the mode says."""
        self._links.call(self._reset())

    def lateness_s(self) -> float:
        """Drawn for each piece of what passes."""
        trouble = self.trouble
        return (trouble.delay_ms + trouble.jitter_ms * self._draw.random()) / 1000

    async def listen(self, port: int) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Near(self), HOST, port, reuse_address=True)
        self.port = self._server.sockets[0].getsockname()[1]

    async def shut(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        await self._reset()

    async def _reset(self) -> None:
        for connection in list(self.connections):
            connection.abort()
        await asyncio.sleep(0)

    async def _set(self, trouble: Trouble) -> None:
        self.trouble = trouble
        if trouble.mode is Mode.CUT:
            await self.shut()
        elif self._server is None:
            await self.listen(self.port)
        for connection in list(self.connections):
            connection.heed()


class _Connection:
    """Two sockets and what is on its way between them."""

    def __init__(self, link: Link, near: asyncio.Transport) -> None:
        self.link, self.near = link, near
        self.far: asyncio.Transport | None = None
        self.outward, self.inward = _Way(link), _Way(link)
        link.connections.add(self)
        self.outward.source, self.inward.sink = near, near
        self.heed()
        self._dialling = asyncio.ensure_future(self._dial())

    def heed(self) -> None:
        """What is wrong with the link has changed."""
        silent = self.link.trouble.mode is Mode.SILENT
        self.outward.hold(silent=silent)
        self.inward.hold(silent=silent)

    def sent(self, data: bytes) -> None:
        """The near side has said something."""
        if self.link.trouble.mode is Mode.ERRORS:
            self.near.write(ERROR_500)
            self.near.close()
            return
        self.outward.put(data)

    def answered(self, data: bytes) -> None:
        """The target has said something."""
        if self.link.trouble.mode is Mode.NO_ANSWERS:
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
            self.far, _ = await loop.create_connection(lambda: _Far(self), HOST, self.link.target)
        except OSError:
            self.abort()
            return
        self.outward.sink, self.inward.source = self.far, self.far
        self.outward.flow()
        self.heed()


class _Way:
    """One direction: pieces in order, each due at a time."""

    def __init__(self, link: Link) -> None:
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


class _Near(asyncio.Protocol):
    """The side that connected."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._connection: _Connection | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._connection = _Connection(self._link, transport)

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


class _Far(asyncio.Protocol):
    """The target's side."""

    def __init__(self, connection: _Connection) -> None:
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
