"""Stand-ins for the clock, threads and event loop of a process, and their place in the product's modules.

The product's own code is untouched: `installed` puts them where its modules have imported the real ones. I/O: none.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import queue
import threading
from asyncio import futures
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from heapq import heappop
from typing import Any
from unittest import mock

from tests.simulation.world import T0_MS, Process, Signal, Thread, World, current


class Clock:
    """Takes the place of the module `time`. Monotonic time is the world's; wall time is skewed as the process is."""

    def __init__(self, world: World) -> None:
        self._world = world

    def monotonic(self) -> float:
        return self._world.now + 1.0

    def time_ns(self) -> int:
        process = current()
        skew_s = 0.0 if process is None else process.skew_s
        return T0_MS * 1_000_000 + int((self._world.now + skew_s) * 1e6) * 1000

    def time(self) -> float:
        return self.time_ns() / 1e9

    def sleep(self, seconds: float) -> None:
        until = self._world.now + seconds
        while self._world.now < until:
            self._world.block(Signal(), until - self._world.now)


class Queue:
    """Of the module `queue`: SimpleQueue, as far as it is used."""

    def __init__(self, world: World) -> None:
        self._world, self._items, self._came = world, deque[Any](), Signal()

    def put(self, item: Any) -> None:
        self._items.append(item)
        self._came.set()

    def get(self, timeout: float | None = None) -> Any:
        until = None if timeout is None else self._world.now + timeout
        while not self._items:
            if until is not None and self._world.now >= until:
                raise queue.Empty
            self._world.block(self._came, None if until is None else until - self._world.now)
        return self._items.popleft()

    def empty(self) -> bool:
        return not self._items


class Semaphore:
    """Of the module `threading`."""

    def __init__(self, world: World, value: int = 1) -> None:
        self._world, self._value, self._freed = world, value, Signal()

    def acquire(self, blocking: bool = True, timeout: float | None = None) -> bool:
        until = self._world.now if not blocking else None if timeout is None else self._world.now + timeout
        while self._value == 0:
            if until is not None and self._world.now >= until:
                return False
            self._world.block(self._freed, None if until is None else until - self._world.now)
        self._value -= 1
        return True

    def release(self) -> None:
        self._value += 1
        self._freed.set()


class Runner:
    """Of the module `threading`: Thread, in the process that starts it."""

    def __init__(
        self,
        world: World,
        target: Callable[..., object],
        name: str = "",
        args: tuple[Any, ...] = (),
        daemon: bool = True,
    ) -> None:
        self._world, self._name = world, name
        self._run: Callable[[], object] = lambda: target(*args)
        self._thread: Thread | None = None

    def start(self) -> None:
        process = current()
        if process is None:
            self._run()  # nobody else could run meanwhile
        else:
            self._thread = process.spawn(self._run, self._name)

    def join(self, timeout: float | None = None) -> None:
        until = None if timeout is None else self._world.now + timeout
        while self.is_alive() and (until is None or self._world.now < until):
            assert self._thread is not None
            self._world.block(self._thread.over, None if until is None else until - self._world.now)

    def is_alive(self) -> bool:
        return self._thread is not None and not self._thread.is_over


class Threading:
    """Takes the place of the module `threading`."""

    def __init__(self, world: World) -> None:
        self._world = world

    # Nothing waits for these two, and only one thread ever runs.
    Event, Lock = threading.Event, threading.Lock

    def Thread(self, *args: Any, **kwargs: Any) -> Runner:  # noqa: N802  the module's name
        return Runner(self._world, *args, **kwargs)

    def Semaphore(self, value: int = 1) -> Semaphore:  # noqa: N802  the module's name
        return Semaphore(self._world, value)


class Queues:
    """Takes the place of the module `queue`."""

    Empty = queue.Empty

    def __init__(self, world: World) -> None:
        self._world = world

    def SimpleQueue(self) -> Queue:  # noqa: N802  the module's name
        return Queue(self._world)


