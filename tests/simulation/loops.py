"""The event loop of a simulated process: asyncio's own, in the world's time, in a thread of the process.

I/O: none.
"""

from __future__ import annotations

import _thread
import asyncio
import concurrent.futures
import contextvars
import weakref
from asyncio import futures
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures._base import CANCELLED, CANCELLED_AND_NOTIFIED, FINISHED, PENDING
from functools import partial
from heapq import heappop, heappush
from typing import Any

from tests.simulation.world import TICK_S, Process, Signal, World, current

TASKS_MAX = 64
"""Of a loop, before those that are done are forgotten."""


class _Lock(_thread.RLock):  # type: ignore[misc]
    """In the place of a condition, that nobody ever waits for."""

    def notify_all(self) -> None:
        pass


_CANCELLED = (CANCELLED, CANCELLED_AND_NOTIFIED)
_LOCK = _Lock()
"""Of all futures: only one thread ever runs."""


class Future(concurrent.futures.Future[Any]):
    """One whose `result` is waited for in the world's time."""

    def __init__(self, world: World) -> None:
        # As the real one does it, but for a lock of its own: there are hundreds of them in each run.
        self._condition, self._state = _LOCK, PENDING  # type: ignore[assignment]
        self._result, self._exception = None, None
        self._waiters, self._world = [], world
        self._done_callbacks: list[Callable[[concurrent.futures.Future[Any]], object]] = []

    def done(self) -> bool:
        return self._state is FINISHED or self._state in _CANCELLED

    def cancelled(self) -> bool:
        return self._state in _CANCELLED

    def add_done_callback(self, fn: Callable[[concurrent.futures.Future[Any]], object]) -> None:
        if self.done():
            fn(self)
        else:
            self._done_callbacks.append(fn)

    def _invoke_callbacks(self) -> None:
        """They are not kept: what holds what has ended would be the collector's."""
        told, self._done_callbacks = self._done_callbacks, []
        for tell in told:
            tell(self)

    def result(self, timeout: float | None = None) -> Any:
        until = None if timeout is None else self._world.now + timeout
        came = Signal()
        self.add_done_callback(lambda _: came.set())
        while not self.done():
            if until is not None and self._world.now >= until:
                raise TimeoutError
            self._world.block(came, None if until is None else until - self._world.now)
        return super().result(0)


class Handle(asyncio.Handle):
    """asyncio's, less what it notes down for a debugger."""

    __slots__ = ()

    def __init__(
        self, callback: Any, args: Any, loop: asyncio.AbstractEventLoop, context: contextvars.Context | None = None
    ) -> None:
        self._callback, self._args, self._loop = callback, args, loop
        self._context = contextvars.copy_context() if context is None else context
        self._cancelled, self._repr, self._source_traceback = False, None, None


class Timer(list[float]):
    """As asyncio's TimerHandle: a callback that is due at its only item. A list, for the heap compares them often."""

    __slots__ = ("_args", "_callback", "_cancelled", "_context")

    def __init__(self, when: float, callback: Any, args: Any, context: contextvars.Context | None) -> None:
        super().__init__((when,))
        self._callback, self._args, self._cancelled = callback, args, False
        self._context = contextvars.copy_context() if context is None else context

    def __hash__(self) -> int:  # type: ignore[override]
        return id(self)

    def when(self) -> float:
        return self[0]

    def cancelled(self) -> bool:
        return self._cancelled

    def cancel(self) -> None:
        self._cancelled, self._callback, self._args = True, None, ()


