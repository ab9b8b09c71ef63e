"""Brings conversations to hand before their agents are called: out of the history, and of the log what that lacks.

Who waits for one partition's memory at the same time shares one reading. I/O: what it is given to read with, in a
thread of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from agents.context import Contexts, Conversation
from agents.inbox import Inbox
from agents.logrecall import LogMemory, LogRecall, only
from agents.memory.model import Key
from agents.memory.ports import Recall, Remembered, SourceAway
from schemas.epochs import LogEpochs
from streams.transport.telemetry import get_logger
from streams.transport.threads import DaemonPool

log = get_logger("pointsman.host")

GATHER_S = 0.005  # those who come within this time share a reading
AGAIN_S = 0.05  # the last outcome of a conversation that was let go may not be in the log yet
NOTHING = Remembered()


@dataclass(slots=True)
class _Partition:
    """What is known of one agent's log in one partition. `seen`: None until the log was read once."""

    epochs: LogEpochs
    seen: set[int] | None = None
    waiting: dict[Conversation, asyncio.Future[None]] = field(default_factory=dict)
    reading: asyncio.Task[None] | None = None


class Recollection:
    """Belongs to one event loop. `history` is asked first, where there is one."""

    def __init__(self, contexts: Contexts, logs: LogRecall | None, history: Recall | None = None) -> None:
        self.contexts, self._logs, self._history = contexts, logs, history
        self._partitions: dict[tuple[str, int], _Partition] = {}
        self._pool = DaemonPool("host-memory", 1)

    def own(self, inbox: Inbox) -> None:
        """This host has the inbox now."""
        self._partitions[inbox.agent_id, inbox.partition] = _Partition(inbox.epochs)

    def give_up(self, agent_id: str, partition: int) -> None:
        gone = self._partitions.pop((agent_id, partition), None)
        if gone is not None and gone.reading is not None:
            gone.reading.cancel()
        self.contexts.forget(agent_id, partition)

    async def ready(self, conversations: Collection[Conversation]) -> None:
        """Returns once all of them are at hand."""
        for conversation in conversations:
            while not self.contexts.is_at_hand(conversation):
                await asyncio.shield(self._wanted(conversation))

    def close(self) -> None:
        self._pool.close()

    def _wanted(self, conversation: Conversation) -> asyncio.Future[None]:
        """A future that ends with the reading that brings it."""
        loop = asyncio.get_running_loop()
        part = self._partitions.setdefault(
            (conversation.agent_id, conversation.partition), _Partition(LogEpochs(), set())
        )
        future = part.waiting.get(conversation)
        if future is None:
            future = part.waiting[conversation] = loop.create_future()
            if self._is_new(part, conversation):
                self._put(part, conversation, NOTHING)
            elif part.reading is None:
                part.reading = loop.create_task(self._read(conversation.agent_id, conversation.partition, part))
        return future

    def _is_new(self, part: _Partition, conversation: Conversation) -> bool:
        return (
            part.seen is not None
            and hash(conversation.key) not in part.seen
            and not self.contexts.count_of(conversation)
        )

    def _put(self, part: _Partition, conversation: Conversation, remembered: Remembered) -> None:
        future = part.waiting.get(conversation)
        if self.contexts.put(conversation, remembered) and future is not None:
            del part.waiting[conversation]
            if not future.done():
                future.set_result(None)

    async def _read(self, agent_id: str, partition: int, part: _Partition) -> None:
        await asyncio.sleep(GATHER_S)
        try:
            while part.waiting:
                wanted = {conversation.key: conversation for conversation in part.waiting}
                try:
                    found, seen = await self._pool.run(self._recall, agent_id, partition, part, frozenset(wanted))
                except Exception as error:  # noqa: BLE001  a broker that is away is asked again
                    log.warning("memory cannot be read; it is tried again", agent=agent_id, why=str(error)[:300])
                    await asyncio.sleep(AGAIN_S * 10)
                    continue
                if seen is not None:
                    part.seen = seen
                for key, conversation in wanted.items():
                    self._put(part, conversation, found.get(key, NOTHING))
                for key, remembered in found.items():
                    if key not in wanted:
                        self.contexts.put(
                            Conversation(agent_id, partition, key.tenant, key.conversation_id), remembered
                        )
                if part.waiting:
                    await asyncio.sleep(AGAIN_S)
        finally:
            part.reading = None

    def _recall(
        self, agent_id: str, partition: int, part: _Partition, keys: frozenset[Key]
    ) -> tuple[Mapping[Key, Remembered], set[int] | None]:
        """In the pool's thread."""
        if self._logs is None:
            return {}, set()
        if self._history is not None:
            try:
                stored, through = self._history.recall(partition, keys)
                since = through.get(agent_id, 0)
                tail = self._logs.read(agent_id, partition, only(keys), since=since, epochs=part.epochs)
            except SourceAway as error:
                log.warning("the history is away; memory is read from the log", why=str(error)[:300])
            else:
                return {key: joined(stored.get(key, NOTHING), tail.memories.get(key, NOTHING)) for key in keys}, None
        every = part.seen is None
        found: LogMemory = self._logs.read(
            agent_id,
            partition,
            (lambda _key: True) if every else only(keys),
            bytes_max=max(self.contexts.bytes_max // 2, 1) if every else 2**62,
        )
        if every and not keys <= found.memories.keys() | {key for key in keys if hash(key) not in found.seen}:
            missing = only([key for key in keys if key not in found.memories])
            found.memories |= self._logs.read(agent_id, partition, missing).memories
        return found.memories, found.seen if every else None


def joined(stored: Remembered, tail: Remembered) -> Remembered:
    """What the history holds, and behind it what the log has."""
    return Remembered(
        stored.interactions + tail.interactions, stored.facts_before + tail.facts_before, stored.models + tail.models
    )