class Future(concurrent.futures.Future[Any]):
    """One whose `result` is waited for in the world's time."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world

    def result(self, timeout: float | None = None) -> Any:
        until = None if timeout is None else self._world.now + timeout
        came = Signal()
        self.add_done_callback(lambda _: came.set())
        while not self.done():
            if until is not None and self._world.now >= until:
                raise TimeoutError
            self._world.block(came, None if until is None else until - self._world.now)
        return super().result(0)


class _NoSelector:
    """There are no sockets: the loop of asyncio asks for events, and gets none."""

    def select(self, _timeout: float | None) -> list[Any]:
        return []

    def close(self) -> None:
        pass


class Loop(asyncio.BaseEventLoop):
    """asyncio's own loop, in the world's time, in a thread of a process."""

    def __init__(self, process: Process) -> None:
        super().__init__()
        self._selector = _NoSelector()
        self._process, self._world, self._wakened = process, process.world, Signal()
        process.loops.append(self)

    def time(self) -> float:
        return self._world.now

    def _process_events(self, event_list: list[Any]) -> None:
        pass

    def _write_to_self(self) -> None:
        """Called by other threads that have added a callback."""
        self._wakened.set()

    def call_soon(self, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        handle = super().call_soon(*args, **kwargs)
        self._wakened.set()
        return handle

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:  # type: ignore[override]
        answer = Future(self._world)

        def call() -> None:
            if answer.set_running_or_notify_cancel():
                try:
                    answer.set_result(func(*args))
                except Exception as error:  # noqa: BLE001  it is raised where the answer is awaited
                    answer.set_exception(error)

        self._process.spawn(call, "executor")
        return asyncio.wrap_future(answer, loop=self)

    def run_until_complete(self, future: Any) -> Any:
        task = asyncio.ensure_future(future, loop=self)
        while not task.done():
            self._await_due()
            asyncio._set_running_loop(self)
            try:
                self._run_once()  # type: ignore[attr-defined]
            finally:
                asyncio._set_running_loop(None)
        return task.result()

    def _await_due(self) -> None:
        while not self._ready:  # type: ignore[attr-defined]
            due = self._next_due()
            if due is not None and due <= self._world.now + self._clock_resolution:  # type: ignore[attr-defined]
                return
            self._world.block(self._wakened, None if due is None else due - self._world.now)

    def _next_due(self) -> float | None:
        scheduled: list[asyncio.TimerHandle] = self._scheduled  # type: ignore[attr-defined]
        while scheduled and scheduled[0].cancelled():
            self._timer_cancelled_count -= 1  # type: ignore[attr-defined]
            heappop(scheduled)._scheduled = False  # type: ignore[attr-defined]
        return scheduled[0].when() if scheduled else None


def loop_of_current() -> Loop:
    process = current()
    assert process is not None, "no simulated process runs"
    return Loop(process)


class Asyncio:
    """Takes the place of the module `asyncio` where it would start a loop, or wait for one from another thread."""

    def __init__(self, world: World) -> None:
        self._world = world

    def __getattr__(self, name: str) -> Any:
        return getattr(asyncio, name)

    def new_event_loop(self) -> Loop:
        return loop_of_current()

    def run(self, main: Coroutine[Any, Any, Any]) -> Any:
        loop = loop_of_current()
        try:
            return loop.run_until_complete(main)
        finally:
            left = asyncio.all_tasks(loop)
            for task in left:
                task.cancel()
            if left:
                loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))

    def run_coroutine_threadsafe(self, work: Coroutine[Any, Any, Any], loop: asyncio.AbstractEventLoop) -> Future:
        future = Future(self._world)
        loop.call_soon_threadsafe(lambda: futures._chain_future(asyncio.ensure_future(work, loop=loop), future))  # type: ignore[attr-defined]
        return future


@contextmanager
def replaced(*places: tuple[str, Any]) -> Iterator[None]:
    """Each place is the dotted path of a name in a module of the product, with what stands there meanwhile."""
    patches = [mock.patch(path, stand_in) for path, stand_in in places]
    for patch in patches:
        patch.start()
    try:
        yield
    finally:
        for patch in reversed(patches):
            patch.stop()
