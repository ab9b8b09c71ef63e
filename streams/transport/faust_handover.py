"""What passes between the Faust driver's reader and other threads: batches to the event loop, requests to the reader.

I/O: none.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, NamedTuple, TypeVar

from streams.transport.batch import Batch
from streams.transport.clients import TransportError

T = TypeVar("T")

HANDED_OVER_MAX = 4


class Handed(NamedTuple):
    generation: int
    batch: Batch


class HandOver:
    """A bounded queue from the reader's thread to the event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._room = threading.Semaphore(HANDED_OVER_MAX)
        self._queue: asyncio.Queue[Handed] = asyncio.Queue()

    def __len__(self) -> int:
        return self._queue.qsize()

    def reserve(self, timeout_s: float) -> bool:
        """Whether there is room, after `timeout_s` at most; then one `put` must follow. The reader calls it."""
        return self._room.acquire(timeout=timeout_s)

    def put(self, handed: Handed) -> None:
        self._loop.call_soon_threadsafe(self._queue.put_nowait, handed)

    async def get(self) -> Handed:
        handed = await self._queue.get()
        self._room.release()
        return handed


class Requests:
    """Calls that the reader's thread makes on behalf of others."""

    def __init__(self) -> None:
        # None wakes the thread up.
        self._queue: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        # Keeps a request from slipping in behind the last one that is answered.
        self._lock, self._closed = threading.Lock(), False

    @property
    def are_none(self) -> bool:
        return self._queue.empty()

    def ask(self, request: Callable[[], T]) -> Future[T]:
        """Any thread. A request whose answer is cancelled in time is not made; after `close` none is."""
        answer: Future[T] = Future()

        def make() -> None:
            if not answer.set_running_or_notify_cancel():
                return
            if self._closed:
                answer.set_exception(TransportError("the consumer is closed"))
                return
            try:
                answer.set_result(request())
            except Exception as raised:  # noqa: BLE001 - it is raised where the answer is awaited
                answer.set_exception(raised)

        with self._lock:
            if not self._closed:
                self._queue.put(make)
                return answer
        make()
        return answer

    def answer(self) -> None:
        while not self._queue.empty():
            if (request := self._queue.get()) is not None:
                request()

    def answer_until(self, done: Future[Any], timeout_s: float) -> bool:
        """Answer requests until `done`; whether it is, after `timeout_s` at most."""
        done.add_done_callback(lambda _: self._queue.put(None))
        deadline = time.monotonic() + timeout_s
        while not done.done():
            try:
                request = self._queue.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                return False
            if request is not None:
                request()
        return True

    def close(self) -> None:
        """Answer what is left, and all that comes, with a TransportError."""
        with self._lock:
            self._closed = True
        self.answer()
