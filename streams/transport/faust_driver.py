"""The Faust driver: agents get whole batches of raw records, and Faust commits, seeks and creates nothing by itself.

Steps around the faults of Faust 0.15.3 one by one; each override says which. I/O: Kafka, through the driver's reader.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import faust
from faust.tables.manager import TableManager
from faust.transport import base
from faust.types import TP, ConsumerMessage

from streams.transport.batch import Batch, TopicPartition
from streams.transport.faust_options import DriverOptions, Hooks
from streams.transport.faust_tenure import Driver
from streams.transport.lean import NoHttpClient

__all__ = ["BatchSchema", "Driver", "DriverOptions", "Hooks", "Transport", "driver_of", "make_app", "run_app"]

STOP_TIMEOUT_S = 4.0
# Of the time to stop: leaving the group cleanly matters more than Faust's own services.
_LEAVE_SHARE = 0.75
_CANCEL_TIMEOUT_S = 0.2
# Batches that wait in front of a processor, beside those of the hand-over.
_CHANNEL_BATCHES_MAX = 2


class _App(faust.App):  # type: ignore[misc]  # faust carries no types that hold
    driver: Driver

    def _create_directories(self) -> None:
        """Faust would make a data directory in the working directory; nothing is kept there."""


class _Tables(TableManager):  # type: ignore[misc]  # as above
    async def on_start(self) -> None:
        """There are no tables to wait a second for, and a second is long for who takes over."""
        await self._update_channels()
        await self.recovery.start()


def _never(*_: Any, **__: Any) -> Any:
    raise NotImplementedError("the batch driver keeps no tables, sends nothing and seeks nowhere on Faust's behalf")


class _Agent(faust.Agent):  # type: ignore[misc]  # as above
    def cancel(self) -> None:
        """Faust cancels before it says that it stops, and so takes it for a crash and starts the processor anew."""

    async def on_stop(self) -> None:
        super().cancel()
        await super().on_stop()


class Consumer(base.Consumer):  # type: ignore[misc]  # as above
    """What Faust takes for its consumer: the flow of batches from the driver's reader to the processors."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._driver: Driver = self.app.driver
        self._assigned: set[TopicPartition] = set()
        self._is_flowing = asyncio.Event()

    async def open(self, tps: set[TopicPartition], generation: int) -> None:
        """Faust goes live only after a rebalance that it saw start, and with the generation that it was told."""
        self._is_flowing.clear()
        self._assigned = tps
        self.app.on_rebalance_start()
        self.app.consumer_generation_id = generation
        await self.on_partitions_assigned({TP(*tp) for tp in tps}, generation)
        await self._is_flowing.wait()

    async def shut(self, tps: set[TopicPartition]) -> None:
        """From here on no batch bears the generation asked for, so streams drop what they hold."""
        self.app.on_rebalance_start()
        self.app.consumer_generation_id = 0
        await self.on_partitions_revoked({TP(*tp) for tp in tps})
        self._assigned = set()

    def resume_flow(self) -> None:
        super().resume_flow()
        self._is_flowing.set()

    async def subscribe(self, topics: Iterable[str]) -> None:
        """Called once all agents have started, and again whenever one restarts: the group is joined once."""
        if not self._driver.is_started:
            self._driver.start(self, frozenset(topics))

    async def _drain_messages(self, fetcher: Any) -> None:
        with suppress(asyncio.CancelledError):  # Faust's fetcher would take it for a rebalance, and crash
            while not (self.should_stop or fetcher.should_stop):
                generation, batch = await self._driver.next_batch()
                # One of a generation that has ended was read in vain.
                if generation == self.app.consumer_generation_id:
                    await self.callback(_message(generation, batch))

    async def on_task_error(self, exc: BaseException) -> None:
        """An exception that escapes a processor: Faust would drop the event, and start the processor anew."""
        self._driver.fail(exc)
        await asyncio.Event().wait()  # until the stop cancels it

    def assignment(self) -> set[TP]:
        return {TP(*tp) for tp in self._assigned}

    async def commit(self, *_: Any, **__: Any) -> bool:
        """Faust's acknowledgements move nothing: cuts are committed by whoever makes them."""
        return False

    async def perform_seek(self) -> None:
        """Positions come from the `on_assigned` hook."""

    def on_buffer_full(self, tp: TP) -> None:
        """Back-pressure is the bounded hand-over; Faust's own would sleep a second at a time."""

    def on_buffer_drop(self, tp: TP) -> None:
        """As above."""

    # Abstract in Faust, and asked for by tables, senders and seekers only.
    create_topic = topic_partitions = key_partition = _never
    earliest_offsets = highwaters = highwater = position = _never
    seek_to_committed = seek_wait = _seek = _never
    _commit = _getmany = _to_message = _new_topicpartition = _never


