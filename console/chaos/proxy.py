"""Links between processes that can be slowed, cut and silenced: TCP proxies on loopback, which rewrite nothing.

A link carries bytes both ways between whoever connects to it and one target. What is wrong with it is its `Trouble`; a
change applies to open connections, too. All links live in one event loop in a thread of its own, and are told what to
do from other threads. I/O: loopback sockets.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar

from console.chaos.carry import HOST, Connection, Mode, Near

__all__ = ["SOUND", "Link", "Links", "Mode", "Trouble"]

T = TypeVar("T")
CALL_TIMEOUT_S = 10.0


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
        self.connections: set[Connection] = set()
        self._links, self._draw = links, random.Random(f"{seed}/{name}")  # noqa: S311  a seed has to repeat it
        self._server: asyncio.Server | None = None

    @property
    def mode(self) -> Mode:
        return self.trouble.mode

    def set(self, trouble: Trouble) -> None:
        """From now on; `SOUND` heals it."""
        self._links.call(self._set(trouble))

    def lateness_s(self) -> float:
        """Drawn for each piece of what passes."""
        trouble = self.trouble
        return (trouble.delay_ms + trouble.jitter_ms * self._draw.random()) / 1000

    async def listen(self, port: int) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Near(self), HOST, port, reuse_address=True)
        self.port = self._server.sockets[0].getsockname()[1]

    async def shut(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
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
