"""Writes agents' logs: events in columns, to the partition that their dispatch came from, and offsets done with them.

I/O: Kafka, through the producer that it is given.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from typing import Any, Protocol

from agents.dispatches import Attempt
from agents.event_columns import Block, event_table
from agents.event_encoder import Entry, EventEncoder
from agents.inbox import Inbox
from agents.memory.model import Key, Summary
from agents.notes import Note, claims, summary_note
from agents.outcome import STARTED, Outcome
from agents.outcome_columns import Outcomes, judged
from agents.version import Declared
from schemas.codec import Codec
from schemas.topology import Topology
from streams.transport.batch import TopicPartition
from streams.transport.producer import Sends

COALESCE_S = 0.002  # events that end within this time share one encoding
COMPANY_S = 0.01  # and so do those of short calls that run still, for no longer than this
POLL_S = 0.001
# A confirmation that takes seconds is not asked for each millisecond: it may come late by a quarter of what it took.
POLL_GROWTH, POLL_MAX_S = 1.25, 0.05


class Sender(Sends, Protocol):
    """The part of streams.transport.producer.Output that is used here; both raise DeliveryError."""

    def drained(self, timeout_s: float = 0.0) -> bool: ...


class EventLog:
    """Belongs to one event loop; `run` must run in it, and what it raises must end the process. `more_to_come` says
    whether calls run that are short, most likely.

    An offset counts as done in the moment in which its outcome is handed to the producer. So a position is safe to
    commit if it is read right after `drained` said yes.
    """

    def __init__(
        self,
        topology: Topology,
        codec: Codec,
        producer: Sender,
        versions: Mapping[str, Declared] | None = None,
        more_to_come: Callable[[], bool] = lambda: False,
    ) -> None:
        self._codec, self._producer, self._more_to_come = codec, producer, more_to_come
        topics = topology.topics()
        self._topics = {name: topics.events(name) for name in topology.agents}
        self._agents = {topic: name for name, topic in self._topics.items()}
        self._declared = versions or {name: Declared(each.version, {}) for name, each in topology.agents.items()}
        self.versions: Mapping[str, str] = {name: each.name for name, each in self._declared.items()}
        self._record_bytes_max = topology.limits.record_bytes_max
        self._pending: list[Entry | Block | Note] = []
        self._waiting = 0
        self._unconfirmed: list[asyncio.Future[Any]] = []
        self._wake = asyncio.Event()
        self._held = False
        writers = frozenset(name for name, agent in topology.agents.items() if agent.effect == "write")
        # Told of an attempt of which the log gets another outcome than was queued.
        self.changed: Callable[[Attempt], None] = lambda _attempt: None
        self._encoder = EventEncoder(codec, self.versions, writers, self._record_bytes_max, self._note_change)

    def _note_change(self, attempt: Attempt) -> None:
        self.changed(attempt)

    def __len__(self) -> int:
        """Events that are not handed over yet."""
        return self._waiting

    def write(self, attempt: Attempt, outcome: Outcome) -> None:
        """Queue an outcome; its dispatch is done with once it is handed over."""
        self._queue([Entry(attempt, outcome, None)], 1)

    def write_rows(self, block: Block) -> None:
        """As `write`, for many."""
        self._queue([block], len(block.rows))

    def write_summary(
        self, inbox: Inbox, key: Key, summary: Summary, times: tuple[int, int]
    ) -> asyncio.Future[bool] | None:
        """Queue what a model made of a conversation. The future says whether the log has it: it has not where the inbox
        was lost. None where it makes too large a record."""
        (value,) = self._codec.encode(
            summary_note(inbox, key, summary, self.versions[inbox.agent_id], times), "AgentEvent"
        )
        if len(value) > self._record_bytes_max:
            return None
        delivered: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._queue([Note(inbox, key.conversation_id.encode(), value, delivered)], 1)
        return delivered

    def _queue(self, pending: Sequence[Entry | Block | Note], n: int) -> None:
        self._pending += pending
        self._waiting += n
        self._wake.set()

    async def start(self, attempts: Sequence[Attempt], started_at: int) -> None:
        """Returns once STARTED of all of them is in the log: only then may the agent be called."""
        delivered: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        event = Outcome(STARTED, started_at=started_at)
        self._queue([Entry(attempt, event, delivered) for attempt in attempts], len(attempts))
        await delivered

    async def claim(
        self, epochs: Mapping[TopicPartition, int], timeout_s: float, known: Mapping[TopicPartition, str] | None = None
    ) -> bool:
        """Whether each of these logs holds a claim with its epoch (schemas/epochs.py) within this time.

        A claim names the version that answers from there on. Where that is not the `known` one, the log's last, it says
        what the version consists of.
        """
        agents = [self._agents[log.topic] for log in epochs]
        versions = [self.versions[name] for name in agents]
        changes = [
            None if (known or {}).get(log) == version else json.dumps({"declared": dict(self._declared[name].parts)})
            for log, name, version in zip(epochs, agents, versions, strict=True)
        ]
        values = self._codec.encode(claims(agents, epochs, versions, changes), "AgentEvent")
        for log, value in zip(epochs, values, strict=True):
            self._producer.send(log.topic, log.partition, [value], [self._agents[log.topic].encode()])
        return await self._confirmed_within(timeout_s)

    async def append(
        self, topic: str, partition: int, values: Sequence[bytes | None], keys: Sequence[bytes], timeout_s: float
    ) -> bool:
        """Other records of the host's, in the order of its events; whether they are delivered within this time."""
        self._producer.send(topic, partition, values, keys)
        return await self._confirmed_within(timeout_s)

    def hold(self, held: bool) -> None:
        """While held nothing more is handed over, so that the producer comes to an end and a position can be taken."""
        self._held = held
        if not held:
            self._wake.set()

    async def run(self) -> None:
        """Hands events over as they come, for ever."""
        while True:
            await self._wake.wait()
            await self._company()
            self._wake.clear()
            if self._held:
                continue
            self._hand_over()
            if self._unconfirmed:
                await self._confirmation()

    async def _company(self) -> None:
        """A hand-over costs as much as a hundred events of it: the first of a poll's wait for the others."""
        until = time.monotonic() + COMPANY_S
        await asyncio.sleep(COALESCE_S)
        while self._more_to_come() and time.monotonic() < until:  # noqa: ASYNC110  calls need not tell it
            await asyncio.sleep(POLL_S)

    async def settle(self, timeout_s: float) -> bool:
        """Whether all that was written is delivered within this time."""
        self._hand_over()
        return await self._confirmed_within(timeout_s)

    async def _confirmed_within(self, timeout_s: float) -> bool:
        try:
            await asyncio.wait_for(self._confirmation(), timeout_s)
        except TimeoutError:
            return False
        return True

    async def _confirmation(self) -> None:
        pause_s = POLL_S
        while not self._confirmed():  # the producer has to be polled
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * POLL_GROWTH, POLL_MAX_S)

    def _confirmed(self) -> bool:
        if not self._producer.drained():
            return False
        for future in self._unconfirmed:
            if not future.done():  # cancelled, if nobody waits any more
                future.set_result(True)
        self._unconfirmed.clear()
        return True

    def _hand_over(self) -> None:
        pending, self._pending, self._waiting = self._pending, [], 0
        for kind, group in groupby(pending, type):
            if kind is Block:
                self._hand_over_blocks([each for each in group if isinstance(each, Block)])
            elif kind is Entry:
                self._hand_over_entries([each for each in group if isinstance(each, Entry)])
            else:
                self._hand_over_notes([each for each in group if isinstance(each, Note)])

    def _hand_over_notes(self, notes: list[Note]) -> None:
        for note in notes:
            if note.inbox.lost:
                if not note.delivered.done():
                    note.delivered.set_result(False)
            else:
                self._producer.send(self._topics[note.inbox.agent_id], note.inbox.partition, [note.value], [note.key])
                self._unconfirmed.append(note.delivered)

    def _hand_over_blocks(self, blocks: list[Block]) -> None:
        """As `_hand_over_entries`, in columns; what is not as most are goes there."""
        blocks.sort(key=lambda block: block.place)  # neighbours again, as they were read; an agent's are in order
        outcomes = judged([block.given for block in blocks])
        for block, counts in zip(blocks, outcomes.counts([len(block.rows) for block in blocks]), strict=True):
            block.counted(counts)
        if any(inbox.lost for block in blocks for inbox in block.rows.inboxes):
            self._hand_over_one_by_one(blocks, outcomes)
            return
        values = self._codec.encode(event_table(blocks, outcomes, self.versions), "AgentEvent")
        if max(map(len, values)) > self._record_bytes_max:
            self._hand_over_one_by_one(blocks, outcomes)
            return
        at = 0
        for block in blocks:
            for span, keys in zip(block.rows.spans, block.rows.keys(), strict=True):
                inbox, n = span.inbox, span.stop - span.start
                self._producer.send(self._topics[inbox.agent_id], inbox.partition, values[at : at + n], keys)
                inbox.tracker.finish_many(span.offsets)
                at += n

    def _hand_over_one_by_one(self, blocks: list[Block], outcomes: Outcomes) -> None:
        of_rows = iter(outcomes.rows())
        for block in blocks:
            started, finished = block.started_at, block.finished_at
            entries = [
                Entry(attempt, next(of_rows)._replace(started_at=started, finished_at=finished), None)
                for attempt in block.rows.attempts()
            ]
            self._hand_over_entries(entries)

    def _hand_over_entries(self, pending: list[Entry]) -> None:
        pending = [entry for entry in pending if not entry.attempt.inbox.lost]
        if not pending:
            return
        pending, values = self._encoder.encoded(pending)
        groups: dict[tuple[str, int], tuple[list[bytes | None], list[bytes | None]]] = {}
        for entry, value in zip(pending, values, strict=True):
            attempt = entry.attempt
            of_values, of_keys = groups.setdefault((attempt.inbox.agent_id, attempt.inbox.partition), ([], []))
            of_values.append(value)
            of_keys.append(attempt.source.keys[attempt.row])
        for (agent_id, partition), (of_values, of_keys) in groups.items():
            self._producer.send(self._topics[agent_id], partition, of_values, of_keys)
        for entry in pending:
            if entry.delivered is None:
                entry.attempt.inbox.tracker.finish(entry.attempt.offset)
        self._unconfirmed += {id(entry.delivered): entry.delivered for entry in pending if entry.delivered}.values()
