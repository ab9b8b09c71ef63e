"""Keeps an agent's log short to read: its owner writes a snapshot now and then, and the next one begins with it.

A snapshot is due when as much was written since the last one as that took, so that all of them together are no more
than the log itself, however long a conversation grows. It is made beside the agents' work, out of the topics, in a
thread of its own; and written only once the broker has said, after it was made, that the log is still ours. I/O: Kafka.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from agents.conversation import Conversation
from agents.inbox import Inbox
from agents.memory.model import State
from agents.memory.snapshot import Part, pack, to_record
from agents.rebuild import Rebuilt
from schemas.epochs import LogEpochs
from schemas.topology import Topology
from streams.transport.batch import TopicPartition
from streams.transport.clients import TransportError
from streams.transport.telemetry import HOST_SNAPSHOTS_REFUSED, get_logger
from streams.transport.threads import DaemonPool

log = get_logger("pointsman.host")

EVERY_S = 1.0
CONVERSATIONS_MAX = 20_000  # in one snapshot; those that were used last
DELIVERED_S = 30.0
READ_MAX = 100_000
"""Events that are read when an inbox is taken over: half a minute's. More are left to the history, and to the next
snapshot, which is made beside the agents' work."""

RECORD_SHARE = 0.75  # of the largest record: the head takes some, too

Append = Callable[[str, int, Sequence[bytes | None], Sequence[bytes], float], Awaitable[bool]]
"""Topic, partition, values, keys, and the time they have; whether they were delivered in it."""


class Reads(Protocol):
    """The part of agents.rebuild.Rebuilder that is used here."""

    def parts(self, partition: int) -> dict[str, dict[bytes, Part]]: ...

    def rebuild(
        self,
        agent_id: str,
        partition: int,
        epochs: LogEpochs,
        parts: Iterable[Part],
        done: int | None = None,
        limit: int | None = None,
    ) -> Rebuilt: ...


@dataclass(slots=True)
class _Kept:
    """Of one inbox: when its next snapshot is due, where the last one is, and which records of others are left over."""

    due: int
    slot: int = 0
    sizes: list[int] = field(default_factory=lambda: [0, 0])
    stale: list[bytes] = field(default_factory=list)


