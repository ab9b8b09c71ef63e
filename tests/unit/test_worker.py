"""The worker's loops: nothing that fails in one of them goes unheard."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pytest

from schemas.codec import Codec
from schemas.epochs import LogEpochs
from schemas.registry import FileRegistry
from schemas.topology import Agent, Route, Topology
from streams.core.cell import Cell
from streams.core.effects import Effects
from streams.core.policy import Policy
from streams.processors import worker as module
from streams.processors.frontier import Frontier
from streams.processors.worker import Worker, wall_ms
from streams.transport.batch import TopicPartition
from streams.transport.clients import TransportError
from streams.transport.held import HeldBack
from tests.support.submissions import TOPIC, Ids, places, records
from tests.support.waiting import PATIENCE
from tests.support.wire import frame

TOPOLOGY = Topology(
    agents={"one": Agent(run="m:f", effect="read")}, routes={"work": Route(agents=("one",))}, default_route="work"
)


class Broken(Exception):  # noqa: N818  what a test raises
    pass


class Fakes:
    """Driver, view, producer and recovery in one; `broken` names the call that fails."""

    def __init__(self, broken: str) -> None:
        self.broken = broken
        self.failures: list[BaseException] = []
        self.is_down = broken == "log_ends"
        self.version = 0
        self.revoke_s = 5.0
        self.abandoned = self.withdrawn = 0
        self.undelivered = 0

    def fails(self, call: str) -> None:
        if call == self.broken:
            raise Broken(call)

    def fail(self, error: BaseException) -> None:
        self.failures.append(error)

    async def lag(self) -> Mapping[Any, int]:
        self.fails("lag")
        return {}

    def snapshot(self) -> Mapping[str, Any]:
        self.fails("snapshot")
        return {}

    def poll(self) -> None:
        self.fails("poll")

    def abandon(self) -> None:
        self.abandoned += 1

    def withdraw(self) -> int:
        assert not self.failures, "what is undelivered is dropped before anybody hears of the failure"
        self.withdrawn += 1
        return self.undelivered

    def drained(self, _timeout_s: float = 0.0) -> bool:
        self.fails("drained")
        self.undelivered = max(self.undelivered - 1, 0)
        return self.undelivered == 0

    def log_ends(self, _partitions: list[int]) -> Mapping[Any, int]:
        self.fails("log_ends")
        return {}

    async def commit(self, _positions: Mapping[Any, Any]) -> None:
        self.fails("commit")


@pytest.mark.parametrize("broken", ["poll", "snapshot", "drained", "commit", "lag", "log_ends"])
async def test_whatever_breaks_beside_the_processors_ends_the_worker(
    broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MEASURE_S", 0.01)
    fakes: Any = Fakes(broken)
    policy = Policy.compile(TOPOLOGY)
    codec = Codec(FileRegistry.load(), 4_096)
    worker = Worker(policy, codec, fakes, fakes, lambda: fakes, lambda _partitions: None)
    worker.attach(fakes)
    worker._cells[0] = Cell(policy, 0)
    worker._spills.claim(0, (LogEpochs(), 0), 1)
    worker._frontiers[0] = Frontier()
    worker._cuts.positions[TopicPartition("tasks.submitted.v1", 0)] = 1
    loops = [asyncio.create_task(loop) for loop in worker.loops()]
    await asyncio.wait_for(asyncio.gather(*loops), 10)
    assert [str(error) for error in fakes.failures] == [broken]
    assert worker.has_failed


class Steered(Fakes):
    """A driver that notes what is paused."""

    def __init__(self) -> None:
        super().__init__("")
        self.paused: set[Any] = set()

    def pause(self, tps: Iterable[tuple[str, int]]) -> None:
        self.paused |= set(tps)

    def resume(self, tps: Iterable[tuple[str, int]]) -> None:
        self.paused -= set(tps)


async def test_a_partition_waits_for_a_schema_from_there_on_and_is_read_on_when_it_is_known() -> None:
    fakes: Any = Steered()
    policy, ids, handled = Policy.compile(TOPOLOGY), Ids(known=10), list[list[tuple[int, int]]]()
    codec = Codec(FileRegistry.load(), 4_096)
    worker = Worker(policy, codec, fakes, fakes, lambda: fakes, lambda _partitions: None, HeldBack(ids))
    worker.attach(fakes)
    worker._handlers["router"] = lambda part, _now_ms: handled.append(places(part))
    for number in (0, 1):
        worker._cells[number], worker._frontiers[number] = Cell(policy, number), Frontier()
        worker._spills.claim(number, (LogEpochs(), 0), 1)
    worker.turn("router", records((0, 5, frame(9)), (1, 7, frame(30)), (1, 8, frame(9))))
    worker.turn("router", records((1, 9, frame(9)), (0, 6, frame(9))))
    assert handled == [[(0, 5)], [(0, 6)]]
    assert fakes.paused == {(TOPIC, 1)}
    assert worker._cuts.positions == {(TOPIC, 0): 7}
    worker._reading.release()
    assert len(handled) == 2
    ids.known = 31
    worker._reading.release()
    worker._throttle()
    assert handled[2:] == [[(1, 7), (1, 8)], [(1, 9)]]
    assert (fakes.paused, worker._cuts.positions) == (set(), {(TOPIC, 0): 7, (TOPIC, 1): 10})
    worker.turn("router", records((1, 10, frame(40))))
    worker._drop([1])
    ids.known = 41
    worker._reading.release()
    assert (len(handled), fakes.paused, fakes.failures) == (4, set(), [])


def worker_of(fakes: Any, clock: Callable[[], int] = wall_ms) -> Worker:
    policy = Policy.compile(TOPOLOGY)
    worker = Worker(
        policy, Codec(FileRegistry.load(), 4_096), fakes, fakes, lambda: fakes, lambda _partitions: None, clock=clock
    )
    worker.attach(fakes)
    worker._cells[0] = Cell(policy, 0)
    worker._spills.claim(0, (LogEpochs(), 0), 1)
    worker._frontiers[0] = Frontier()
    return worker


async def test_a_worker_that_was_stopped_lets_no_time_pass_before_it_has_read_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "TICK_S", 0.001)
    log_of_one = TopicPartition("agents.one.events.v1", 0)
    fakes: Any = Fakes("")
    fakes.log_ends = lambda _partitions: {log_of_one: 7}
    fakes.mark_up = lambda: None
    now = [1_000_000]
    worker = worker_of(fakes, lambda: now[0])
    worker._cuts.positions[log_of_one] = 3
    ticks: list[int] = []

    def tick(now_ms: int, *, blame: bool, hosts: object) -> Effects:
        ticks.append(now_ms)
        return Effects()

    monkeypatch.setattr(worker._cells[0], "tick", tick)
    ticking = asyncio.create_task(worker._tick_forever())
    try:
        await asyncio.wait_for(until(lambda: len(ticks) > 2), 10)
        now[0] += 5_000  # SIGSTOP, and SIGCONT five seconds later
        await asyncio.wait_for(until(lambda: bool(worker._frontiers[0].targets)), 10)
        assert max(ticks) < now[0], "what came in meanwhile is not read"
        ticks.clear()
        await asyncio.sleep(0.05)
        assert ticks == []
        worker._cuts.positions[log_of_one] = 7
        await asyncio.wait_for(until(lambda: bool(ticks)), 10)
        assert ticks[0] == now[0]
    finally:
        ticking.cancel()


async def until(holds: Callable[[], bool]) -> None:
    while not holds():  # noqa: ASYNC110  what is waited for tells nobody
        await asyncio.sleep(0.001)


async def test_what_is_not_delivered_when_partitions_go_is_dropped_and_only_a_new_process_goes_on() -> None:
    fakes: Any = Fakes("")
    worker = worker_of(fakes)
    fakes.undelivered = 5
    await worker.on_revoked([0])
    assert fakes.withdrawn == 1
    assert worker._cells == {}
    with pytest.raises(TransportError, match="only a new process"):
        await worker.on_assigned([0])


async def test_a_last_cut_waits_no_longer_than_partitions_may_take(monkeypatch: pytest.MonkeyPatch) -> None:
    fakes: Any = Fakes("")
    worker = worker_of(fakes)
    waited: list[float] = []

    def drained(timeout_s: float = 0.0) -> bool:
        waited.append(timeout_s)
        return False

    monkeypatch.setattr(fakes, "drained", drained)
    for left_s in (5.0, 1.5, 0.1):
        fakes.revoke_s = left_s
        await worker.on_revoked([0])
    assert waited == [module.REVOKE_DRAIN_S, 0.5, 0.0], "a second of it is for what is on its way"


async def test_partitions_that_go_while_they_are_read_back_are_read_no_further() -> None:
    fakes: Any = Fakes("")
    worker, begun, given_up = worker_of(fakes), threading.Event(), threading.Event()

    def recover(*_: object) -> None:
        begun.set()
        assert given_up.wait(PATIENCE * 10)

    fakes.read, fakes.recover, fakes.give_up = (), recover, given_up.set
    assigned = asyncio.create_task(worker.on_assigned([]))
    await asyncio.wait_for(until(begun.is_set), PATIENCE * 10)
    assigned.cancel()
    with pytest.raises(asyncio.CancelledError):
        await assigned
    assert given_up.is_set()


async def test_partitions_that_come_back_are_read_after_what_was_written_for_them() -> None:
    fakes: Any = Fakes("")
    worker = worker_of(fakes)
    fakes.undelivered = 3
    await worker.on_lost([0])
    assert (fakes.abandoned, fakes.withdrawn) == (1, 0), "what is sent may have arrived, and is waited for"
    fakes.undelivered = 3
    fakes.read = ()
    seen: list[int] = []

    def recover(*_: Any) -> dict[int, Any]:
        seen.append(fakes.undelivered)
        return {}

    fakes.recover = recover
    await worker.on_assigned([])
    assert seen == [0]
