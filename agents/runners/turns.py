"""Threads for the calls of batch agents, which one thread makes one after the other as long as each is short.

A poll brings rows for a dozen agents. With a thread for each of them the host wakes a dozen threads, and each wakes the
host: on a machine that is busy that costs more than most calls. I/O: none but threads.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")

PATIENCE_S = 0.002
"""A call that has waited this long for those before it gets a thread of its own."""

IDLE_S = 60.0
"""A thread that had nothing to do for so long ends."""


class _Call(NamedTuple):
    lane: Lane
    waiter: asyncio.Future[Any]
    call: Callable[..., Any]
    arguments: tuple[Any, ...]


@dataclass(slots=True, eq=False, repr=False)
class Lane:
    """One agent's calls: no more than `running_max` of them have a thread, those that hang included."""

    running_max: int
    running: int = 0
    parked: deque[_Call] = field(default_factory=deque)


class CallThreads:
    """Belongs to one event loop, from its first call on. Its threads keep no process from ending."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[_Call] = deque()
        self._awake = 0  # threads that make calls until they find none
        self._calling = 0  # of these, those that are in one
        self._asleep = 0
        self._wakes: SimpleQueue[None] = SimpleQueue()
        self._done: deque[tuple[_Call, Any, BaseException | None]] = deque()
        self._is_told = self._looks = False

    def start(self, lane: Lane, call: Callable[..., T], *arguments: Any) -> asyncio.Future[T]:
        """What the call returns or raises. Cancelling that keeps it from starting, and does not end it later."""
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[T] = loop.create_future()
        with self._lock:
            each = _Call(lane, waiter, call, arguments)
            if lane.running >= lane.running_max:
                lane.parked.append(each)
            else:
                lane.running += 1
                self._waiting.append(each)
            if self._waiting and not self._awake:
                self._wake()
        if self._waiting and not self._looks:
            self._looks = True
            loop.call_later(PATIENCE_S, self._look, loop)
        return waiter

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        """What waits still, waits for a call that is not short."""
        with self._lock:
            self._looks = bool(self._waiting)
            for _ in range(self._awake - self._calling, len(self._waiting)):
                self._wake()
        if self._looks:
            loop.call_later(PATIENCE_S, self._look, loop)

    def _wake(self) -> None:
        self._awake += 1
        if self._asleep:
            self._asleep -= 1
            self._wakes.put(None)
        else:
            threading.Thread(target=self._serve, name="agents", daemon=True).start()

    def _serve(self) -> None:
        while True:
            while (each := self._next()) is not None:
                self._make(each)
                del each  # an idle thread holds nothing alive
            try:
                self._wakes.get(timeout=IDLE_S)
            except Empty:
                with self._lock:
                    if self._asleep:  # else somebody has counted on this one by now
                        self._asleep -= 1
                        return
                self._wakes.get()

    def _next(self) -> _Call | None:
        with self._lock:
            if self._waiting:
                self._calling += 1
                return self._waiting.popleft()
            self._awake -= 1
            self._asleep += 1
            return None

    def _make(self, each: _Call) -> None:
        answer, error = None, None
        try:
            if not each.waiter.cancelled():
                answer = each.call(*each.arguments)
        except BaseException as raised:  # noqa: BLE001  whoever waits for the call raises it
            error = raised
        with self._lock:
            self._calling -= 1
            if each.lane.parked:
                self._waiting.append(each.lane.parked.popleft())
            else:
                each.lane.running -= 1
        self._done.append((each, answer, error))
        if not self._is_told:
            self._is_told = True
            try:
                each.waiter.get_loop().call_soon_threadsafe(self._deliver)
            except RuntimeError:  # the loop has ended: nobody waits any more
                self._is_told = False

    def _deliver(self) -> None:
        self._is_told = False  # first: what is done from here on tells it again
        while self._done:
            (_, waiter, _, _), answer, error = self._done.popleft()
            if waiter.done():  # given up
                continue
            if error is None:
                waiter.set_result(answer)
            elif isinstance(error, StopIteration):  # a future takes none
                waiter.set_exception(RuntimeError("the call raised StopIteration"))
            else:
                waiter.set_exception(error)
