"""One contract suite, two brokers: the session's real one, and the in-memory one of the simulation."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from functools import wraps
from typing import Any

import pytest

from tests.simulation.library import ADDRESS, installed
from tests.simulation.loops import Asyncio, loop_of_current
from tests.simulation.standins import Clock, Queues, Threading, replaced, waiter
from tests.simulation.wire import Cluster
from tests.simulation.world import Process, World

BROKERS = [pytest.param("kafka", marks=pytest.mark.broker), "memory"]
TIMED = (
    *("streams.transport.to_end.time", "streams.transport.requests.time", "streams.transport.producer.time"),
    *("streams.transport.fetches.time", "streams.transport.gathered.time", "streams.transport.packed_consumer.time"),
    "streams.transport.transactions.time",
    "tests.support.waiting.time",
)
PLAYED_S = 600.0
"""How long a test may take, in the time of the in-memory broker's world."""

_WORLDS: list[World] = []


@dataclass(frozen=True)
class Settings:
    """What clients need to know."""

    broker: str
    kafka: dict[str, str] = field(default_factory=dict)


def either(request: pytest.FixtureRequest, module: str) -> Iterator[str]:
    """The broker's address. Of the in-memory one time passes only while somebody waits: in the transport, and in the
    test's module, which has imported `time`, `ck` and AdminClient under these names, or not at all.
    """
    if request.param == "kafka":
        yield request.getfixturevalue("local_broker").address
        return
    world = World(seed=1)
    clock = Clock(world)
    test = request.module
    own: list[tuple[str, Any]] = [(f"{module}.time", clock)] if hasattr(test, "time") else []
    clients = (module,) if hasattr(test, "ck") else ()
    with installed(Cluster(world), *clients) as library:
        if hasattr(test, "AdminClient"):
            own.append((f"{module}.AdminClient", library.AdminClient))
        queues, pool = Queues(world), "streams.transport.threads"
        threads = [(f"{pool}.threading", Threading(world)), (f"{pool}.SimpleQueue", queues.SimpleQueue)]
        loops = "streams.transport.fetches.asyncio", Asyncio(world)
        with replaced(*own, *threads, loops, (f"{pool}.wait", waiter(world)), *((place, clock) for place in TIMED)):
            _WORLDS.append(world)
            yield ADDRESS
            world.close()
            _WORLDS.clear()


def in_process(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """For tests with an event loop and threads: on the in-memory broker both are those of a process of its world."""

    @wraps(test)
    def played(*args: Any, **kwargs: Any) -> None:
        if not _WORLDS:
            asyncio.run(test(*args, **kwargs))
            return
        (world,) = _WORLDS
        process = Process(
            world, "test", lambda: loop_of_current().run_until_complete(test(*args, **kwargs)), skew_s=0.0
        )
        assert world.run(PLAYED_S, lambda: not process.is_alive), "it waits for ever"
        if process.error is not None:
            raise process.error

    return played
