"""A whole deployment in one thread: the real worker and host processes, on the in-memory broker and in virtual time.

What is real: everything that `run_worker` and `run_host` run, down to the calls of the client library: codec, core,
processors, cuts, recovery, the driver with its reader thread, the host with its threads. What stands in: the library
and the broker behind it, Faust's app (faust_app.py), the clock and the threads (standins.py), the agents' code
(agents.py). I/O: none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

from agents.process import run_host
from schemas.settings import Settings
from schemas.topology import Topology
from streams.app import run_worker
from streams.core.swift import ROWS_MIN
from streams.history.process import run_store
from tests.simulation.faust_app import maker
from tests.simulation.fetching import Room
from tests.simulation.house import Client, House
from tests.simulation.library import ADDRESS, installed
from tests.simulation.loops import Asyncio, Future
from tests.simulation.shared import shared
from tests.simulation.standins import Clock, Event, Queues, Threading, replaced, waiter
from tests.simulation.wire import Cluster
from tests.simulation.world import Process

SETTINGS = Settings(broker=ADDRESS)
SLOTTED = {
    name: Settings(broker=ADDRESS, worker_slot=name, host_slot=name, kafka={"session.timeout.ms": "6000"})
    for name in (f"{kind}{number}" for kind in "wh" for number in range(1, 10))
}
"""Of workers and hosts that have a slot: who is started again in it is the same member of the group, and fences its
former self. Who does not come back holds its partitions for no longer than others do: a task's time is short here."""

RESTART_S = 0.5
"""How long after its end a supervisor starts a process again."""

_TIMED = (
    *("streams.transport.to_end", "streams.transport.requests", "streams.transport.producer"),
    *("streams.transport.faust_reader", "streams.transport.faust_sources", "streams.transport.gathering"),
    *("streams.transport.fetches", "streams.transport.gathered", "streams.transport.packed_consumer"),
    *("streams.transport.turn_producer", "streams.transport.sender"),
    *("streams.transport.faust_handover", "streams.transport.faust_driver", "streams.transport.transactions"),
    *("streams.processors.worker", "streams.processors.cuts", "streams.app"),
    *("agents.host", "agents.regulation", "agents.tenure", "agents.service", "agents.calls"),
    *("streams.transport.pauses", "streams.transport.threads"),
    *("streams.history.sink", "streams.history.commits", "streams.history.loader"),
)
_THREADED = (
    *("streams.transport.bounded", "streams.transport.faust_reader", "streams.transport.faust_handover"),
    *("streams.transport.threads", "streams.transport.compacted", "streams.history.loader"),
    *("streams.transport.sender", "streams.transport.parcels"),
)
_LOOPED = (
    *("streams.app", "agents.process", "agents.host", "agents.tenure"),
    *("streams.transport.sender", "streams.transport.fetches"),
)
_READERS = (
    *("streams.history.sink", "agents.process", "streams.transport.faust_sources"),
    "streams.transport.packed_reader",
)
# Idle rounds cost more than anything else in a world that does little.
_COARSE = (
    ("streams.app.STOP_POLL_S", 0.5),
    ("streams.transport.compacted.POLL_S", 0.5),
    ("streams.processors.worker.TICK_S", 0.2),
    ("streams.transport.faust_reader._SLICE_S", 0.2),
    ("agents.event_log.POLL_S", 0.02),
    ("agents.host.STOP_POLL_S", 0.5),
    ("agents.process.FIRST_S", 0.1),
    ("agents.regulation.POLL_S", 0.02),
    ("streams.history.sink.POLL_S", 0.5),
)


