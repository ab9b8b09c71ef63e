"""The worker's loops: nothing that fails in one of them goes unheard."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
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
