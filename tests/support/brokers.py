"""One contract suite, two brokers: the session's real one, and the in-memory one of the simulation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.simulation.library import ADDRESS, installed
from tests.simulation.standins import Clock, replaced
from tests.simulation.wire import Cluster
from tests.simulation.world import World

BROKERS = [pytest.param("kafka", marks=pytest.mark.broker), "memory"]
TIMED = ("streams.transport.consumer.time", "streams.transport.producer.time")


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
        with replaced(*own, *((place, clock) for place in TIMED)):
            yield ADDRESS
