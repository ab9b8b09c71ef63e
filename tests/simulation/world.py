"""Virtual time and everything that happens in it, one thing at a time, in an order that a seed decides.

A `Process` stands for one of the operating system: its threads are greenlets, so that it can be stopped, resumed and
killed wherever one of them waits or calls a client. The scheduler runs in the greenlet that calls `World.run`. I/O:
none.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from heapq import heappop, heappush
from random import Random
from typing import TYPE_CHECKING, Any

from greenlet import GreenletExit, getcurrent, greenlet

if TYPE_CHECKING:
    from tests.simulation.loops import Loop

T0_MS = 1_700_000_000_000
"""Wall time, in milliseconds, at which every world begins."""

TICK_S = 1e-6
"""The least that a wait takes: what is left of one may be too little for the clock to show."""

TRACE_MAX = 200_000


class Event(list[Any]):
    """Something that will happen, unless cancelled: when, in seconds of the world, its number, and what.

    A list, for the heap compares thousands of them in each run, and no two have the same number.
    """

    __slots__ = ()

    @property
    def when(self) -> float:
        return float(self[0])

    def cancel(self) -> None:
        self[2] = None


class Signal:
    """What threads wait for; `set` wakes those that wait now, and is forgotten."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: list[Thread] = []

    def add(self, thread: Thread) -> None:
        self._waiting.append(thread)

    def remove(self, thread: Thread) -> None:
        if self._waiting and thread in self._waiting:
            self._waiting.remove(thread)

    def set(self) -> None:
        if self._waiting:
            waiting, self._waiting = self._waiting, []
            for thread in waiting:
                thread.wake()


class World:
    """`now` is in seconds since T0_MS. All chance comes from `rng`."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = Random(seed)
        self.now = 0.0
        self.processes: list[Process] = []
        self.trace: list[str] | None = None
        self._heap: list[Event] = []
        self._made = 0
        self._is_closed = False

    def at(self, delay_s: float, act: Callable[[], object]) -> Event:
        """Things due at the same time happen in the order in which they were asked for."""
        self._made = number = self._made + 1
        event = Event((self.now + delay_s, number, act))
        heappush(self._heap, event)
        return event

    def now_ms(self) -> int:
        return T0_MS + int(self.now * 1000)

    def note(self, who: str, what: str) -> None:
        """A line of the trace, where one is kept."""
        if self.trace is not None and len(self.trace) < TRACE_MAX:
            self.trace.append(f"{self.now:10.4f}  {who:<12} {what}")

    def run(self, until_s: float, done: Callable[[], bool] | None = None) -> bool:
        """Lets things happen until `done`, which is asked after each, or that time; whether it was done."""
        heap = self._heap
        while done is None or not done():
            if not heap or heap[0][0] > until_s:
                self.now = max(self.now, until_s)
                return done is not None and done()
            when, _, act = heappop(heap)
            self.now = max(self.now, when)
            if act is not None:
                act()
        return True

    def block(self, signal: Signal, timeout_s: float | None) -> None:
        """The calling thread waits for the signal, `timeout_s` at most. Outside of any, the world goes on meanwhile."""
        thread = _THREADS.get(getcurrent())
        if thread is not None:
            thread.wait(signal, timeout_s)
            return
        if self._is_closed:
            raise GreenletExit  # what is unwound has nobody to wait for
        assert timeout_s is not None, "nobody else would end this wait"
        woken: list[bool] = []
        outsider = _Outsider(woken)
        signal.add(outsider)
        self.run(self.now + timeout_s, lambda: bool(woken))

    def close(self) -> None:
        """Ends whatever still runs."""
        self._is_closed = True
        for process in self.processes:
            process.kill()
            process.dispose()
        self._heap.clear()


class Process:
    """`main` runs in its first thread. `skew_s` is what its wall clock is ahead of the world's."""

    def __init__(self, world: World, name: str, main: Callable[[], object] | None = None, skew_s: float = 0.0) -> None:
        self.world, self.name, self.skew_s = world, name, skew_s
        self.is_alive, self.is_paused, self.was_paused = True, False, False
        self.error: BaseException | None = None
        self.on_point: Callable[[str], None] | None = None
        self.threads: list[Thread] = []
        self._held: deque[Callable[[], object]] = deque()
        self.loops: list[Loop] = []
        self.on_end: list[Callable[[], object]] = []
        world.processes.append(self)
        if main is not None:
            self.spawn(lambda: self._main(main), "main")

    def _main(self, main: Callable[[], object]) -> None:
        try:
            main()
        except GreenletExit:
            return
        except BaseException as error:  # noqa: BLE001  whoever supervises the process looks at it
            self.error = error
        self._ended("ended" if self.error is None else f"ended with {self.error!r}")

    def spawn(self, run: Callable[[], object], name: str) -> Thread:
        thread = Thread(self, run, name)
        self.threads.append(thread)
        thread.wake()
        return thread

    def later(self, delay_s: float, act: Callable[[], object]) -> Event:
        """As World.at, in a thread of the process that runs no code of ours: a client library's."""
        return self.world.at(delay_s, partial(self.do, act))

    def do(self, act: Callable[[], object]) -> None:
        """Now; when it is resumed, if it is stopped; never, if it is dead."""
        if not self.is_alive:
            return
        if self.is_paused:
            self._held.append(act)
            return
        act()

    def point(self, what: str) -> None:
        """A place in a client call at which the process may be killed or stopped: called by its threads."""
        if self.on_point is not None and self.is_alive:
            self.on_point(what)
        if not self.is_alive or self.is_paused:
            self._stand_still()

    def told(self, what: str) -> None:
        """As `point`, where no thread of the process runs: something became of what it sent."""
        if self.on_point is not None and self.is_alive:
            self.on_point(what)

    def _stand_still(self) -> None:
        thread = _THREADS.get(getcurrent())
        if thread is not None:
            thread.stand_still()

    def pause(self) -> None:
        """As SIGSTOP."""
        if self.is_alive and not self.is_paused:
            self.world.note(self.name, "STOPPED")
            self.is_paused = self.was_paused = True

    def resume(self) -> None:
        """As SIGCONT: what came in meanwhile is all there at once."""
        if not (self.is_alive and self.is_paused):
            return
        self.world.note(self.name, "RESUMED")
        self.is_paused = False
        held, self._held = self._held, deque()
        for act in held:
            self.world.at(0.0, partial(self.do, act))

    def kill(self) -> None:
        """As SIGKILL: not one instruction more."""
        if self.is_alive:
            self._ended("KILLED")

    def _ended(self, how: str) -> None:
        self.world.note(self.name, how)
        self.is_alive = False
        self._held.clear()
        for heard in self.on_end:
            heard()

    def dispose(self) -> None:
        """Unwinds what a dead process left on its stacks; nothing that it does there has an effect."""
        for thread in self.threads:
            thread.unwind()
        self.threads.clear()
        for loop in self.loops:
            _abandon(loop)
            loop.forget()
        self.loops.clear()


