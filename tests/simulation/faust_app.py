"""The stand-in for Faust's app: the flow of batches from the real driver to the worker's processors, and nothing else.

Faust's own services, streams and their faults are not simulated: tests/contract/test_faust_driver.py runs them, on the
real broker. I/O: none.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from random import Random
from typing import Any

from streams.transport.batch import Batch, TopicPartition
from streams.transport.faust_driver import Driver, DriverOptions
from streams.transport.faust_handover import Handed

BATCHES_MAX = 2
"""As in the real one: what waits in front of a processor, beside the hand-over."""

Process = Callable[[AsyncIterator[Batch]], Awaitable[None]]


class App:
    """As much of a faust.App as streams.app and `run_app` ask for."""

    crash_reason: BaseException | None = None

    def __init__(self, _app_id: str, options: DriverOptions, rng: Random) -> None:
        self.driver = Driver(options)
        self._rng = rng
        self._processors: list[tuple[str, tuple[str, ...], Process]] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._stopped = asyncio.Event()

    def topic(self, *topics: str, schema: object) -> tuple[str, ...]:
        return topics

    def agent(self, topics: tuple[str, ...], name: str) -> Callable[[Process], None]:
        return lambda process: self._processors.append((name, topics, process))

    async def start(self) -> None:
        flow = Flow(self.driver, [name for name, _, _ in self._processors], self._rng)
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._guarded(flow.pump()))]
        for name, _, process in self._processors:
            self._tasks.append(loop.create_task(self._guarded(process(flow.batches(name)))))
        self.driver.start(flow, frozenset(topic for _, topics, _ in self._processors for topic in topics))

    async def _guarded(self, work: Awaitable[None]) -> None:
        try:
            await work
        except Exception as error:  # noqa: BLE001  as Consumer.on_task_error
            self.driver.fail(error)

    async def wait_until_stopped(self) -> None:
        await self._stopped.wait()

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._stopped.set()


class Flow:
    """As Faust's consumer: batches of the generation that is open reach the processors, and no others."""

    def __init__(self, driver: Driver, channels: list[str], rng: Random) -> None:
        self._driver, self._rng = driver, rng
        self._generation = 0
        self._queues: dict[str, asyncio.Queue[Handed]] = {name: asyncio.Queue(BATCHES_MAX) for name in channels}

    async def open(self, tps: set[TopicPartition], generation: int) -> None:
        await self._a_while()
        self._generation = generation

    async def shut(self, tps: set[TopicPartition]) -> None:
        self._generation = 0
        await self._a_while()

    async def pump(self) -> None:
        while True:
            handed = await self._driver.next_batch()
            if handed.generation == self._generation:
                await self._queues[handed.batch.channel].put(handed)

    async def batches(self, channel: str) -> AsyncIterator[Batch]:
        queue = self._queues[channel]
        while True:
            handed = await queue.get()
            await self._a_while()
            if handed.generation == self._generation:
                yield handed.batch

    async def _a_while(self) -> None:
        """A few rounds of the loop, or none: processors do not take turns in any order."""
        if self._rng.random() < 0.3:
            await asyncio.sleep(self._rng.uniform(0.0, 0.02))


def maker(rng: Random) -> Callable[[str, DriverOptions], Any]:
    """Takes the place of `make_app`."""
    return lambda app_id, options: App(app_id, options, rng)