class Snapshots:
    """Belongs to one event loop. `inboxes` and `done` are the host's: what it owns, and how far each is committed."""

    def __init__(
        self,
        topology: Topology,
        reads: Reads,
        append: Append,
        owns: Callable[[], Awaitable[None]],
        inboxes: Mapping[TopicPartition, Inbox],
        done: Mapping[TopicPartition, int],
        versions: Mapping[str, str],
    ) -> None:
        self._reads, self._append, self._owns = reads, append, owns
        self._inboxes, self._done, self._versions = inboxes, done, versions
        self._topic = topology.topics().snapshots
        self._every = topology.limits.snapshot_events
        self._part_bytes = int(topology.limits.record_bytes_max * RECORD_SHARE)
        self.with_memory = {name for name, agent in topology.agents.items() if agent.remembers}
        self._kept: dict[Inbox, _Kept] = {}
        self._pool, self._telling = DaemonPool("host-snapshots", 1), DaemonPool("host-memory-hash", 1)

    async def take_over(
        self, inboxes: Sequence[Inbox]
    ) -> AsyncIterator[tuple[Inbox, list[tuple[Conversation, State]]]]:
        """What the agents remember, inbox by inbox, of all that are still ours when it is their turn: nothing of those
        whose logs have no snapshot. The hash that was reached is said by and by: it takes as long as the reading.

        A log without one is not read as a whole: it may be long. Raises TransportError where topics cannot be read.
        """
        self._kept = {inbox: kept for inbox, kept in self._kept.items() if self._is_ours(inbox)}
        for number in sorted({inbox.partition for inbox in inboxes}):
            parts = await self._pool.run(self._reads.parts, number)
            for inbox in inboxes:
                if inbox.partition == number and self._is_ours(inbox):
                    yield inbox, await self._remembered(inbox, parts.get(inbox.agent_id, {}))

    async def _remembered(self, inbox: Inbox, own: Mapping[bytes, Part]) -> list[tuple[Conversation, State]]:
        if inbox.agent_id not in self.with_memory:
            return []
        kept, found = _Kept(due=self._every, stale=list(own)), list[tuple[Conversation, State]]()
        if own:
            rebuilt = await self._pool.run(self._rebuilt, inbox, list(own.values()), None, READ_MAX)
            kept.due = rebuilt.position.inbox + self._every
            found = await self._pool.run(_states, inbox, rebuilt)
            self._telling.submit(_tell, inbox, rebuilt)
        self._kept[inbox] = kept  # from now on one may be due
        return found

    def _is_ours(self, inbox: Inbox) -> bool:
        return self._inboxes.get(TopicPartition(inbox.topic, inbox.partition)) is inbox

    async def run(self) -> None:
        """Writes snapshots as they fall due, for ever; returns where none are wanted."""
        while self._every:
            await asyncio.sleep(EVERY_S)
            for tp, inbox in list(self._inboxes.items()):
                kept, done = self._kept.get(inbox), self._done.get(tp, 0)
                if kept is None or done < kept.due:
                    continue
                try:
                    await self._write(inbox, kept, done)
                except TransportError as error:
                    kept.due = done + self._every
                    log.warning("a snapshot has to wait", agent=inbox.agent_id, why=str(error))

    def close(self) -> None:
        self._pool.close()
        self._telling.close()

    async def _write(self, inbox: Inbox, kept: _Kept, done: int) -> None:
        parts = await self._pool.run(self._reads.parts, inbox.partition)
        rebuilt = await self._pool.run(self._rebuilt, inbox, list(parts.get(inbox.agent_id, {}).values()), done)
        tell_refused(rebuilt)
        packed = await self._pool.run(self._packed, inbox, rebuilt)
        await self._owns()
        if not self._is_ours(inbox):
            return  # it went to another host meanwhile
        slot = 1 - kept.slot
        values: list[bytes | None] = [to_record(part) for part in packed]
        keys = [_key(inbox, slot, number) for number in range(max(len(packed), kept.sizes[slot]))]
        values += [None] * (len(keys) - len(values))  # what was longer there before
        if not await self._append(self._topic, inbox.partition, values, keys, DELIVERED_S):
            raise TransportError("the broker did not take it in time")
        size = sum(len(part.data) for part in packed)
        kept.slot, kept.sizes[slot] = slot, len(packed)
        kept.due = done + max(self._every, size * rebuilt.events // max(rebuilt.read_bytes, 1))
        log.info(
            "snapshot written",
            agent=inbox.agent_id, partition=inbox.partition, epoch=inbox.epoch, hash=packed[0].state_hash,
            conversations=packed[0].states, bytes=size, events=rebuilt.events, position=rebuilt.position.log,
            seconds=round(rebuilt.seconds, 3),
        )  # fmt: skip
        if kept.stale:  # of owners before: this one is whole, so theirs are not needed
            await self._append(self._topic, inbox.partition, [None] * len(kept.stale), kept.stale, DELIVERED_S)
            kept.stale = []

    def _rebuilt(self, inbox: Inbox, parts: Sequence[Part], done: int | None, limit: int | None = None) -> Rebuilt:
        return self._reads.rebuild(inbox.agent_id, inbox.partition, LogEpochs(inbox.epochs.since), parts, done, limit)

    def _packed(self, inbox: Inbox, rebuilt: Rebuilt) -> list[Part]:
        version = self._versions.get(inbox.agent_id, "")
        return pack(
            rebuilt.snapshot(inbox.agent_id, inbox.partition, inbox.epoch, version, CONVERSATIONS_MAX), self._part_bytes
        )


def tell_refused(rebuilt: Rebuilt) -> None:
    """Says which snapshots were refused, and counts them."""
    for part, why in rebuilt.found.refused:
        HOST_SNAPSHOTS_REFUSED.labels(reason=str(why)).inc()
        log.warning(
            "a snapshot is refused; an older one, or the log, is read instead",
            agent=part.agent_id, partition=part.partition, epoch=part.epoch, position=part.log_offset, reason=str(why),
        )  # fmt: skip


def _tell(inbox: Inbox, rebuilt: Rebuilt) -> None:
    """In a thread that nobody waits for."""
    try:
        tell(inbox, rebuilt)
    except Exception:
        log.exception("what was taken over has no hash", agent=inbox.agent_id, partition=inbox.partition)


def tell(inbox: Inbox, rebuilt: Rebuilt) -> None:
    """Says what an agent was taken over with, and which snapshots were refused."""
    tell_refused(rebuilt)
    if rebuilt.is_left:
        log.warning("a log is too long to be read without a snapshot; one is on its way", agent=inbox.agent_id)
        return
    snapshot = rebuilt.found.snapshot
    log.info(
        "memory taken over",
        agent=inbox.agent_id, partition=inbox.partition, epoch=inbox.epoch, hash=rebuilt.memory.hash(),
        from_epoch=None if snapshot is None else snapshot.epoch, events=rebuilt.events,
        position=rebuilt.position.log, cold=len(rebuilt.memory.cold), seconds=round(rebuilt.seconds, 3),
    )  # fmt: skip


def _states(inbox: Inbox, rebuilt: Rebuilt) -> list[tuple[Conversation, State]]:
    """Those that were used last come last."""
    return [
        (Conversation(inbox.agent_id, inbox.partition, key.tenant, key.conversation_id), state)
        for key, state in rebuilt.memory.states().items()
    ]


def _key(inbox: Inbox, slot: int, part: int) -> bytes:
    """Two slots, so that the last one stays whole while the next is written; an epoch of its own for each owner, so
    that one that is late overwrites nothing."""
    return f"{inbox.agent_id}/{inbox.epoch}/{slot}/{part}".encode()
