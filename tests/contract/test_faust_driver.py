"""The Faust driver against the real broker: nothing skipped, nothing twice, nothing silent."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from schemas.topics import TopicSpec
from streams.transport.admin import ensure_topics
from streams.transport.batch import Batch, TopicPartition
from streams.transport.clients import client_config
from streams.transport.faust_driver import BatchSchema, Driver, DriverOptions, driver_of, make_app, run_app
from streams.transport.producer import Producer

pytestmark = pytest.mark.broker

PARTITIONS = 2


@dataclass(frozen=True)
class Settings:
    broker: str
    kafka: dict[str, str] = field(default_factory=dict)


class Deployment:
    """Three topics, two of one channel, and a producer to them."""

    def __init__(self, broker: str, prefix: str) -> None:
        self.settings, self.prefix = Settings(broker), prefix
        self.anchor, *mirrors = (f"{prefix}{name}" for name in ("tasks", "votes-a", "votes-b"))
        self.mirrors = tuple(mirrors)
        ensure_topics(self.settings, [TopicSpec(t, None, PARTITIONS, "delete", 3_600_000) for t in self.topics])
        self.producer = Producer(client_config(self.settings, None, "producer"))

    @property
    def topics(self) -> tuple[str, ...]:
        return (self.anchor, *self.mirrors)

    def send(self, count: int, start: int = 0) -> None:
        for topic in self.topics:
            for partition in range(PARTITIONS):
                self.producer.send(topic, partition, [str(i).encode() for i in range(start, start + count)])
        self.producer.flush(20)

    def all_of(self, count: int, start: int = 0) -> dict[TopicPartition, list[int]]:
        wanted = list(range(start, start + count))
        return {TopicPartition(topic, p): wanted for topic in self.topics for p in range(PARTITIONS)}


class Member:
    """A program on the driver: keeps what it read, and commits it when partitions go. It is its own hooks."""

    def __init__(self, deployment: Deployment, **options: Any) -> None:
        self.deployment = deployment
        config = client_config(deployment.settings, None, "consumer", group=f"{deployment.prefix}group", reset="error")
        self.read: dict[TopicPartition, list[int]] = {}
        self.batches: list[Batch] = []
        self.calls: list[tuple[str, list[int]]] = []
        self.stop = asyncio.Event()
        self.app = make_app(
            f"{deployment.prefix}app",
            DriverOptions(
                config={**config, **options.pop("config", {})},
                anchor=deployment.anchor,
                mirrors=deployment.mirrors,
                channel_of=lambda topic: topic.removeprefix(deployment.prefix).split("-")[0],
                hooks=self,
                **{"rows_max": 1000, "bytes_max": 1 << 20, "poll_s": 0.05, **options},
            ),
        )
        for name, topics in (("tasks", [deployment.anchor]), ("votes", deployment.mirrors)):
            self.app.agent(self.app.topic(*topics, schema=BatchSchema()), name=name)(self._process)
        self.running: asyncio.Task[None]

    @property
    def driver(self) -> Driver:
        return driver_of(self.app)

    @property
    def rows(self) -> int:
        return sum(map(len, self.read.values()))

    def start(self) -> Member:
        self.running = asyncio.create_task(run_app(self.app, self.stop))
        return self

    async def end(self) -> None:
        self.stop.set()
        await self.running

    async def until(self, holds: Callable[[], bool], within_s: float = 15.0) -> None:
        deadline = time.monotonic() + within_s
        while not holds():
            if self.running.done():
                self.running.result()
                raise AssertionError("it ended")
            assert time.monotonic() < deadline, f"{self.calls} {self.rows}"
            await asyncio.sleep(0.01)

    async def positions(self, partitions: Iterable[int]) -> dict[tuple[str, int], int]:
        tps = [TopicPartition(t, p) for t in self.deployment.topics for p in partitions]
        return {tp: max(offset, 0) for tp, (offset, _) in (await self.driver.committed(tps)).items()}

    async def on_assigned(self, partitions: list[int]) -> Mapping[tuple[str, int], int]:
        self.calls.append(("assigned", partitions))
        return await self.positions(partitions)

    async def on_revoked(self, partitions: list[int]) -> None:
        self.calls.append(("revoked", partitions))
        await self.driver.commit({tp: (v[-1] + 1, "cut") for tp, v in self.read.items() if tp.partition in partitions})

    async def on_lost(self, partitions: list[int]) -> None:
        self.calls.append(("lost", partitions))

    async def _process(self, stream: Any) -> None:
        async for batch in stream:
            self.take(batch)

    def take(self, batch: Batch) -> None:
        self.batches.append(batch)
        for topic, partition, value in zip(batch.topics, batch.partitions.tolist(), batch.values, strict=True):
            assert value is not None
            self.read.setdefault(TopicPartition(topic, partition), []).append(int(value))


@pytest.fixture
def deployment(broker: str, prefix: str) -> Iterable[Deployment]:
    deployment = Deployment(broker, prefix)
    yield deployment
    deployment.producer.close()


async def test_every_record_comes_once_and_in_order(deployment: Deployment) -> None:
    deployment.send(3000)
    member = Member(deployment).start()
    began = time.monotonic()
    await member.until(lambda: member.rows >= 18_000)
    print("read", time.monotonic() - began)
    deployment.send(100, 3000)
    await member.until(lambda: member.rows >= 18_600)
    began = time.monotonic()
    await member.end()
    print("stopped", time.monotonic() - began)
    assert member.read == deployment.all_of(3100)
    assert {b.channel for b in member.batches} == {"tasks", "votes"}
    assert any(len(set(b.topics)) == 2 for b in member.batches)
    assert max(map(len, member.batches)) <= 1000
    assert member.calls == [("assigned", [0, 1]), ("revoked", [0, 1])]
