"""The agent host: dispatches in, agents called, events out, and no offset committed before its outcome is in the log.

Its event loop owns all state. The consumer blocks, so it has a thread of its own, in which the rebalance callbacks run
too; they ask the loop and wait. I/O: Kafka, and what the agents do.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any, TypeVar

import numpy as np

from agents.calls import Caller
from agents.context import Contexts
from agents.contract import Interaction
from agents.dispatches import Attempt, Dispatched, attempts
from agents.event_log import EventLog
from agents.inbox import IN_HAND, Inbox
from agents.outcome import STARTED
from agents.readback import ReadBack, Recovered
from agents.registry import Code
from agents.service import Room, Service
from agents.threads import DaemonPool
from schemas.codec import Codec, DecodeFault
from schemas.deadletter import Origin, burial
from schemas.topology import Topology
from streams.transport.batch import Batch, TopicPartition
from streams.transport.clients import CommitRejectedError, CommitUnavailableError
from streams.transport.consumer import BatchConsumer
from streams.transport.producer import Producer
from streams.transport.telemetry import DEAD_LETTERS, get_logger

log = get_logger("pointsman.host")

COMPONENT = "host"
REVOKE_S = 3.0  # what running attempts get when their partitions go to another host
SETTLE_S = 2.0  # what their events get to be delivered
DRAIN_MAX_S = 3.5  # of the 4 s that a process has to end
ANSWER_S = 10.0  # longest time that a rebalance callback waits for the loop
# The part of what the host takes in that one agent may hold before its inboxes are paused (a poll adds as much at
# most): one that hangs must not keep the others from their work.
SHARE = 4
RESUME_BELOW = 0.5

T = TypeVar("T")


class Host:
    """`run` serves until `stop` is set; it raises what makes it impossible to go on, and then commits nothing."""

    def __init__(
        self,
        topology: Topology,
        codes: Mapping[str, Code],
        codec: Codec,
        consumer: BatchConsumer,
        producer: Producer,
        read_back: ReadBack,
    ) -> None:
        self._codec, self._consumer, self._producer, self._read_back = codec, consumer, producer, read_back
        self._limits, self._topics = topology.limits, topology.topics()
        self._events = EventLog(topology, codec, producer)
        self._contexts = Contexts(topology.limits.context_interactions)
        self._room = Room(topology.limits.host_inflight_max)
        self._services = {
            name: Service(
                name, agent, Caller(name, agent, codes[name]), self._events, self._contexts, self._room, self._fail
            )
            for name, agent in topology.agents.items()
        }
        self._inboxes: dict[TopicPartition, Inbox] = {}
        self._committed: dict[TopicPartition, int] = {}
        self._committed_at = 0.0
        self._paused: set[TopicPartition] = set()
        self._batches_read = 0
        self._reader = DaemonPool("host-reader", 1)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._failed: asyncio.Future[None] | None = None
        self._is_assigned = False
        self._closing = False

    async def run(self, ready: Callable[[Mapping[str, object]], None], stop: threading.Event) -> None:
        self._loop = asyncio.get_running_loop()
        self._failed = self._loop.create_future()
        self._consumer.subscribe(
            self._topics.inboxes, on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._lost
        )
        writing = asyncio.create_task(self._events.run())
        serving = asyncio.create_task(self._serve(ready, stop))
        try:
            done, _ = await asyncio.wait({writing, serving, self._failed}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            self._closing = True
            for task in (writing, serving):
                task.cancel()
            await asyncio.gather(writing, serving, return_exceptions=True)
            await self._reader.run(self._consumer.close, 1.0)
            self._reader.close()
            for service in self._services.values():
                service.close()

    async def _serve(self, ready: Callable[[Mapping[str, object]], None], stop: threading.Event) -> None:
        is_ready = False
        while not stop.is_set():
            for batch in await self._reader.run(self._consumer.poll):
                self._handle(batch)
            if self._is_assigned and not is_ready:
                ready({"agents": len(self._services), "inboxes": len(self._inboxes)})
                is_ready = True
            for service in self._services.values():
                service.pump()
            await self._regulate()
            await self._commit_if_due()
        drain_s = min(self._limits.drain_ms / 1000, DRAIN_MAX_S)
        await self._reader.run(self._commit, await self._give_up(list(self._inboxes), drain_s, SETTLE_S / 4))

    def _fail(self, error: Exception) -> None:
        if self._failed is not None and not self._failed.done():
            self._failed.set_exception(error)

    # Dispatches in.

    def _handle(self, batch: Batch) -> None:
        """One batch of one agent's dispatches: taken in, recognised, and given to the agent's service."""
        batch, owners = self._owned(batch)
        if not owners:
            return
        decoded = self._codec.decode(batch.values, "TaskDispatched")
        offsets = batch.offsets.tolist()
        _take(owners, offsets, batch.timestamps_ms.tolist())
        for fault in decoded.faults:
            self._bury(batch, fault, owners[fault.row])
        rows = decoded.rows.tolist()
        self._batches_read += 1
        source = Dispatched.of(self._batches_read, decoded.batch, [batch.keys[row] for row in rows])
        agent_id = batch.channel
        read = attempts(source, [owners[row] for row in rows], [offsets[row] for row in rows])
        self._services[agent_id].take([attempt for attempt in read if self._is_new(attempt)])

    def _owned(self, batch: Batch) -> tuple[Batch, list[Inbox]]:
        """The records of inboxes that are this host's, with the inbox of each. One poll may read and hand over."""
        tps = map(TopicPartition, batch.topics, batch.partitions.tolist())
        owners = [self._inboxes.get(tp) for tp in tps]
        if None in owners:
            batch = batch.take(np.flatnonzero([owner is not None for owner in owners]))
        return batch, [owner for owner in owners if owner is not None]

    def _is_new(self, attempt: Attempt) -> bool:
        """Whether the agent has to be called for it; what is known of it already is done with, or remembered."""
        known = attempt.inbox.meet(attempt.id)
        if known is None:
            return True
        if known.kind == STARTED:
            attempt.began_before = True
            return True
        if known is not IN_HAND:
            self._contexts.fold(
                attempt.conversation,
                Interaction(attempt.id.task_id, attempt.text, known.answer, known.kind, known.at),
            )
        attempt.inbox.tracker.finish(attempt.offset)
        return False

    def _bury(self, batch: Batch, fault: DecodeFault, inbox: Inbox) -> None:
        origin = Origin(
            inbox.topic, inbox.partition, int(batch.offsets[fault.row]), int(batch.timestamps_ms[fault.row])
        )
        value, key = batch.values[fault.row], batch.keys[fault.row]
        letter = burial(value, key, origin, fault.reason, fault.detail, COMPONENT)
        self._producer.send_one(self._topics.dead, letter.value, letter.key, inbox.partition, letter.headers)
        inbox.tracker.finish(origin.offset)
        DEAD_LETTERS.labels(topic=inbox.topic, reason=fault.reason).inc()

    async def _regulate(self) -> None:
        """Pause the inboxes of agents that have their share in hand, all of them where the host has; resume later."""
        most = self._limits.host_inflight_max
        full = self._room.taken + len(self._events) >= most
        wanted = set()
        for tp, inbox in self._inboxes.items():
            bound = most // SHARE if tp not in self._paused else most // SHARE * RESUME_BELOW
            if full or self._services[inbox.agent_id].taken >= max(bound, 1):
                wanted.add(tp)
        if pause := wanted - self._paused:
            await self._reader.run(self._consumer.pause, pause)
        if resume := self._paused - wanted:
            await self._reader.run(self._consumer.resume, resume)
        self._paused = wanted

    # Offsets.

    async def _commit_if_due(self) -> None:
        now = time.monotonic()
        if now - self._committed_at < self._limits.commit_interval_ms / 1000:
            return
        self._events.hold(True)
        if self._producer.drained():
            positions = self._positions(self._inboxes.values())
            self._events.hold(False)
            self._committed_at = now
            await self._reader.run(self._commit, positions)

    def _positions(self, inboxes: Iterable[Inbox]) -> dict[TopicPartition, tuple[int, str]]:
        """What is done, where that is news; to be read in the moment in which all is delivered."""
        found = {}
        for inbox in inboxes:
            tp, position = TopicPartition(inbox.topic, inbox.partition), inbox.tracker.position
            if position is not None and position != self._committed.get(tp):
                found[tp] = (position, str(inbox.tracker.low_watermark_ms))
        return found

    def _commit(self, positions: Mapping[TopicPartition, tuple[int, str]]) -> None:
        """In the reader's thread. What is not committed now is committed later, or by the next owner."""
        try:
            self._consumer.commit(positions)
        except (CommitRejectedError, CommitUnavailableError) as error:
            log.warning("a commit failed", why=str(error))
            return
        self._committed.update({tp: position for tp, (position, _) in positions.items()})

    # Partitions come and go; these run in the reader's thread, inside a poll.

    def _assigned(self, tps: list[TopicPartition]) -> None:
        recovered = self._read_back.read(self._consumer.committed(tps)) if tps else Recovered()
        self._ask(self._take_over(recovered))
        log.info("inboxes assigned", inboxes=len(tps))

    def _revoked(self, tps: list[TopicPartition]) -> None:
        if not self._closing:
            self._commit(self._ask(self._give_up(tps, REVOKE_S, SETTLE_S)))
            log.info("inboxes given up", inboxes=len(tps))

    def _lost(self, tps: list[TopicPartition]) -> None:
        if not self._closing:
            for tp in tps:
                if (inbox := self._inboxes.get(tp)) is not None:
                    inbox.lost = True  # nothing more is written for it
            self._ask(self._give_up(tps, 0.0, 0.0))
            log.warning("inboxes lost", inboxes=len(tps))

    def _ask(self, work: Coroutine[Any, Any, T]) -> T:
        assert self._loop is not None
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(ANSWER_S)

    async def _take_over(self, recovered: Recovered) -> None:
        for inbox in recovered.inboxes:
            self._inboxes[TopicPartition(inbox.topic, inbox.partition)] = inbox
        for conversation, interaction in recovered.interactions:
            self._contexts.fold(conversation, interaction)
        self._is_assigned = True

    async def _give_up(
        self, tps: Iterable[TopicPartition], run_s: float, settle_s: float
    ) -> dict[TopicPartition, tuple[int, str]]:
        """Ends the work on these inboxes and forgets them; gives what may be committed of them."""
        inboxes = {self._inboxes[tp] for tp in tps if tp in self._inboxes}
        await asyncio.gather(*(service.release(inboxes, run_s) for service in self._services.values()))
        self._events.hold(False)
        delivered = await self._events.settle(settle_s)
        positions = self._positions(inbox for inbox in inboxes if not inbox.lost) if delivered else {}
        for inbox in inboxes:
            tp = TopicPartition(inbox.topic, inbox.partition)
            del self._inboxes[tp]
            self._committed.pop(tp, None)
            self._paused.discard(tp)
            self._contexts.forget(inbox.agent_id, inbox.partition)
        return positions


def _take(owners: list[Inbox], offsets: list[int], appended_ms: list[int]) -> None:
    """Tell each inbox what was read of it."""
    first: dict[Inbox, int] = {}
    read: dict[Inbox, list[int]] = {}
    for inbox, offset, at in zip(owners, offsets, appended_ms, strict=True):
        first.setdefault(inbox, at)
        read.setdefault(inbox, []).append(offset)
    for inbox, some in read.items():
        inbox.take(some, first[inbox])
