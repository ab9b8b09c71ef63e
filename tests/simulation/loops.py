"""The event loop of a simulated process: asyncio's own, in the world's time, in a thread of the process.

I/O: none.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
from asyncio import futures
from collections import deque
from collections.abc import Coroutine
from heapq import heappop
from typing import Any

from tests.simulation.world import Process, Signal, World, current


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

    def call_soon(self, callback: Any, *args: Any, context: Any = None) -> asyncio.Handle:  # type: ignore[override]
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)  # type: ignore[attr-defined]
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
        """As asyncio's: rounds of what is ready, and of the timers that are due."""
        task = asyncio.ensure_future(future, loop=self)
        ready: deque[asyncio.Handle] = self._ready  # type: ignore[attr-defined]
        while not task.done():
            self._await_due()
            asyncio._set_running_loop(self)
            try:
                self._ready_what_is_due()
                for _ in range(len(ready)):
                    handle = ready.popleft()
                    if not handle._cancelled:
                        handle._run()
            finally:
                asyncio._set_running_loop(None)
        return task.result()

    def _ready_what_is_due(self) -> None:
        scheduled: list[asyncio.TimerHandle] = self._scheduled  # type: ignore[attr-defined]
        until = self._world.now + self._clock_resolution  # type: ignore[attr-defined]
        while scheduled and scheduled[0].when() <= until:
            handle = heappop(scheduled)
            handle._scheduled = False  # type: ignore[attr-defined]
            self._ready.append(handle)  # type: ignore[attr-defined]

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