class Thread:
    """A greenlet of one process; it runs until it waits."""

    def __init__(self, process: Process, run: Callable[[], object], name: str) -> None:
        self.process, self.name = process, name
        self._run = run
        self._greenlet = greenlet(self._start)
        _THREADS[self._greenlet] = self
        self._is_due = False
        self.over = Signal()

    @property
    def is_over(self) -> bool:
        return bool(self._greenlet.dead)

    def _start(self) -> None:
        try:
            self._run()
        except GreenletExit:
            pass
        finally:
            _THREADS.pop(self._greenlet, None)
            self.over.set()

    def wake(self) -> None:
        if not self._is_due:
            self._is_due = True
            self.process.world.at(0.0, self._go_on)

    def _go_on(self) -> None:
        """As `Process.do`, of what happens most."""
        process = self.process
        if process.is_alive and not process.is_paused:
            self._resume()
        else:
            process.do(self._resume)

    def _wait_no_longer(self) -> None:
        if not self._is_due:
            self._is_due = True
            self._go_on()

    def _resume(self) -> None:
        self._is_due = False
        thread = self._greenlet
        if not thread.dead:
            here = getcurrent()
            if thread.parent is not here:
                thread.parent = here
            thread.switch()

    def wait(self, signal: Signal, timeout_s: float | None) -> None:
        process = self.process
        if not process.is_alive:
            raise GreenletExit
        signal.add(self)
        if timeout_s is None:
            self._away()
            signal.remove(self)
            return
        timer = process.world.at(max(0.0, timeout_s), self._wait_no_longer)
        self._away()
        signal.remove(self)
        timer.cancel()

    def stand_still(self) -> None:
        """Until the process is resumed; for ever, if it is dead."""
        if self.process.is_alive:
            self.wake()
        self._away()

    def _away(self) -> None:
        """To the scheduler and back; what asyncio knows of this operating system's thread is put aside meanwhile."""
        parent = self._greenlet.parent
        assert parent is not None
        loop = asyncio._get_running_loop()
        if loop is None:
            parent.switch()
            return
        task = asyncio.current_task(loop)
        if task is not None:
            asyncio.tasks._leave_task(loop, task)
        asyncio._set_running_loop(None)
        try:
            parent.switch()
        finally:
            asyncio._set_running_loop(loop)
            if task is not None:
                asyncio.tasks._enter_task(loop, task)

    def unwind(self) -> None:
        if self._greenlet.dead or not self._greenlet:
            _THREADS.pop(self._greenlet, None)
            return
        for _ in range(100):  # a handler that catches everything may wait again
            self._greenlet.parent = getcurrent()
            self._greenlet.throw(GreenletExit)
            if self._greenlet.dead:
                return
        raise AssertionError(f"{self.process.name}/{self.name} cannot be ended")


class _Outsider(Thread):
    """Whoever waits outside of any process."""

    def __init__(self, woken: list[bool]) -> None:
        self._woken = woken

    def wake(self) -> None:
        self._woken.append(True)


_THREADS: dict[Any, Thread] = {}


def current() -> Process | None:
    """The process whose thread runs now."""
    thread = _THREADS.get(getcurrent())
    return None if thread is None else thread.process


def _abandon(loop: Loop) -> None:
    """Drops what a dead process awaited, without a word from asyncio."""
    loop.set_exception_handler(lambda _loop, _context: None)
    for task in loop.pending():
        coroutine = task.get_coro()
        for _ in range(10):
            try:
                coroutine.close()
            except (RuntimeError, GreenletExit):  # it awaits again while it is closed, or runs
                continue
            except BaseException:  # noqa: BLE001  a dead process has nobody to tell
                pass
            break
        task._log_destroy_pending = False  # type: ignore[attr-defined]
