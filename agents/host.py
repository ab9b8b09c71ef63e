"""The agent host: dispatches in, agents called, events out, and no offset committed before its outcome is in the log.

Its event loop owns all state. The consumer blocks, so it has a thread of its own, in which the rebalance callbacks run
too; they ask the loop and wait. I/O: Kafka, and what the agents do.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial

from agents.calls import Caller
from agents.context import Contexts
from agents.event_log import EventLog
from agents.inbox import Inbox
from agents.intake import Intake
from agents.logrecall import LogRecall
from agents.memory.ports import Recall, Told
from agents.ownership import Ownership, Questions
from agents.positions import Positions
from agents.readback import ReadBack
from agents.recollection import Recollection
from agents.registry import Code, Target
from agents.regulation import Regulation
from agents.runners.make import make_runner
from agents.runners.turns import CallThreads
from agents.service import Service
from agents.snapshots import Reads, Snapshots
from agents.summarising import Summarising
from agents.tenure import SETTLE_S, Tenure
from agents.version import Declared, maker_of
from agents.work import Room
from schemas.codec import Codec
from schemas.topology import Topology
from streams.transport.batch import TopicPartition
from streams.transport.consumer import GroupConsumer
from streams.transport.pauses import TopicPauses
from streams.transport.producer import Output
from streams.transport.telemetry import MEASURE_S, get_logger, show_lag
from streams.transport.threads import DaemonPool

log = get_logger("pointsman.host")

# Of the 4 s that a process has to end: what running attempts get, all of it, and leaving the group.
DRAIN_MAX_S = 3.0
END_S = 3.5
CLOSE_S = 0.4
STOP_POLL_S = 0.1
OVERDUE_S = 20.0  # longer than the consumer waits for any answer of a broker that is there
HOLD_S = 0.25  # how long events are held back at most for the sake of a position


class Host:
    """`run` serves until `stop` is set; it raises what makes it impossible to go on, and then commits nothing."""

    def __init__(
        self,
        topology: Topology,
        targets: Mapping[str, Target],
        codec: Codec,
        consumer: GroupConsumer,
        producer: Output,
        read_back: ReadBack,
        pauses: TopicPauses | None = None,
        versions: Mapping[str, Declared] | None = None,
        logs: LogRecall | None = None,
        remembers: Recall | None = None,
        told: Told | None = None,
        rebuilder: Reads | None = None,
        summarisers: Mapping[str, Code] | None = None,
    ) -> None:
        self._consumer, self._producer = consumer, producer
        self._limits, self._topics = topology.limits, topology.topics()
        threads = CallThreads()
        self._events = EventLog(topology, codec, producer, versions, lambda: threads.is_calling)
        contexts = Contexts(topology, told, self._events.versions)
        self._memory = Recollection(contexts, logs, remembers)
        self._events.changed = contexts.changed
        self._inboxes: dict[TopicPartition, Inbox] = {}
        self._positions = Positions(consumer, self._inboxes)
        self._reader = DaemonPool("host-reader", 1)
        questions = Questions(self._reader.submit, self._positions.are_ours)
        ownership = Ownership(questions.ask)
        room = Room(topology.limits.host_inflight_max)
        self._services = {
            name: Service(
                name,
                agent,
                Caller(make_runner(name, agent, targets[name], threads=threads), writes=agent.effect == "write"),
                self._events,
                self._memory,
                room,
                ownership.confirmed,
                self._fail,
                partial(self._is_paused, name),
            )
            for name, agent in topology.agents.items()
        }
        self._intake = Intake(topology, codec, producer, self._inboxes, pauses)
        self._pauses = pauses
        self._snapshots = (
            Snapshots(
                topology,
                rebuilder,
                self._events.append,
                ownership.confirmed,
                self._inboxes,
                self._positions.committed,
                {name: each.name for name, each in (versions or {}).items()},
            )
            if rebuilder is not None
            else None
        )
        self._summarising = Summarising(
            topology,
            summarisers or {},
            {name: maker_of(agent.summary) for name, agent in topology.agents.items() if agent.summary is not None},
            self._events,
            self._memory,
            self._inboxes,
        )
        self._regulation = Regulation(
            consumer,
            self._reader,
            self._inboxes,
            self._services,
            room,
            self._events,
            pauses,
            topology.limits.host_inflight_max,
        )
        self._tenure = Tenure(
            consumer,
            read_back,
            self._positions,
            self._events,
            self._memory,
            questions,
            self._services,
            self._snapshots,
            self._inboxes,
            self._regulation,
            self._fail,
        )
        self._committed_at = 0.0
        self._measured_at = 0.0
        self._failed: asyncio.Future[None] | None = None

    def _is_paused(self, agent_id: str) -> bool:
        return self._pauses is not None and agent_id in self._pauses.agents

    async def run(self, ready: Callable[[Mapping[str, object]], None], stop: threading.Event) -> None:
        self._failed = asyncio.get_running_loop().create_future()
        self._tenure.begin(self._topics.inboxes)
        writing = asyncio.create_task(self._events.run())
        serving = asyncio.create_task(self._serve(ready, stop))
        tasks = [writing, serving, asyncio.create_task(self._summarising.run())]
        if self._snapshots is not None:
            tasks.append(asyncio.create_task(self._keep_snapshots(self._snapshots)))
        try:
            for task in await self._first_done({*tasks, self._failed}, stop):
                task.result()
        finally:
            self._tenure.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if self._snapshots is not None:
                self._snapshots.close()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._reader.run(self._consumer.close, CLOSE_S), CLOSE_S)
            self._reader.close()
            self._memory.close()
            self._summarising.close()
            await asyncio.gather(*(service.close() for service in self._services.values()))

    @staticmethod
    async def _keep_snapshots(snapshots: Snapshots) -> None:
        await snapshots.run()
        await asyncio.Event().wait()  # switched off: that is no reason to end

    async def _first_done(self, tasks: set[asyncio.Future[None]], stop: threading.Event) -> set[asyncio.Future[None]]:
        """Those that are done first; none, where the end takes too long: a broker that is gone must not prevent it."""
        ends_at = math.inf
        while time.monotonic() < ends_at:
            done, _ = await asyncio.wait(tasks, timeout=STOP_POLL_S, return_when=asyncio.FIRST_COMPLETED)
            if done:
                return done
            for seconds, where in self._reader.overdue(OVERDUE_S):
                log.warning("the consumer does not come back", seconds=round(seconds, 1), where=where)
            if stop.is_set():
                ends_at = min(ends_at, time.monotonic() + END_S)
        log.warning("the broker does not answer; what it has not confirmed is repeated by the next host")
        return set()

    async def _serve(self, ready: Callable[[Mapping[str, object]], None], stop: threading.Event) -> None:
        is_ready = False
        while not stop.is_set():
            for batch in await self._reader.run(self._consumer.poll):
                for agent_id, attempts in self._intake.take(batch):
                    self._services[agent_id].take(attempts)
            if self._tenure.is_assigned and not is_ready:
                ready({"agents": len(self._services), "inboxes": len(self._inboxes)})
                is_ready = True
            for service in self._services.values():
                service.pump()
            if not self._positions.at_stake:
                await self._regulation.regulate()
                await self._commit_if_due()
            await self._measure()
        drain_s = min(self._limits.drain_ms / 1000, DRAIN_MAX_S)
        done = await self._tenure.give_up(list(self._inboxes), drain_s, SETTLE_S / 8)
        await self._reader.run(self._positions.commit, done)

    async def _measure(self) -> None:
        """Shows how far behind the reading of the inboxes is."""
        if time.monotonic() - self._measured_at >= MEASURE_S:
            self._measured_at = time.monotonic()
            show_lag(await self._reader.run(self._consumer.lag))

    def _fail(self, error: Exception) -> None:
        if self._failed is not None and not self._failed.done():
            self._failed.set_exception(error)

    async def _commit_if_due(self) -> None:
        now, due = time.monotonic(), self._committed_at + self._limits.commit_interval_ms / 1000
        if now < due:
            return
        self._events.hold(True)
        if self._producer.drained():
            positions = self._positions.news(self._inboxes.values())
            self._events.hold(False)
            self._committed_at = now
            await self._reader.run(self._positions.commit, positions)
        elif now > due + HOLD_S:  # the broker is slow, or away: what it has not got yet is better off in its queue
            self._events.hold(False)
            self._committed_at = now
