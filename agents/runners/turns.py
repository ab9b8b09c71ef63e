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
"""Where calls wait, and none was begun for this long, they get one more thread."""

CROWDED = 20
"""And so they do where as many of these times have passed without there being none that waits."""

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
        self._begun = 0  # calls, ever
        self._asleep: list[SimpleQueue[None]] = []  # what wakes each of the others; the last to fall asleep is warmest
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
            loop.call_later(PATIENCE_S, self._look, loop, self._begun, 1)
        return waiter

    @property
    def is_calling(self) -> bool:
        """Whether calls run or wait. As of a moment: nobody is kept from beginning or ending one."""
        return bool(self._waiting or self._calling)

    def _look(self, loop: asyncio.AbstractEventLoop, begun: int, looks: int) -> None:
        """The last look was when `begun` calls had been begun; since then those that wait now have waited for short
        ones, if there are more, and else for one that is not."""
        with self._lock:
            self._looks = bool(self._waiting)
            if self._looks and self._awake == self._calling and (self._begun == begun or looks >= CROWDED):
                self._wake()
                looks = 0
            begun = self._begun
        if self._looks:
            loop.call_later(PATIENCE_S, self._look, loop, begun, looks + 1)

    def _wake(self) -> None:
        self._awake += 1
        if self._asleep:
            self._asleep.pop().put(None)
        else:
            threading.Thread(target=self._serve, name="agents", daemon=True).start()

    def _serve(self) -> None:
        wake: SimpleQueue[None] = SimpleQueue()
        while True:
            while (each := self._next(wake)) is not None:
                self._make(each)
                del each  # an idle thread holds nothing alive
            try:
                wake.get(timeout=IDLE_S)
            except Empty:
                with self._lock:
                    if wake in self._asleep:  # else somebody has counted on this one by now
                        self._asleep.remove(wake)
                        return
                wake.get()

    def _next(self, wake: SimpleQueue[None]) -> _Call | None:
        """None where there is none: the thread falls asleep then, until `wake` has something."""
        with self._lock:
            if self._waiting:
                self._calling += 1
                self._begun += 1
                return self._waiting.popleft()
            self._awake -= 1
            self._asleep.append(wake)
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
