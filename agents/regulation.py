"""How much a host takes in: the inboxes of an agent that has its share in hand are paused, and resumed later.

I/O: the clock, and the consumer, in the reader's thread.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping

from agents.event_log import EventLog
from agents.inbox import Inbox
from agents.service import Service
from agents.work import Room
from streams.transport.batch import TopicPartition
from streams.transport.consumer import GroupConsumer
from streams.transport.pauses import TopicPauses
from streams.transport.threads import DaemonPool

# The part of what the host takes in that one agent may hold before its inboxes are paused (a poll adds as much at
# most): one that hangs must not keep the others from their work.
SHARE = 4
RESUME_BELOW = 0.5
# A pause throws away what the client has fetched ahead: an agent that is quick gets this time to make room instead.
PATIENCE_S = 0.05
POLL_S = 0.002


class Regulation:
    """Of one host, whose `inboxes` are those that it has by now; in its event loop. Of those that are `arriving`, which
    the host says, nothing is to be read yet."""

    def __init__(
        self,
        consumer: GroupConsumer,
        reader: DaemonPool,
        inboxes: Mapping[TopicPartition, Inbox],
        services: Mapping[str, Service],
        room: Room,
        events: EventLog,
        pauses: TopicPauses | None,
        inflight_max: int,
    ) -> None:
        self._consumer, self._reader, self._inboxes = consumer, reader, inboxes
        self._services, self._room, self._events, self._pauses = services, room, events, pauses
        self._inflight_max = inflight_max
        self._paused: set[TopicPartition] = set()
        self.arriving: set[TopicPartition] = set()

    async def regulate(self) -> None:
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

    def paused_at_first(self, tps: Iterable[TopicPartition]) -> set[TopicPartition]:
        """Which of these, just assigned, are to be paused before anything of them is read: to be called in the reader's
        thread, inside a poll, when nobody regulates."""
        paused = self.arriving.intersection(tps)
        self._paused |= paused
        return paused

    def forget(self, tp: TopicPartition) -> None:
        """It is no longer paused, for it was taken away; it may come back."""
        self._paused.discard(tp)

    def _full(self) -> set[TopicPartition]:
        """Inboxes of which no more can be taken in now."""
        most = self._inflight_max
        if self._room.taken + len(self._events) >= most:
            return set(self._inboxes)
        resting = self._pauses.resting if self._pauses is not None else frozenset[str]()
        share = max(most // SHARE, 1)
        if not (resting or self._paused or self.arriving) and all(
            each.taken < share for each in self._services.values()
        ):
            return set()  # as after nearly every poll: nothing is asked of each inbox
        full = {tp for tp in self._inboxes if tp.topic in resting or tp in self.arriving}
        for tp, inbox in self._inboxes.items():
            if self._services[inbox.agent_id].taken >= (share * RESUME_BELOW if tp in self._paused else share):
                full.add(tp)
        return full