def _message(generation: int, batch: Batch) -> ConsumerMessage:
    """The batch in the guise of one record of its first topic-partition; a wrong generation would drop it unsaid."""
    tp = TP(*next(iter(batch.ends)))
    return ConsumerMessage(
        tp.topic,
        tp.partition,
        batch.ends[tp],
        time.time(),
        1,
        [],
        None,
        batch,
        None,
        0,
        0,
        tp,
        generation_id=generation,
    )


class Conductor(base.Conductor):  # type: ignore[misc]  # as above
    async def _update_indices(self) -> Iterable[str]:
        """No topic is acknowledged: Faust would keep a list of offsets that nobody commits."""
        names: Iterable[str] = await super()._update_indices()
        self._acking_topics.clear()
        return names


class Transport(base.Transport):  # type: ignore[misc]  # as above
    """Entry point `batch` of `faust.transports`. Its producer is Faust's empty one: nothing is sent by Faust."""

    Consumer = Consumer
    Conductor = Conductor
    default_port = 9092
    driver_version = "batch"


class BatchSchema(faust.Schema):  # type: ignore[misc]  # as above
    """Lets a batch through undecoded: decoding is columnar, and the processor's."""

    def compile(self, app: Any, **_: Any) -> Any:
        async def decode(message: Any, **_: Any) -> Any:
            return app.create_event(None, message.value, message.headers, message)

        return decode


def make_app(app_id: str, options: DriverOptions) -> faust.App:
    """An app that reads batches, and does nothing else on its own: no web, tables, leader, topics, acknowledgements.

    Give each channel one agent: `@app.agent(app.topic(*topics of the channel, schema=BatchSchema()))`. Together the
    agents must take the anchor and all mirrors, and nothing else.
    """
    app = _App(
        app_id,
        # Faust prefers the environment to what it is told: BROKER_URL would put another driver in this one's place.
        env={},
        broker="batch://",
        store="memory://",
        key_serializer="raw",
        value_serializer="raw",
        web_enabled=False,
        topic_disable_leader=True,
        topic_allow_declare=False,
        stream_wait_empty=False,
        Agent=_Agent,
        TableManager=_Tables,
        HttpClient=NoHttpClient,
        stream_buffer_maxsize=_CHANNEL_BATCHES_MAX,
    )
    app.boot_strategy.enable_kafka_producer = False
    app.driver = Driver(options)
    return app


def driver_of(app: faust.App) -> Driver:
    driver: Driver = app.driver
    return driver


async def run_app(app: faust.App, stop: asyncio.Event, timeout_s: float = STOP_TIMEOUT_S) -> None:
    """Run until `stop` is set, then end cleanly; or until something fails, and raise that.

    A clean end calls `on_revoked` once more (`on_lost` when that hangs); a failure calls no hook, and leaves the group
    for others to take over at once. Both take `timeout_s` at most, with or without a broker.
    """
    driver = driver_of(app)
    driver.open()
    asked = asyncio.ensure_future(stop.wait())
    crashed = asyncio.ensure_future(app.wait_until_stopped())
    # Returns after the first assignment, which may be a long time off.
    starting = asyncio.ensure_future(app.start())
    watched: set[asyncio.Future[Any]] = {asked, crashed, starting, driver.failed}
    try:
        while not (done := await _first(watched)) & {asked, crashed, driver.failed} and _error_of(starting) is None:
            watched -= done
    finally:
        error = await _end(app, starting, driver, is_asked=asked.done(), timeout_s=timeout_s)
        asked.cancel()
        crashed.cancel()
    if error is not None:
        raise error


async def _first(watched: set[asyncio.Future[Any]]) -> set[asyncio.Future[Any]]:
    done, _ = await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
    return done


async def _end(
    app: faust.App, starting: asyncio.Future[Any], driver: Driver, *, is_asked: bool, timeout_s: float
) -> BaseException | None:
    """Leave the group, then stop Faust; what failed first, before or in the course of it."""
    deadline = time.monotonic() + timeout_s

    def failure() -> BaseException | None:
        first: BaseException | None = driver.failed.result() if driver.failed.done() else app.crash_reason
        return first or _error_of(starting)

    before = failure()
    await driver.leave(clean=is_asked and before is None, timeout_s=timeout_s * _LEAVE_SHARE)
    after = failure()
    stopping = asyncio.ensure_future(app.stop())
    # Not `wait_for`: Faust's services swallow a cancellation while they stop, and would be waited for.
    await asyncio.wait({stopping, starting}, timeout=max(_CANCEL_TIMEOUT_S, deadline - time.monotonic()))
    for task in (stopping, starting):
        task.cancel()
    await asyncio.wait({stopping, starting}, timeout=_CANCEL_TIMEOUT_S)
    return before or after


def _error_of(task: asyncio.Future[Any]) -> BaseException | None:
    return task.exception() if task.done() and not task.cancelled() else None
