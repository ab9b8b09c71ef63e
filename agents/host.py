"""The agent host: dispatches in, agents called, events out, and no offset committed before its outcome is in the log.

Its event loop owns all state. The consumer blocks, so it has a thread of its own, in which the rebalance callbacks run
too; they ask the loop and wait. I/O: Kafka, and what the agents do.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from agents.calls import Caller
from agents.context import Contexts
from agents.conversation import Conversation
from agents.event_log import EventLog
from agents.inbox import Inbox
from agents.intake import Intake
from agents.logrecall import LogRecall
from agents.memory.model import State
from agents.memory.ports import Recall, Told
from agents.ownership import Ownership, Questions
from agents.positions import Committed, Positions
from agents.readback import ReadBack, Recovered
from agents.recollection import Recollection
from agents.registry import Code, Target
from agents.runners.make import make_runner
from agents.runners.turns import CallThreads
from agents.service import Service
from agents.snapshots import Reads, Snapshots
from agents.summarising import Summarising
from agents.version import Declared, maker_of
from agents.work import Room
from schemas.codec import Codec
from schemas.epochs import is_behind, next_epoch
from schemas.topology import Topology
from streams.transport.batch import TopicPartition
from streams.transport.clients import TransportError
from streams.transport.consumer import BatchConsumer
from streams.transport.pauses import TopicPauses
from streams.transport.producer import Output
from streams.transport.telemetry import CONSUMER_LAG, MEASURE_S, get_logger, show_lag
from streams.transport.threads import DaemonPool, has_ended

log = get_logger("pointsman.host")

REVOKE_S = 3.0  # what running attempts get when their partitions go to another host
SETTLE_S = 2.0  # what their events get to be delivered
# Of the 4 s that a process has to end: what running attempts get, all of it, and leaving the group.
DRAIN_MAX_S = 3.0
END_S = 3.5
CLOSE_S = 0.4
STOP_POLL_S = 0.1
HOLD_S = 0.25  # how long events are held back at most for the sake of a position
CLAIM_S = 9.0  # what its claims get to be delivered
MEMORY_S = 120.0  # what reading snapshots and the rest of the logs may take when inboxes are taken over
ANSWER_EACH_S = 0.02
ANSWER_S = 10.0  # longest time that a rebalance callback waits for the loop
# The part of what the host takes in that one agent may hold before its inboxes are paused (a poll adds as much at
# most): one that hangs must not keep the others from their work.
SHARE = 4
RESUME_BELOW = 0.5
# A pause throws away what the client has fetched ahead: an agent that is quick gets this time to make room instead.
PATIENCE_S = 0.05
POLL_S = 0.002

T = TypeVar("T")


class Host:
    """`run` serves until `stop` is set; it raises what makes it impossible to go on, and then commits nothing."""

    def __init__(
        self,
        topology: Topology,
        targets: Mapping[str, Target],
        codec: Codec,
        consumer: BatchConsumer,
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
        self._consumer, self._producer, self._read_back = consumer, producer, read_back
        self._limits, self._topics = topology.limits, topology.topics()
        self._events = EventLog(topology, codec, producer, versions)
        contexts = Contexts(topology, told, self._events.versions)
        self._memory = Recollection(contexts, logs, remembers)
        self._events.changed = contexts.changed
        self._inboxes: dict[TopicPartition, Inbox] = {}
        self._positions = Positions(consumer, self._inboxes)
        self._reader = DaemonPool("host-reader", 1)
        self._questions = Questions(self._reader.submit, self._positions.are_ours)
        self._ownership = Ownership(self._questions.ask)
        self._room = Room(topology.limits.host_inflight_max)
        threads = CallThreads()
        self._services = {
            name: Service(
                name,
                agent,
                Caller(make_runner(name, agent, targets[name], threads=threads), writes=agent.effect == "write"),
                self._events,
                self._memory,
                self._room,
                self._ownership.confirmed,
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
                self._ownership.confirmed,
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
        self._committed_at = 0.0
        self._measured_at = 0.0
        self._paused: set[TopicPartition] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._failed: asyncio.Future[None] | None = None
        self._is_assigned = False
        self._closing = False

    def _is_paused(self, agent_id: str) -> bool:
        return self._pauses is not None and agent_id in self._pauses.agents

    async def run(self, ready: Callable[[Mapping[str, object]], None], stop: threading.Event) -> None:
        self._loop = asyncio.get_running_loop()
        self._failed = self._loop.create_future()
        self._consumer.subscribe(
            self._topics.inboxes, on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._lost
        )
        writing = asyncio.create_task(self._events.run())
        serving = asyncio.create_task(self._serve(ready, stop))
        tasks = [writing, serving, asyncio.create_task(self._summarising.run())]
        if self._snapshots is not None:
            tasks.append(asyncio.create_task(self._keep_snapshots(self._snapshots)))
        try:
            for task in await self._first_done({*tasks, self._failed}, stop):
                task.result()
        finally:
            self._closing = True
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

    @staticmethod
    async def _first_done(tasks: set[asyncio.Future[None]], stop: threading.Event) -> set[asyncio.Future[None]]:
        """Those that are done first; none, where the end takes too long: a broker that is gone must not prevent it."""
        ends_at = math.inf
        while time.monotonic() < ends_at:
            done, _ = await asyncio.wait(tasks, timeout=STOP_POLL_S, return_when=asyncio.FIRST_COMPLETED)
            if done:
                return done
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
            if self._is_assigned and not is_ready:
                ready({"agents": len(self._services), "inboxes": len(self._inboxes)})
                is_ready = True
            for service in self._services.values():
                service.pump()
            await self._regulate()
            await self._commit_if_due()
            await self._measure()
        drain_s = min(self._limits.drain_ms / 1000, DRAIN_MAX_S)
        done = await self._give_up(list(self._inboxes), drain_s, SETTLE_S / 8)
        await self._reader.run(self._positions.commit, done)

    async def _measure(self) -> None:
        """Shows how far behind the reading of the inboxes is."""
        if time.monotonic() - self._measured_at >= MEASURE_S:
            self._measured_at = time.monotonic()
            show_lag(await self._reader.run(self._consumer.lag))

    def _fail(self, error: Exception) -> None:
        if self._failed is not None and not self._failed.done():
            self._failed.set_exception(error)

    # How much is taken in.

    async def _regulate(self) -> None:
        """Pause the inboxes of agents that have their share in hand, all of them where the host has; resume later."""
        wanted, patience = self._full(), time.monotonic() + PATIENCE_S
        while not wanted <= self._paused and time.monotonic() < patience:
            await asyncio.sleep(POLL_S)
            wanted = self._full()
        if pause := wanted - self._paused:
            await self._reader.run(self._consumer.pause, pause)
        if resume := self._paused - wanted:
            await self._reader.run(self._consumer.resume, resume)
        self._paused = wanted

    def _full(self) -> set[TopicPartition]:
        """Inboxes of which no more can be taken in now."""
        most = self._limits.host_inflight_max
        if self._room.taken + len(self._events) >= most:
            return set(self._inboxes)
        resting = self._pauses.resting if self._pauses is not None else frozenset[str]()
        full = {tp for tp in self._inboxes if tp.topic in resting}
        for tp, inbox in self._inboxes.items():
            share = max(most // SHARE, 1)
            if self._services[inbox.agent_id].taken >= (share * RESUME_BELOW if tp in self._paused else share):
                full.add(tp)
        return full

    # Offsets.

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

    # Partitions come and go; these run in the reader's thread, inside a poll.

    def _assigned(self, tps: list[TopicPartition]) -> None:
        if self._closing:  # it leaves the group, which then hears of it
            return
        # What this host wrote under an earlier assignment must be in the log before it is read.
        self._ask(self._events.settle(SETTLE_S))
        committed = self._positions.read(tps)
        recovered = self._read_back.read(committed, self._claim) if tps else Recovered()
        states = (
            self._ask(self._snapshots.take_over(recovered.inboxes), MEMORY_S)
            if self._snapshots is not None and tps
            else []
        )
        self._ask(self._take_over(recovered, states))
        # The next owner has to know of this one's claims, though this one may come to nothing.
        self._positions.commit(self._positions.claimed(recovered.inboxes))
        log.info("inboxes assigned", inboxes=len(tps))

    def _claim(
        self, newest: Mapping[TopicPartition, int], versions: Mapping[TopicPartition, str]
    ) -> Mapping[TopicPartition, int]:
        """The epochs in which this host owns the agents' logs, once these say so.

        Raises CommitRejectedError where the inboxes are another's by now, CommitUnavailableError or TransportError
        where that cannot be told, or the logs do not take the claims.
        """
        generation = self._consumer.generation()
        if any(is_behind(generation, epoch) for epoch in newest.values()):
            # This host was started again in its slot, and the group has not moved; or another one has them by now; or
            # the group was forgotten, and counts from one again.
            self._positions.stand()
            log.warning("the log knows this generation already; its epochs go on from there", generation=generation)
        epochs = {log_: next_epoch(generation, epoch) for log_, epoch in newest.items()}
        if not self._ask(self._events.claim(epochs, CLAIM_S, versions)):
            raise TransportError("the broker did not take the claims of the agents' logs; start the host again")
        return epochs

    def _revoked(self, tps: list[TopicPartition]) -> None:
        if not self._closing:
            done = self._ask(self._give_up(tps, REVOKE_S, SETTLE_S), meanwhile=self._questions.answer)
            self._positions.commit(done)
            log.info("inboxes given up", inboxes=len(tps))

    def _lost(self, tps: list[TopicPartition]) -> None:
        if not self._closing:
            for tp in tps:
                if (inbox := self._inboxes.get(tp)) is not None:
                    inbox.lost = True  # nothing more is written for it
            self._ask(self._give_up(tps, 0.0, 0.0))
            log.warning("inboxes lost", inboxes=len(tps))

    def _ask(
        self, work: Coroutine[Any, Any, T], timeout_s: float = ANSWER_S, meanwhile: Callable[[], None] | None = None
    ) -> T:
        """What the loop says. `meanwhile` is done again and again: a write that is to end before its inbox goes waits
        to hear whose that is, and the group has not moved on as long as this thread has not given it up."""
        assert self._loop is not None
        asked, until = asyncio.run_coroutine_threadsafe(work, self._loop), time.monotonic() + timeout_s
        while meanwhile is not None and not has_ended(asked, ANSWER_EACH_S) and time.monotonic() < until:
            meanwhile()
        if not has_ended(asked, max(until - time.monotonic(), 0.0)):
            raise TransportError(f"kept from its work for {timeout_s:g} s, stopped or starved: start the host again")
        return asked.result()

    async def _take_over(self, recovered: Recovered, states: Iterable[tuple[Conversation, State]]) -> None:
        for inbox in recovered.inboxes:
            self._inboxes[TopicPartition(inbox.topic, inbox.partition)] = inbox
            self._memory.own(inbox)
        for conversation, state in states:
            self._memory.contexts.adopt(conversation, state)
        self._is_assigned = True

    async def _give_up(self, tps: Iterable[TopicPartition], run_s: float, settle_s: float) -> Committed:
        """Ends the work on these inboxes and forgets them; gives what may be committed of them."""
        inboxes = {self._inboxes[tp] for tp in tps if tp in self._inboxes}
        await asyncio.gather(*(service.release(inboxes, run_s) for service in self._services.values()))
        self._events.hold(False)
        delivered = await self._events.settle(settle_s)
        positions = self._positions.news(inbox for inbox in inboxes if not inbox.lost) if delivered else {}
        for inbox in inboxes:
            tp = TopicPartition(inbox.topic, inbox.partition)
            del self._inboxes[tp]
            self._positions.forget(tp)
            self._paused.discard(tp)
            self._memory.give_up(inbox.agent_id, inbox.partition)
        CONSUMER_LAG.clear()  # what is left to us is shown again in a moment
        return positions
