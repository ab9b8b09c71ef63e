"""One worker's turns: the cells of its partitions, the cuts that make them durable, and the clock that drives them.

A turn decodes a batch, lets the cell decide and hands the output over; nothing in it awaits, so positions and the
low watermark that are taken between two turns are one cut. A cut is committed only after all that was produced up to
it is delivered. Whatever fails in a turn ends the worker: the next one recovers from the last cut. I/O: Kafka, through
the driver and the producer; the clock.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping
from contextlib import suppress
from typing import Any

from schemas.codec import Codec
from schemas.epochs import Epochs
from streams.core.cell import Cell
from streams.core.effects import Effects
from streams.core.hosts import Hosts
from streams.core.policy import Policy
from streams.processors.breaker import BreakerProcessor
from streams.processors.consensus import Consensus
from streams.processors.cuts import Committer, Cut, Cuts
from streams.processors.driver import Driver, View
from streams.processors.frontier import Frontier
from streams.processors.health import HealthReport
from streams.processors.outbox import Outbox
from streams.processors.reading import Reading
from streams.processors.recovery import Positions, Recovery
from streams.processors.router import Router
from streams.processors.spill import SpillLog
from streams.transport.batch import Batch, TopicPartition
from streams.transport.clients import TransportError
from streams.transport.held import HeldBack
from streams.transport.pauses import TopicPauses
from streams.transport.producer import IN_FLIGHT_S, Output
from streams.transport.requests import generation_of
from streams.transport.telemetry import (
    CONSUMER_LAG,
    CUT_AGE,
    INFLIGHT_TASKS,
    MEASURE_S,
    TURN_DURATION,
    get_logger,
    show_lag,
)

log = get_logger("pointsman.worker")

TICK_S = 0.05
STALL_MS = 1_000
"""A round of the clock that comes so late means that the process was stopped or starved, or that its clock jumped."""
DRAIN_S = 0.5
REVOKE_DRAIN_S = 2.0
SETTLE_POLL_S = 0.01
RESYNC_S = 1.0
# What turns get between two commits, however long a commit takes.
BREATH_S = 0.02


def wall_ms() -> int:
    return time.time_ns() // 1_000_000


class InDoubtError(TransportError):
    """It is unknown what the broker took of the output that was given up: only a new process can go on."""


class Worker:
    """The hooks of the driver, the turns of the processors, and the `loops` that run beside them.

    Everything but recovery runs on one event loop. `on_ready` is called whenever partitions have gone live. Once it
    `has_failed`, the worker takes no further turn and commits nothing more, and the driver ends the app.
    """

    def __init__(
        self,
        policy: Policy,
        codec: Codec,
        producer: Output,
        view: View,
        recovery: Callable[[], Recovery],
        on_ready: Callable[[list[int]], None],
        held: HeldBack | None = None,
        clock: Callable[[], int] = wall_ms,
        committer: Callable[[Driver], Committer] = lambda driver: driver,
        pauses: TopicPauses | None = None,
    ) -> None:
        topology = policy.topology
        self._limits, self._topics = topology.limits, topology.topics()
        grace_ms = topology.limits.timeout_grace_ms
        self._verdict_ms = {name: agent.timeout_ms + grace_ms for name, agent in topology.agents.items()}
        self._producer, self._view, self._recovery = producer, view, recovery
        self._on_ready, self._clock = on_ready, clock
        self._cells: dict[int, Cell] = {}
        self._frontiers: dict[int, Frontier] = {}
        self._rereads_until: dict[int, int] = {}
        self._epochs = Epochs()
        self._spills = SpillLog(topology, codec, producer)
        self._cuts = Cuts(self._topics.submitted, producer, self._epochs, self._spills.claims)
        self._reading = Reading(self._topics.submitted, self._handle, held, pauses)
        self._seen_version = -1
        self._seen_absent: frozenset[str] = frozenset()
        self._outbox = Outbox(topology, codec, producer, pauses)
        self._breakers = BreakerProcessor(topology, codec, producer, view, pauses=pauses)
        self._health = HealthReport(self._topics, codec, producer)
        self._handlers: dict[str, Callable[[Batch, int], None]] = {
            "router": Router(policy, codec, self._outbox, self._cells).handle,
            "consensus": Consensus(
                topology.agents, codec, self._outbox, self._cells, self._epochs, self._frontiers
            ).handle,
            "breaker": self._breakers.handle,
        }
        self._driver: Driver | None = None
        self._commits_by = committer
        in_transactions = topology.delivery == "exactly_once"
        interval_ms = self._limits.transaction_interval_ms if in_transactions else self._limits.commit_interval_ms
        self._commit_interval_s = interval_ms / 1000
        self._committing = asyncio.Lock()
        self._resyncing: asyncio.Task[None] | None = None
        self._is_in_doubt = False
        self.has_failed = False

    def attach(self, driver: Driver) -> None:
        """The driver is made with these hooks, so it comes after them."""
        self._driver = driver

    @property
    def driver(self) -> Driver:
        assert self._driver is not None, "attach the driver first"
        return self._driver

    def channel_of(self, topic: str) -> str:
        """The processor that reads a topic."""
        if topic == self._topics.submitted:
            return "router"
        return "breaker" if topic == self._topics.health else "consensus"

    def channels(self) -> dict[str, tuple[str, ...]]:
        """The topics of each processor."""
        return {"router": (self._topics.submitted,), "consensus": self._topics.logs, "breaker": (self._topics.health,)}

    def loops(self) -> tuple[Coroutine[Any, Any, None], ...]:
        """What has to run beside the processors, for as long as the app does."""
        return tuple(map(self._guarded, (self._tick_forever(), self._cut_forever(), self._measure_forever())))

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        """What ends a task of ours ends the worker: nobody awaits the task to hear of it."""
        try:
            await work
        except Exception as error:  # noqa: BLE001  not swallowed, as above
            self._fail(error)

    # ------------------------------------------------------------------ turns

    def turn(self, processor: str, batch: Batch) -> None:
        """One batch, from its bytes to what it led to. Never raises: a failure ends the worker."""
        if self.has_failed:
            return
        try:
            self._reading.take(processor, batch)
            self._producer.poll()  # the turn is over: what it wrote goes
            self._throttle()
        except Exception as error:  # noqa: BLE001  not swallowed: it ends the worker
            self._fail(error)

    def _handle(self, processor: str, batch: Batch) -> None:
        now_ms = self._clock()
        with TURN_DURATION.labels(processor=processor).time():
            self._handlers[processor](batch, now_ms)
        self._cuts.advance(batch)
        if processor == "consensus":
            newest_ms = int(batch.timestamps_ms.max())
            for number in {partition for _, partition in batch.ends}:
                self._frontiers[number].read(newest_ms, now_ms)

    def _fail(self, error: Exception) -> None:
        log.error("the worker cannot go on", exc_info=error)
        self.has_failed = True
        self._withdraw()  # before the group hears of it
        self.driver.fail(error)

    def _throttle(self) -> None:
        self._reading.throttle(self.driver, self._cells)

    # ------------------------------------------------------------------ assignment

    async def on_assigned(self, partitions: list[int]) -> Mapping[tuple[str, int], int]:
        """Recovers the partitions and gives the positions at which they go live."""
        await self._settle()
        recovery = self._recovery()
        tps = [TopicPartition(topic, number) for topic in recovery.read for number in partitions]
        committed = await self.driver.committed(tps) if tps else {}
        generation = generation_of(self.driver.membership(tps)) if tps else 0
        try:
            found = await asyncio.to_thread(recovery.recover, partitions, committed, self._clock())
        except asyncio.CancelledError:
            recovery.give_up()  # its thread would go on
            raise
        now_ms = self._clock()
        positions: Positions = {}
        for number, each in found.items():
            positions.update(each.positions)
            self._epochs.update(each.epochs)
            self._spills.claim(number, each.spilled, generation)
        new = {number for number, each in found.items() if each.is_new}
        if new:
            # Before anything is emitted: what has results has a cut.
            await self.driver.commit(self._cuts.cut(positions, dict.fromkeys(new, now_ms)))
        for number, each in found.items():
            each.cell.observe_breakers(self._view.snapshot())
            each.cell.observe_paused(self._reading.absent)
            self._cells[number], frontier = each.cell, Frontier(Hosts(self._verdict_ms))
            frontier.fall_behind({tp: end for tp, end in each.ends.items() if self.channel_of(tp.topic) == "consensus"})
            self._frontiers[number] = frontier
            if each.rereads_until is not None:
                self._rereads_until[number] = each.rereads_until
            self._outbox.emit({number: each.fold.resume(self._clock())})
        self._cuts.positions.update(positions)
        self._reading.regulate(self.driver, self._cells)  # before anything is read
        log.info("live", partitions=partitions, unfinished=sum(map(len, self._cells.values())))
        self._on_ready(sorted(self._cells))
        return {(topic, number): at for (topic, number), at in positions.items()}

    async def _settle(self) -> None:
        """What this worker wrote under an earlier assignment must be in the logs before they are read.

        Raises DeliveryError where the broker does not take it within `message.timeout.ms`, InDoubtError where it is
        unknown what it took.
        """
        if self._is_in_doubt:
            raise InDoubtError("output was given up undelivered, and may still arrive: only a new process can go on")
        while not self._producer.drained():  # noqa: ASYNC110  the producer has to be polled
            await asyncio.sleep(SETTLE_POLL_S)

    async def on_revoked(self, partitions: list[int]) -> None:
        """Commits a last cut, as far as the broker lets it, and gives the partitions up."""
        async with self._committing:
            # Where little time is left, what is on its way has more need of it (`Producer.withdraw`).
            drain_s = max(0.0, min(REVOKE_DRAIN_S, self.driver.revoke_s - IN_FLIGHT_S))
            cut = None if self.has_failed else self._take_cut(partitions, drain_s)
            if cut is None:
                self._is_in_doubt = self._withdraw() > 0
            self._drop(partitions)
            if cut:
                await self._cuts.commit(self._commits_by(self.driver), cut)

    async def on_lost(self, partitions: list[int]) -> None:
        """Another worker may own them already: nothing is committed, and what can be taken back is."""
        log.warning("partitions were lost", partitions=partitions)
        self._drop(partitions)
        self._producer.abandon()

    def _withdraw(self) -> int:
        """The next owner decides anew what is not delivered: written after its fold, it would stand there twice."""
        dropped = self._producer.withdraw()
        if dropped:
            log.warning("undelivered output is dropped; the next owner makes it anew", records=dropped)
        return dropped

    def _drop(self, partitions: Iterable[int]) -> None:
        gone = set(partitions)
        for number in gone:
            self._cells.pop(number, None)
            self._frontiers.pop(number, None)
            self._rereads_until.pop(number, None)
            INFLIGHT_TASKS.labels(partition=number).set(0)
        self._spills.drop(gone)
        self._cuts.drop(gone)
        self._epochs.drop(gone)
        self._reading.drop(self.driver, gone)
        self._breakers.release(gone)
        CONSUMER_LAG.clear()

    # ------------------------------------------------------------------ cuts

    async def _measure_forever(self) -> None:
        """Shows how far behind the partitions are."""
        while not self.has_failed:
            await asyncio.sleep(MEASURE_S)
            if self._cells:
                with suppress(TransportError):  # shown again when the broker is back
                    show_lag(await self.driver.lag())

    async def _cut_forever(self) -> None:
        """Commits a cut each interval of the delivery mode, where anything has moved."""
        due = time.monotonic()
        while not self.has_failed:
            due = max(due + self._commit_interval_s, time.monotonic() + BREATH_S)
            await asyncio.sleep(due - time.monotonic())
            async with self._committing:
                cut = self._take_cut(self._cells, DRAIN_S) if self._is_cut_due else None
                if cut:
                    await self._cuts.commit(self._commits_by(self.driver), cut)

    @property
    def _is_cut_due(self) -> bool:
        return self._cuts.is_due or any(cell.spills.has_news for cell in self._cells.values())

    def _take_cut(self, partitions: Iterable[int], drain_s: float) -> Cut | None:
        cells = {number: self._cells[number] for number in partitions if number in self._cells}
        return self._cuts.take(
            lambda positions: self._spills.write(cells, positions, self._clock()),
            lambda: self._low_watermarks(cells),
            drain_s,
        )

    def _low_watermarks(self, partitions: Iterable[int]) -> dict[int, int]:
        now_ms = self._clock()
        cells = {number: self._cells[number] for number in partitions if number in self._cells}
        lows = {number: cell.low_watermark() for number, cell in cells.items()}
        return {number: now_ms if low_ms is None else min(low_ms, now_ms) for number, low_ms in lows.items()}

    def _end_rereads(self) -> None:
        """Partitions whose submissions were read as far as they were appended when they were recovered."""
        submitted, positions = self._topics.submitted, self._cuts.positions
        for number, until in list(self._rereads_until.items()):
            if positions.get(TopicPartition(submitted, number), 0) >= until:
                self._cells[number].reread_ms = None
                del self._rereads_until[number]

    # ------------------------------------------------------------------ the clock

    async def _tick_forever(self) -> None:
        """Drives time-outs, expiries, breakers and counts."""
        next_report, ticked_ms = time.monotonic(), self._clock()
        while not self.has_failed:
            await asyncio.sleep(TICK_S)
            self._producer.poll()
            self._observe_breakers()
            self._observe_pauses()
            self._end_rereads()
            self._reading.release()
            before_ms, ticked_ms = ticked_ms, self._clock()
            self._tick(has_stalled=ticked_ms - before_ms > STALL_MS)
            CUT_AGE.set(self._cuts.age_s)
            if time.monotonic() >= next_report:
                next_report = time.monotonic() + self._limits.health_interval_ms / 1000
                self._report()

    def _observe_breakers(self) -> None:
        version = self._view.version  # before the snapshot: no change is missed
        shown = self._view.snapshot()
        if version != self._seen_version:
            self._seen_version = version
            for cell in self._cells.values():
                cell.observe_breakers(shown)

    def _observe_pauses(self) -> None:
        absent = self._reading.absent
        if absent != self._seen_absent:
            self._seen_absent = absent
            for cell in self._cells.values():
                cell.observe_paused(absent)

    def _tick(self, *, has_stalled: bool) -> None:
        if (self.driver.is_down or has_stalled) and self._resyncing is None:
            self._resyncing = asyncio.get_running_loop().create_task(self._guarded(self._resync()))
        if self._resyncing is not None:
            return  # no outcome can be read, so none is overdue
        now_ms = self._clock()
        decided: dict[int, Effects] = {}
        resting = self._reading.resting
        for number, cell in self._cells.items():
            frontier = self._frontiers[number]
            if resting:
                frontier.pass_over(resting)
            at_ms = frontier.time(self._cuts.positions, now_ms)
            if at_ms is not None:
                frontier.hosts.pass_to(at_ms)
                decided[number] = cell.tick(at_ms, blame=not frontier.is_first, hosts=frontier.hosts)
                frontier.is_first = False
        self._outbox.emit(decided)
        self._throttle()

    async def _resync(self) -> None:
        """The broker was gone, or this process: time stands still until what the logs hold meanwhile is read."""
        log.warning("behind the logs: no time-out fires until they are read", broker_is_gone=self.driver.is_down)
        while not self.has_failed:
            try:
                ends = await asyncio.to_thread(self._recovery().log_ends, list(self._cells))
            except TransportError:
                await asyncio.sleep(RESYNC_S)
                continue
            for number, frontier in self._frontiers.items():
                frontier.fall_behind({tp: end for tp, end in ends.items() if tp.partition == number})
            self.driver.mark_up()
            log.warning("where the logs end is known")
            break
        self._resyncing = None

    def _report(self) -> None:
        now_ms = self._clock()
        self._breakers.tick(now_ms)
        for number, cell in self._cells.items():
            self._health.send(number, cell.drain_health(), now_ms)
            INFLIGHT_TASKS.labels(partition=number).set(len(cell))
