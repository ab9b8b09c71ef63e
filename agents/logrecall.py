"""Memory out of the logs: what an agent was asked stands in its inbox, what it did in its log, side by side.

It is read where the history is behind, or away. A memory reaches as far back as the retention of both. I/O: Kafka.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pyarrow as pa

from agents.conversation import INTERACTION_BYTES
from agents.dispatches import attempt_ids
from agents.memory.fold import facts_of, pin
from agents.memory.model import CHUNK, Fact, Interaction, Key, Place, Summary
from agents.memory.modelled import SUMMARISED, summary_of
from agents.memory.ports import Remembered
from agents.memory.sources import Asked
from agents.memory.sources import interaction_of as joined
from agents.outcome import NOTE, OUTCOMES
from agents.questions import Questions, questions_in
from agents.readback import events_in
from agents.recognition import AttemptId
from schemas.codec import Codec
from schemas.epochs import Epochs, LogEpochs
from schemas.topology import Topology
from streams.transport.batch import TopicPartition
from streams.transport.consumer import BatchConsumer

KEPT = 240
"""Outcomes kept of one conversation while a log is read: twice what a state depends on, for what fenced hosts wrote."""

_IDENTITY = ("conversation_id", "cause_id", "labels")

Wanted = Callable[[Key], bool]


class _Event(NamedTuple):
    """What an event says of an outcome, in the columns of AgentEvent."""

    kind: str
    ordinal: int
    epoch: int
    answer: str | None
    tool_calls: str | None
    facts: Sequence[str]
    error: str | None
    started_at: int
    finished_at: int
    tokens_in: int
    tokens_out: int
    cost_microusd: int
    agent_version: str
    event_id: str


class _Done(NamedTuple):
    """An outcome without what was asked."""

    attempt: AttemptId
    place: Place
    routed_at: int
    identity: tuple[Any, ...]
    event: _Event

    @property
    def bytes(self) -> int:
        return INTERACTION_BYTES + sum(len(each) for each in self.event if isinstance(each, str))


@dataclass(slots=True)
class _Memory:
    done: list[_Done] = field(default_factory=list)
    facts: tuple[Fact, ...] = ()
    models: deque[Summary] = field(default_factory=lambda: deque(maxlen=KEPT // CHUNK))


@dataclass(slots=True)
class LogMemory:
    """What the logs of one agent and partition hold. `seen` are hashes of all memories that have anything there, also
    of those that were not wanted or did not fit. `begin` and `end` are where the agent's log began and ended."""

    memories: dict[Key, Remembered] = field(default_factory=dict)
    seen: set[int] = field(default_factory=set)
    begin: int = 0
    end: int = 0