class Loop(asyncio.BaseEventLoop):
    """asyncio's own loop, in the world's time, in a thread of a process: its rounds and its timers are these, for it
    would ask its selector and the clock in each."""

    def __init__(self, process: Process) -> None:
        super().__init__()
        self._process, self._world, self._wakened = process, process.world, Signal()
        self._queue: deque[Handle | Timer] = deque()
        self._timers: list[Timer] = []
        self._tasks: list[weakref.ref[asyncio.Task[Any]]] = []
        process.loops.append(self)

    def time(self) -> float:
        return self._world.now

    def _process_events(self, event_list: list[Any]) -> None:
        pass

    def create_task(self, coro: Any, **given: Any) -> asyncio.Task[Any]:
        task = asyncio.Task(coro, loop=self, **given)
        if len(self._tasks) >= TASKS_MAX:
            self._tasks = [weakref.ref(each) for each in self.pending()]
        self._tasks.append(weakref.ref(task))
        return task

    def pending(self) -> list[asyncio.Task[Any]]:
        """As asyncio.all_tasks, of this loop alone, and in the order in which they were made."""
        return [task for each in self._tasks if (task := each()) is not None and not task.done()]

    def forget(self) -> None:
        """Nothing of it will run any more."""
        self._queue.clear()
        self._timers.clear()
        self._tasks.clear()

    def call_soon(self, callback: Any, *args: Any, context: Any = None) -> asyncio.Handle:  # type: ignore[override]
        handle = Handle(callback, args, self, context)
        self._queue.append(handle)
        self._wakened.set()
        return handle

    call_soon_threadsafe = call_soon  # type: ignore[assignment]

    def call_later(self, delay: float, callback: Any, *args: Any, context: Any = None) -> Any:  # type: ignore[override]
        return self.call_at(self._world.now + max(delay, TICK_S), callback, *args, context=context)

    def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> Any:  # type: ignore[override]
        timer = Timer(when, callback, args, context)
        heappush(self._timers, timer)
        return timer

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
        if asyncio._get_running_loop() is not None:
            raise RuntimeError("Cannot run the event loop while another loop is running")
        task = asyncio.ensure_future(future, loop=self)
        queue = self._queue
        asyncio._set_running_loop(self)
        try:
            while not task.done():
                self._await_due()
                for _ in range(len(queue)):
                    handle = queue.popleft()
                    if not handle._cancelled:
                        try:
                            handle._context.run(handle._callback, *handle._args)
                        except (SystemExit, KeyboardInterrupt):
                            raise
                        except BaseException as error:  # noqa: BLE001  as asyncio.Handle does it
                            self.call_exception_handler({"message": "a callback failed", "exception": error})
        finally:
            asyncio._set_running_loop(None)
        return task.result()

    def _await_due(self) -> None:
        """Until something is ready: what was called, and timers that are due behind it."""
        world, queue, timers = self._world, self._queue, self._timers
        while True:
            while timers and timers[0]._cancelled and not queue:
                heappop(timers)
            until = world.now + self._clock_resolution  # type: ignore[attr-defined]
            while timers and timers[0][0] <= until:
                timer = heappop(timers)
                if not timer._cancelled:
                    queue.append(timer)
            if queue:
                return
            if timers and timers[0]._cancelled:
                continue
            asyncio._set_running_loop(None)  # in this thread other processes go on meanwhile
            world.block(self._wakened, timers[0][0] - world.now if timers else None)
            asyncio._set_running_loop(self)


def loop_of_current() -> Loop:
    process = current()
    assert process is not None, "no simulated process runs"
    return Loop(process)


class Asyncio:
    """Takes the place of the module `asyncio` where it would start a loop, or wait for one from another thread."""

    def __init__(self, world: World) -> None:
        self.__dict__.update(_THE_REST)
        self._world = world

    def __getattr__(self, name: str) -> Any:
        return getattr(asyncio, name)

    def new_event_loop(self) -> Loop:
        """Of whoever runs; outside of any process, of the first one of the world, which stands for all outside."""
        return Loop(current() or self._world.processes[0])

    def run(self, main: Coroutine[Any, Any, Any]) -> Any:
        loop = loop_of_current()
        try:
            return loop.run_until_complete(main)
        finally:
            left = loop.pending()
            for task in left:
                task.cancel()
            if left:
                loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))

    def all_tasks(self, loop: Loop) -> list[asyncio.Task[Any]]:
        return loop.pending()

    def run_coroutine_threadsafe(self, work: Coroutine[Any, Any, Any], loop: asyncio.AbstractEventLoop) -> Future:
        future = Future(self._world)
        loop.call_soon_threadsafe(lambda: futures._chain_future(asyncio.ensure_future(work, loop=loop), future))  # type: ignore[attr-defined]
        return future

    def wrap_future(self, future: concurrent.futures.Future[Any]) -> asyncio.Future[Any]:
        """As asyncio's, of what a thread of the process is asked for."""
        loop = asyncio.get_running_loop()
        answer = loop.create_future()
        future.add_done_callback(partial(_pass_on, loop, answer))
        answer.add_done_callback(partial(_give_up, future))
        return answer


def _pass_on(
    loop: asyncio.AbstractEventLoop, answer: asyncio.Future[Any], future: concurrent.futures.Future[Any]
) -> None:
    loop.call_soon_threadsafe(futures._copy_future_state, future, answer)  # type: ignore[attr-defined]


def _give_up(future: concurrent.futures.Future[Any], answer: asyncio.Future[Any]) -> None:
    if answer.cancelled():
        future.cancel()


_THE_REST = {name: what for name, what in vars(asyncio).items() if name not in vars(Asyncio)}
"""Of asyncio: looked up in one step."""
