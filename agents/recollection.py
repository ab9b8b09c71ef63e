"""Brings conversations to hand before their agents are called, out of the history and the log (agents/sources.py).

Who waits for one partition's memory at the same time shares one reading. I/O: what it is given to read with, in a
thread of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import dataclass, field

from agents.context import Contexts
from agents.conversation import Conversation
from agents.inbox import Inbox
from agents.memory.model import Summary
from agents.memory.ports import Recall, Remembered
from agents.sources import NOTHING, KnownLog, Logs, Sources
from streams.transport.telemetry import get_logger
from streams.transport.threads import DaemonPool

log = get_logger("pointsman.host")

GATHER_S = 0.005  # those who come within this time share a reading
AGAIN_S = 0.05  # the last outcome of a conversation that was let go may not be in the log yet


@dataclass(slots=True)
class _Partition:
    """Who waits for memories of one agent in one partition."""

    log: KnownLog
    waiting: dict[Conversation, asyncio.Future[None]] = field(default_factory=dict)
    reading: asyncio.Task[None] | None = None


class Recollection:
    """Belongs to one event loop. Without `logs` no conversation was there before."""

    def __init__(self, contexts: Contexts, logs: Logs | None, history: Recall | None = None) -> None:
        self.contexts = contexts
        self._sources = None if logs is None else Sources(logs, history, max(contexts.bytes_max // 2, 1))
        self._partitions: dict[tuple[str, int], _Partition] = {}
        self._pool = DaemonPool("host-memory", 1)
        self._arriving: dict[Conversation, tuple[int, asyncio.Future[bool]]] = {}

    def own(self, inbox: Inbox) -> None:
        """This host has the inbox now."""
        self._partitions[inbox.agent_id, inbox.partition] = _Partition(KnownLog(inbox.epochs))

    def give_up(self, agent_id: str, partition: int) -> None:
        gone = self._partitions.pop((agent_id, partition), None)
        if gone is not None and gone.reading is not None:
            gone.reading.cancel()
        self.contexts.forget(agent_id, partition)

    async def ready(self, conversations: Collection[Conversation]) -> None:
        """Returns once all of them are at hand, with what is shown of them from their next call on."""
        for conversation in conversations:
            if self._arriving:
                await self._arrived(conversation)
            while not self.contexts.is_at_hand(conversation):
                await asyncio.shield(self._wanted(conversation))

    def modelled(self, conversation: Conversation, summary: Summary, delivered: asyncio.Future[bool]) -> None:
        """A model's summary is on its way to the log: once it is there, agents are shown it."""
        self._arriving[conversation] = summary.since, delivered

        def arrived(future: asyncio.Future[bool]) -> None:
            if self._arriving.get(conversation, (0, None))[1] is future:
                del self._arriving[conversation]
            if not future.cancelled() and future.result():
                self.contexts.modelled(conversation, summary)

        delivered.add_done_callback(arrived)

    async def _arrived(self, conversation: Conversation) -> None:
        """What the log may hold before the next outcome is in it when this returns. So what an agent was shown can be
        told from its log."""
        since, delivered = self._arriving.get(conversation, (0, None))
        if delivered is not None and not 0 < self.contexts.count_of(conversation) < since:
            await asyncio.wait([delivered])

    def close(self) -> None:
        self._pool.close()

    def _wanted(self, conversation: Conversation) -> asyncio.Future[None]:
        """A future that ends with the reading that brings it."""
        loop = asyncio.get_running_loop()
        part = self._partitions.setdefault(
            (conversation.agent_id, conversation.partition), _Partition(KnownLog(seen=set()))
        )
        future = part.waiting.get(conversation)
        if future is None:
            future = part.waiting[conversation] = loop.create_future()
            sources = self._sources
            new = NOTHING if sources is None else self._new(sources, part, conversation)
            if new is not None:
                self._put(part, conversation, new)
            elif part.reading is None and sources is not None:
                part.reading = loop.create_task(
                    self._read(sources, conversation.agent_id, conversation.partition, part)
                )
        return future

    def _new(self, sources: Sources, part: _Partition, conversation: Conversation) -> Remembered | None:
        found = None if self.contexts.count_of(conversation) else sources.new(part.log, conversation.key)
        if found is not None and part.log.seen is not None:
            part.log.seen.add(hash(conversation.key))  # however many come and are let go, this one is not new again
        return found

    def _put(self, part: _Partition, conversation: Conversation, remembered: Remembered) -> None:
        future = part.waiting.get(conversation)
        if self.contexts.put(conversation, remembered) and future is not None:
            del part.waiting[conversation]
            if not future.done():
                future.set_result(None)

    async def _read(self, sources: Sources, agent_id: str, partition: int, part: _Partition) -> None:
        await asyncio.sleep(GATHER_S)
        try:
            while part.waiting:
                wanted = {conversation.key: conversation for conversation in part.waiting}
                try:
                    found = await self._pool.run(sources.recall, agent_id, partition, part.log, frozenset(wanted))
                except Exception as error:  # noqa: BLE001  a broker that is away is asked again
                    log.warning("memory cannot be read; it is tried again", agent=agent_id, why=str(error)[:300])
                    await asyncio.sleep(AGAIN_S * 10)
                    continue
                if found.seen is not None:
                    part.log.seen, part.log.begin = found.seen, found.begin
                for key, conversation in wanted.items():
                    self._put(part, conversation, found.memories.get(key, NOTHING))
                for key, remembered in found.memories.items():
                    if key not in wanted:
                        other = Conversation(agent_id, partition, key.tenant, key.conversation_id)
                        self.contexts.put(other, remembered)
                if part.waiting:
                    await asyncio.sleep(AGAIN_S)
        finally:
            part.reading = None