class LogRecall:
    """Used in one thread, with a consumer and a codec of its own; the consumer is in no group."""

    def __init__(self, topology: Topology, codec: Codec, consumer: BatchConsumer) -> None:
        self._topics, self._codec, self._consumer = topology.topics(), codec, consumer
        self._margin_ms = topology.limits.clock_skew_margin_ms

    def span(self, agent_id: str, partition: int) -> tuple[int, int]:
        """Where the agent's log begins and ends now. Raises TransportError."""
        log = TopicPartition(self._topics.events(agent_id), partition)
        return self._consumer.watermarks([log])[log]

    def read(
        self,
        agent_id: str,
        partition: int,
        wanted: Wanted,
        *,
        since: int = 0,
        epochs: LogEpochs | None = None,
        bytes_max: int = 2**62,
    ) -> LogMemory:
        """The memories that are wanted, those used last where they are more than fit.

        `since` is an offset in the agent's log; `epochs` what is known of its claims before that. Raises
        TransportError.
        """
        log = TopicPartition(self._topics.events(agent_id), partition)
        inbox = TopicPartition(self._topics.inbox(agent_id), partition)
        marks = self._consumer.watermarks([log, inbox])
        low, high = marks[log]
        found = LogMemory(begin=low, end=high)
        known = Epochs({log: epochs or LogEpochs()})
        memories = self._outcomes(agent_id, log, (max(low, since), high), known, wanted, found, bytes_max)
        asked = self._asked(inbox, marks[inbox], memories)
        for key, memory in memories.items():
            pairs = ((each, asked.of(each.attempt, key.conversation_id, each.routed_at)) for each in memory.done)
            found.memories[key] = Remembered(
                tuple(interaction_of(key, each, said.text, said.place) for each, said in pairs if said is not None),
                memory.facts,
                tuple(memory.models),
            )
        return found

    def _outcomes(
        self,
        agent_id: str,
        log: TopicPartition,
        span: tuple[int, int],
        epochs: Epochs,
        wanted: Wanted,
        found: LogMemory,
        bytes_max: int,
    ) -> OrderedDict[Key, _Memory]:
        memories: OrderedDict[Key, _Memory] = OrderedDict()
        held = 0
        for key, done in self.events(agent_id, log, span, epochs):
            found.seen.add(hash(key))
            if not wanted(key):
                continue
            memory = memories.get(key)
            if memory is None:
                memory = memories[key] = _Memory()
            memories.move_to_end(key)
            if isinstance(done, Summary):
                memory.models.append(done)
                continue
            memory.done.append(done)
            held += done.bytes
            if len(memory.done) > KEPT:
                gone = memory.done.pop(0)
                held -= gone.bytes
                memory.facts = pin(memory.facts, facts_of(interaction_of(key, gone, "", None)))
            while held > bytes_max and len(memories) > 1:
                _, old = memories.popitem(last=False)
                held -= sum(each.bytes for each in old.done)
        return memories

    def events(
        self, agent_id: str, log: TopicPartition, span: tuple[int, int], epochs: Epochs
    ) -> Iterator[tuple[Key, _Done | Summary]]:
        """The interactions in the order of the log, and what models made of them, without what is void."""
        start, end = span
        for batch in self._consumer.read_to_end({log: start}, {log: end}):
            events, rows, void = events_in(self._codec, batch, epochs)
            passed_over = frozenset(void.tolist())
            slips, tasks = events.column("slip"), events.column("task")
            columns = zip(
                batch.offsets[rows].tolist(),
                attempt_ids(slips, tasks),
                slips.field("routed_at").to_pylist(),
                zip(*(tasks.field(name).to_pylist() for name in _IDENTITY), strict=True),
                zip(*(events.column(name).to_pylist() for name in _Event._fields), strict=True),
                strict=True,
            )
            for row, (offset, attempt, routed_at, identity, values) in enumerate(columns):
                kind, ordinal = values[:2]
                if ordinal and kind in OUTCOMES and identity[0] is not None and row not in passed_over:
                    key = Key(attempt.tenant, agent_id, identity[0])
                    yield (
                        key,
                        _Done(
                            attempt, Place(log.topic, log.partition, offset), routed_at, identity, _Event._make(values)
                        ),
                    )
                elif kind == NOTE and identity[0] is not None and row not in passed_over:
                    summary = _summary(events, row, values[2], Place(log.topic, log.partition, offset))
                    if summary is not None:
                        yield Key(attempt.tenant, agent_id, identity[0]), summary

    def _asked(self, inbox: TopicPartition, marks: tuple[int, int], memories: Mapping[Key, _Memory]) -> Questions:
        """What the attempts were asked, and where that stands."""
        wanted = {(each.attempt, key.conversation_id) for key, memory in memories.items() for each in memory.done}
        found = Questions()
        if not wanted:
            return found
        # A dispatch is appended after it was routed, by a worker whose clock may differ.
        first_ms = min(each.routed_at for memory in memories.values() for each in memory.done) // 1000 - self._margin_ms
        low, high = marks
        low = max(low, self._consumer.offsets_for_times({inbox: max(first_ms, 0)})[inbox])
        for batch in self._consumer.read_to_end({inbox: low}, {inbox: high}):
            for each in questions_in(self._codec, batch):
                if (each.attempt, each.conversation_id) in wanted:
                    found.add(each)
        return found


def _summary(events: pa.RecordBatch, row: int, epoch: int, place: Place) -> Summary | None:
    """What a note of a conversation says, where that is a summary."""
    if events.column("slip").field("reason")[row].as_py() != SUMMARISED:
        return None
    return summary_of(events.column("payload")[row].as_py(), epoch, place)


def interaction_of(key: Key, done: _Done, asked: str, inbox: Place | None) -> Interaction:
    event, (_, cause_id, labels) = done.event, done.identity
    _, task_id, attempt, stage = done.attempt
    said = Asked(task_id, attempt, stage, asked, dict(labels or ()), cause_id, inbox)
    return joined(key, said, event, event.epoch, event.agent_version, event=done.place, event_id=event.event_id)


def only(keys: Collection[Key]) -> Wanted:
    """Exactly these."""
    return frozenset(keys).__contains__
