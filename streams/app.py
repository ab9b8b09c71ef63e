"""The worker process: the only Faust app, its three processors, and what they share.

I/O: Kafka, through the transport.
"""

from __future__ import annotations

import asyncio
import threading
import time
import uuid
from collections.abc import AsyncIterable, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, closing, suppress
from typing import Any

import faust

from schemas.access import group_of, used_by
from schemas.codec import Codec
from schemas.registry import FileRegistry, JoinedRegistry
from schemas.settings import Settings
from schemas.topology import Limits, Topology
from streams.control import BreakerView
from streams.core.policy import Policy
from streams.processors.cuts import Committer, InTransaction
from streams.processors.driver import Driver
from streams.processors.recovery import Recovery
from streams.processors.worker import Worker
from streams.transport.admin import ensure_topics
from streams.transport.batch import Batch
from streams.transport.clients import client_config
from streams.transport.faust_driver import BatchSchema, DriverOptions, driver_of, make_app, run_app
from streams.transport.foreign_ids import ForeignIds, foreign_ids
from streams.transport.garbage import calm_collector
from streams.transport.held import HeldBack
from streams.transport.pauses import PauseView, TopicPauses
from streams.transport.producer import Output
from streams.transport.slots import instance_of, slot_name
from streams.transport.telemetry import get_logger
from streams.transport.transactions import TransactionalProducer, TransactionLostError
from streams.transport.turn_producer import producer_for
from streams.transport.vacating import vacate

log = get_logger("pointsman.worker")

STOP_POLL_S = 0.05
LOSSES_MAX = 5
"""Transactions that may be lost in a row, each before it was at work for LOSS_FORGOTTEN_S."""

LOSS_FORGOTTEN_S = 60.0
LOSS_PAUSE_S = 0.5


def run_worker(
    settings: Settings,
    topology: Topology,
    *,
    ready: Callable[[Mapping[str, object]], None],
    stop: threading.Event,
) -> None:
    """Serves this worker's share of the partitions until `stop` is set; then ends within four seconds.

    Creates the topics that are missing. `ready` is called once, when the first partitions are live, or when there are
    none left for this worker. A transaction that is lost costs all that was not committed, and is recovered from here.
    Raises UnreachableError (no broker), ConfigurationError (topics that do not fit, or are missing and may not be
    created, a schema id that means two things), DeliveryError and TransportError (the process has to be started again:
    it recovers from its last cut).
    """
    ensure_topics(settings, used_by("worker", topology.topics()), topology)
    registry = FileRegistry.load()
    bytes_max = topology.limits.record_bytes_max
    view = BreakerView(settings, topology, Codec(registry, bytes_max))
    pauses = PauseView(settings, topology, Codec(registry, bytes_max))
    told: list[bool] = []

    def on_ready(partitions: list[int]) -> None:
        if not told:
            told.append(True)
            ready({"partitions": partitions})

    with closing(view), closing(pauses), foreign_ids(settings, registry, topology.topics()) as foreign:
        view.start()
        pauses.start()
        transactional_id = _transactional_id(settings, topology) if topology.delivery == "exactly_once" else None
        _outlive_losses(
            lambda: asyncio.run(
                _serve(settings, topology, registry, foreign, view, pauses, on_ready, stop, transactional_id)
            ),
            stop,
        )
    vacate(_member(settings, topology))


def _member(settings: Settings, topology: Topology) -> dict[str, Any]:
    """What the worker reads its submissions with."""
    group = group_of("worker", topology.prefix)
    place = instance_of(settings.worker_slot, [topology.topics().submitted])
    return client_config(settings, topology, "consumer", group=group, instance=place, reset="error", name=group)


def _transactional_id(settings: Settings, topology: Topology) -> str:
    """The same for a worker that is started again in its slot: it fences its former self, and waits for nothing."""
    return f"{group_of('worker', topology.prefix)}-{slot_name(settings.worker_slot or uuid.uuid4().hex)}"


