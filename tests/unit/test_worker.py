"""The worker's loops: nothing that fails in one of them goes unheard."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

import pytest

from schemas.codec import Codec
from schemas.registry import FileRegistry
from schemas.topology import Agent, Route, Topology
from streams.core.cell import Cell
from streams.core.policy import Policy
from streams.processors import worker as module
from streams.processors.frontier import Frontier
from streams.processors.worker import Worker
from streams.transport.batch import TopicPartition
from streams.transport.held import HeldBack
from tests.support.submissions import TOPIC, Ids, places, records
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

    def drained(self, _timeout_s: float) -> bool:
        self.fails("drained")
        return True

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
    worker.turn("router", records((0, 5, frame(9)), (1, 7, frame(30)), (1, 8, frame(9))))
    worker.turn("router", records((1, 9, frame(9)), (0, 6, frame(9))))
    assert handled == [[(0, 5)], [(0, 6)]]
    assert fakes.paused == {(TOPIC, 1)}
    assert worker._cuts.positions == {(TOPIC, 0): 7}
    worker._release()
    assert len(handled) == 2
    ids.known = 31
    worker._release()
    worker._throttle()
    assert handled[2:] == [[(1, 7), (1, 8)], [(1, 9)]]
    assert (fakes.paused, worker._cuts.positions) == (set(), {(TOPIC, 0): 7, (TOPIC, 1): 10})
    worker.turn("router", records((1, 10, frame(40))))
    worker._drop([1])
    ids.known = 41
    worker._release()
    assert (len(handled), fakes.paused, fakes.failures) == (4, set(), [])