@contextmanager
def staged(
    cluster: Cluster, topology: Topology, house: House, *, has_turns: bool = False, fetches: Room | None = None
) -> Iterator[None]:
    """Within it, processes of the deployment run in the cluster's world, and keep their history in this house.

    `has_turns`: their producer is the product's own, where it would be (tests/simulation/turns.py). `fetches`: they
    read whole record batches, where they would (tests/simulation/fetching.py), with so much room in an answer; else
    through librdkafka's consumer.
    """
    world = cluster.world
    clock, threads, queues, loops = Clock(world), Threading(world), Queues(world), Asyncio(world)
    places: list[tuple[str, Any]] = [(f"{module}.time", clock) for module in _TIMED]
    places += [(f"{module}.threading", threads) for module in _THREADED]
    places += [(f"streams.transport.{module}.queue", queues) for module in ("faust_reader", "faust_handover")]
    places += [("streams.transport.threads.SimpleQueue", queues.SimpleQueue)]
    places += [
        ("streams.transport.threads.Future", partial(Future, world)),
        ("streams.transport.threads.asyncio", loops),
    ]
    places += [("streams.transport.threads.wait", waiter(world))]
    places += [(f"{module}.asyncio", loops) for module in _LOOPED]
    places += [("streams.app.make_app", maker(world.rng))]
    # Batches are small here, and columns are what shall be tried most.
    places += [("streams.core.swift.ROWS_MIN", world.rng.choice((1, 1, ROWS_MIN)))]
    places += [("streams.history.process.connect", lambda *_, **__: Client(house))]
    # The tables are there; tests/contract/test_history_migrations.py shows that they can be made.
    places += [("streams.history.process._prepare", lambda prepared, _: prepared())]
    places += [(f"streams.history.process.{name}", lambda *_, **__: None) for name in ("migrate", "own", "retain")]
    if fetches is None:
        places += [(f"{module}.can_fetch", lambda *_: False) for module in _READERS]
    else:
        places += [(f"streams.transport.fetches.{name}", most) for name, most in fetches._asdict().items()]
    # There is one collector, and `tests.simulation.__main__` calms it once.
    places += [("streams.app.calm_collector", lambda: None)]
    places += shared(topology)
    places += _COARSE
    for spec in topology.topics().specs():
        settings = {"message.timestamp.type": "LogAppendTime", "cleanup.policy": spec.cleanup}
        cluster.broker.create(spec.name, spec.partitions, settings)
    with installed(cluster, has_turns=has_turns), replaced(*places):
        yield


RUN: Mapping[str, Callable[..., None]] = {
    "worker": run_worker,
    "host": run_host,
    "store": lambda settings, topology, **given: run_store(settings, topology, None, **given),
}
"""What each kind of process runs."""


class Slot:
    """One place for a process: whoever sits in it is started again when it ends, until `retire`."""

    def __init__(self, deployment: Deployment, kind: str, name: str) -> None:
        self._deployment, self.kind, self.name = deployment, kind, name
        self._stop: Event
        self._starts = 0
        self.is_wanted = True
        self.process: Process
        self.start()

    @property
    def is_ready(self) -> bool:
        return self.process.is_alive and self._ready

    def start(self) -> None:
        world = self._deployment.cluster.world
        self._starts += 1
        self._ready = False
        stop = self._stop = Event(world)
        run = RUN[self.kind]
        name = f"{self.name}.{self._starts}"
        skew_s = world.rng.uniform(-self._deployment.skew_s, self._deployment.skew_s)
        settings = SLOTTED[self.name] if self._deployment.has_slots and self.name in SLOTTED else SETTINGS

        def main() -> None:
            run(settings, self._deployment.topology, ready=self._say_ready, stop=stop)

        world.note(name, "started")
        self.process = Process(world, name, main, skew_s)
        self.process.on_point = self._deployment.on_point and self._deployment.on_point(self)
        self.process.on_end.append(self._ended)

    def _say_ready(self, _facts: Mapping[str, object]) -> None:
        self._ready = True

    def _ended(self) -> None:
        process = self.process
        if process.error is not None:
            self._deployment.failures.append((process.name, process.error))
        if self.is_wanted:
            delay_s = RESTART_S * self._deployment.cluster.world.rng.uniform(0.2, 4.0)
            self._deployment.cluster.world.at(delay_s, self._start_again)

    def _start_again(self) -> None:
        if self.is_wanted and not self.process.is_alive:
            self.start()

    def stop(self) -> None:
        """As SIGTERM: it ends by itself, and is started again where it is wanted."""
        self._deployment.cluster.world.note(self.process.name, "told to stop")
        self._stop.set()

    def bring_back(self) -> None:
        self.is_wanted = True
        self._start_again()

    def retire(self) -> None:
        self.is_wanted = False
        self.stop()


class Deployment:
    """`on_point` makes what is told of each client call of a slot's processes."""

    def __init__(
        self,
        cluster: Cluster,
        topology: Topology,
        skew_s: float = 0.0,
        on_point: Callable[[Slot], Callable[[str], None]] | None = None,
        *,
        has_slots: bool = False,
    ) -> None:
        self.cluster, self.topology, self.skew_s, self.on_point = cluster, topology, skew_s, on_point
        self.has_slots = has_slots
        self.slots: list[Slot] = []
        self.failures: list[tuple[str, BaseException]] = []

    def add(self, kind: str, name: str) -> Slot:
        slot = Slot(self, kind, name)
        self.slots.append(slot)
        return slot
