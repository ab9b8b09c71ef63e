"""Threads that never keep a process from ending: for what may block for ever, be it an agent or a client library.

I/O: none but threads.
"""

from __future__ import annotations

import asyncio
import math
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from queue import SimpleQueue
from threading import get_ident
from typing import Any, TypeVar

T = TypeVar("T")

FRAMES_MAX = 8


class DaemonPool:
    """At most `threads_max` threads, started as they are needed; what finds none waits in order.

    The standard pool joins its threads when the interpreter ends, so that one call that hangs would keep the process.
    """

    def __init__(self, name: str, threads_max: int) -> None:
        self._name, self._threads_max = name, threads_max
        self._work: SimpleQueue[tuple[Future[Any], Callable[..., Any], tuple[Any, ...]] | None] = SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._started = 0
        self._running: dict[int, float] = {}
        """Since when each thread's call runs, on the monotonic clock."""

    def submit(self, call: Callable[..., T], *arguments: Any) -> Future[T]:
        """The future of a call; cancelling it before it starts keeps it from ever starting."""
        future: Future[T] = Future()
        self._work.put((future, call, arguments))
        if not self._idle.acquire(blocking=False) and self._started < self._threads_max:
            self._started += 1
            threading.Thread(target=self._serve, name=f"{self._name}-{self._started}", daemon=True).start()
        return future

    async def run(self, call: Callable[..., T], *arguments: Any) -> T:
        """As `submit`, awaited; cancelling the wait does not end a call that runs."""
        return await asyncio.wrap_future(self.submit(call, *arguments))

    def overdue(self, after_s: float) -> Iterator[tuple[float, str]]:
        """Each call that has run for longer than this: for how long, and where it stands, innermost last. Told once."""
        now = time.monotonic()
        for thread, began in list(self._running.items()):
            if now - began > after_s and (frame := sys._current_frames().get(thread)) is not None:  # noqa: SLF001
                self._running[thread] = math.inf
                yield now - began, "".join(traceback.format_stack(frame)[-FRAMES_MAX:])

    def close(self) -> None:
        """Lets idle threads end; a running call is left to itself."""
        for _ in range(self._started):
            self._work.put(None)

    def _serve(self) -> None:
        own = get_ident()
        while (item := self._work.get()) is not None:
            future, call, arguments = item
            if future.set_running_or_notify_cancel():
                self._running[own] = time.monotonic()
                try:
                    future.set_result(call(*arguments))
                except BaseException as error:  # noqa: BLE001  whoever waits for the future raises it
                    future.set_exception(error)
                self._running.pop(own, None)
            del future, call, arguments, item  # an idle thread holds nothing alive
            self._idle.release()


def has_ended(work: Future[Any], timeout_s: float = 0.0) -> bool:
    """Whether the work is over, after `timeout_s` at most. Raises what ended it, if it failed."""
    if not wait([work], timeout_s).done:
        return False
    work.result()
    return True