def _outlive_losses(serve: Callable[[], None], stop: threading.Event) -> None:
    """Serves anew, with nothing kept, after each transaction that was lost, so long as it does not happen for ever."""
    in_a_row = 0
    while True:
        began = time.monotonic()
        try:
            serve()
        except TransactionLostError as error:
            in_a_row = 1 if time.monotonic() - began > LOSS_FORGOTTEN_S else in_a_row + 1
            if stop.is_set():
                log.warning("a transaction was lost at the end: who takes over makes it anew", why=str(error))
                return
            if in_a_row > LOSSES_MAX:
                raise
            log.warning("a transaction was lost: everything is read back from the logs", why=str(error))
            stop.wait(LOSS_PAUSE_S * in_a_row)
        else:
            return


async def _serve(
    settings: Settings,
    topology: Topology,
    registry: FileRegistry,
    foreign: ForeignIds | None,
    view: BreakerView,
    pauses: PauseView,
    on_ready: Callable[[list[int]], None],
    stop: threading.Event,
    transactional_id: str | None,
) -> None:
    limits, policy = topology.limits, Policy.compile(topology)
    produce = client_config(settings, topology, "producer", name="pointsman-worker-producer")
    reading = client_config(settings, topology, "consumer", fetch="back", name="pointsman-recovery")
    produce["linger.ms"] = limits.linger_ms
    async with _producing(produce, limits, transactional_id, stop) as (producer, committer):
        worker = Worker(
            policy,
            Codec(registry if foreign is None else JoinedRegistry(registry, foreign.text), limits.record_bytes_max),
            producer,
            view,
            lambda: Recovery(topology, policy, registry, reading),
            on_ready,
            None if foreign is None else HeldBack(foreign),
            committer=committer,
            pauses=TopicPauses(topology, Codec(registry, limits.record_bytes_max), producer, pauses),
        )
        app = build(settings, topology, worker)
        calm_collector()
        worker.attach(driver_of(app))
        loops = [asyncio.create_task(loop) for loop in worker.loops()]
        asked = asyncio.Event()
        waiting = asyncio.create_task(_forward(stop, asked))
        try:
            await run_app(app, asked)
        finally:
            for task in (*loops, waiting):
                task.cancel()
            with suppress(asyncio.CancelledError):
                await asyncio.gather(*loops, waiting, return_exceptions=True)


@asynccontextmanager
async def _producing(
    config: Mapping[str, Any], limits: Limits, transactional_id: str | None, stop: threading.Event
) -> AsyncIterator[tuple[Output, Callable[[Driver], Committer]]]:
    """The producer of the delivery mode, and what commits positions in it."""
    if transactional_id is None:
        with closing(producer_for(config)) as producer:
            yield producer, lambda driver: driver
    else:
        with closing(TransactionalProducer(config, transactional_id, limits.transaction_timeout_ms)) as transactions:
            await transactions.start(lambda: not stop.is_set())
            yield transactions, lambda driver: InTransaction(transactions, driver)


def build(settings: Settings, topology: Topology, worker: Worker) -> faust.App:
    """The app: one processor for each of the worker's channels."""
    limits = topology.limits
    channels = worker.channels()
    (anchor,) = channels["router"]
    options = DriverOptions(
        config=_member(settings, topology),
        anchor=anchor,
        mirrors=tuple(topic for topics in channels.values() for topic in topics if topic != anchor),
        channel_of=worker.channel_of,
        rows_max=limits.batch_rows_max,
        bytes_max=limits.batch_bytes_max,
        poll_s=limits.poll_ms / 1000,
        turn_share=limits.turn_percent / 100,
        hooks=worker,
    )
    app = make_app(group_of("worker", topology.prefix), options)
    for name, topics in channels.items():
        app.agent(app.topic(*topics, schema=BatchSchema()), name=name)(_processor(worker, name))
    return app


def _processor(worker: Worker, name: str) -> Callable[[AsyncIterable[Batch]], Any]:
    async def process(batches: AsyncIterable[Batch]) -> None:
        async for batch in batches:
            worker.turn(name, batch)

    return process


async def _forward(stop: threading.Event, asked: asyncio.Event) -> None:
    """From the thread that was told to stop to the loop that has to."""
    while not stop.is_set():  # noqa: ASYNC110  set in another thread, which knows no loop
        await asyncio.sleep(STOP_POLL_S)
    asked.set()
