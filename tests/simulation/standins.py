"""Stand-ins for the clock, threads and queues of a process, and their place in the product's modules.

The product's own code is untouched: `replaced` puts them where its modules have imported the real ones. I/O: none.
"""

from __future__ import annotations

import concurrent.futures
import queue
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pkgutil import resolve_name
from typing import Any

from tests.simulation.world import T0_MS, TICK_S, Signal, Thread, World, current


class Clock:
    """Takes the place of the module `time`. Monotonic time is the world's; wall time is skewed as the process is."""

    def __init__(self, world: World) -> None:
        self._world = world

    def monotonic(self) -> float:
        return self._world.now + 1.0

    perf_counter = monotonic

    def process_time(self) -> float:
        """A process that is always busy, with a quarter of a core."""
        return self._world.now / 4

    def time_ns(self) -> int:
        process = current()
        skew_s = 0.0 if process is None else process.skew_s
        return T0_MS * 1_000_000 + int((self._world.now + skew_s) * 1e6) * 1000

    def time(self) -> float:
        return self.time_ns() / 1e9

    def sleep(self, seconds: float) -> None:
        until = self._world.now + max(seconds, TICK_S)
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


class Event:
    """Of the module `threading`."""

    def __init__(self, world: World) -> None:
        self._world, self._is_set, self._came = world, False, Signal()

    def is_set(self) -> bool:
        return self._is_set

    def set(self) -> None:
        self._is_set = True
        self._came.set()

    def wait(self, timeout: float) -> bool:
        until = self._world.now + timeout
        while not self._is_set and self._world.now < until:
            self._world.block(self._came, until - self._world.now)
        return self._is_set


class Condition:
    """Of the module `threading`: only one thread ever runs, so there is nothing to lock."""

    def __init__(self, world: World) -> None:
        self._world, self._told = world, Signal()

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass

    def notify_all(self) -> None:
        self._told.set()

    def wait_for(self, predicate: Callable[[], bool], timeout: float) -> bool:
        until = self._world.now + timeout
        while not predicate():
            if self._world.now >= until:
                return False
            self._world.block(self._told, until - self._world.now)
        return True


class Threading:
    """Takes the place of the module `threading`."""

    def __init__(self, world: World) -> None:
        self._world = world

    # Only one thread ever runs, so nobody waits for it.
    Lock = threading.Lock

    def Condition(self) -> Condition:  # noqa: N802  the module's name
        return Condition(self._world)

    def Event(self) -> Event:  # noqa: N802  the module's name
        return Event(self._world)

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


def waiter(world: World) -> Callable[[Sequence[concurrent.futures.Future[Any]], float], Any]:
    """Takes the place of concurrent.futures.wait."""

    def wait(futures: Sequence[concurrent.futures.Future[Any]], timeout: float) -> Any:
        until, came = world.now + timeout, Signal()
        for each in futures:
            each.add_done_callback(lambda _: came.set())
        while world.now < until and not all(each.done() for each in futures):
            world.block(came, until - world.now)
        return concurrent.futures.wait(futures, 0)

    return wait


@contextmanager
def replaced(*places: tuple[str, Any]) -> Iterator[None]:
    """Each place is the dotted path of a name in a module of the product, with what stands there meanwhile.

    As unittest.mock's patch, which looks for each of a hundred modules anew.
    """
    undo: list[Callable[[], object]] = []
    try:
        for path, stand_in in places:
            owner, name = _found(path)
            is_its_own = name in vars(owner)
            real = vars(owner)[name] if is_its_own else getattr(owner, name)
            setattr(owner, name, stand_in)
            undo.append(partial(setattr, owner, name, real) if is_its_own else partial(delattr, owner, name))
        yield
    finally:
        for each in reversed(undo):
            each()


def _found(path: str) -> tuple[Any, str]:
    """What holds a name, and the name: a module, or something in one."""
    holder, _, name = path.rpartition(".")
    module = sys.modules.get(holder)
    return (resolve_name(holder) if module is None else module), name
