"""What a host has to know of an inbox before it reads on: the outcomes that are in the log, and the conversations.

An agent is its log. So what a dispatch that is read again has led to, and what the agent remembers, are both read back
on assignment. The memory is bounded: LOOKBACK_MS and LOOKBACK_ROWS before the first dispatch that is not committed.
I/O: Kafka.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from agents.context import Conversation
from agents.contract import Interaction
from agents.dispatches import attempt_ids
from agents.inbox import AttemptId, Inbox, Logged
from agents.outcome import OUTCOMES, STARTED
from schemas.codec import Codec
from schemas.topology import Topology
from streams.transport.batch import Batch, TopicPartition
from streams.transport.consumer import NO_OFFSET, BatchConsumer

LOOKBACK_MS = 600_000
LOOKBACK_ROWS = 2_000


class _Asked(NamedTuple):
    conversation: Conversation
    text: str


@dataclass(slots=True)
class Recovered:
    """Inboxes ready to be read on, and what was said in their conversations, in order."""

    inboxes: list[Inbox] = field(default_factory=list)
    interactions: list[tuple[Conversation, Interaction]] = field(default_factory=list)


class ReadBack:
    """Used in one thread, with a consumer and a codec of its own. The consumer is in no group."""

    def __init__(self, topology: Topology, codec: Codec, consumer: BatchConsumer) -> None:
        self._codec, self._consumer = codec, consumer
        self._margin_ms = topology.limits.clock_skew_margin_ms
        self._remembers = topology.limits.context_interactions > 0
        topics = topology.topics()
        self._agents = {topics.inbox(name): name for name in topology.agents}
        self._events = {topics.inbox(name): topics.events(name) for name in topology.agents}
        # A batch agent is shown no context.
        self._with_memory = {topics.inbox(name) for name, agent in topology.agents.items() if agent.kind != "batch"}

    def read(self, committed: Mapping[TopicPartition, tuple[int, str]]) -> Recovered:
        """For each inbox partition and its committed position; its metadata is the append time, in ms, of the first
        dispatch that is not committed. Raises TransportError when the logs cannot be read."""
        inboxes = list(committed)
        logs = {tp: TopicPartition(self._events[tp.topic], tp.partition) for tp in inboxes}
        marks = self._consumer.watermarks([*inboxes, *logs.values()])
        since = {tp: int(meta) for tp, (offset, meta) in committed.items() if offset != NO_OFFSET and meta.isdecimal()}
        asked = self._read_inboxes(committed, since, marks)
        logged = self._read_logs(logs, since, marks)
        recovered = Recovered()
        for tp in inboxes:
            outcomes = logged.get(logs[tp], {})
            agent_id, questions = self._agents[tp.topic], asked.get(tp, {})
            inbox = Inbox(agent_id, tp.topic, tp.partition, outcomes, marks[tp][1])
            recovered.inboxes.append(inbox)
            for attempt, logged_as in outcomes.items():
                question = questions.get(attempt)
                if question is not None and logged_as.kind in OUTCOMES:
                    recovered.interactions.append(
                        (question.conversation, interaction(attempt, question.text, logged_as))
                    )
        return recovered

    def _read_inboxes(
        self,
        committed: Mapping[TopicPartition, tuple[int, str]],
        since: Mapping[TopicPartition, int],
        marks: Mapping[TopicPartition, tuple[int, int]],
    ) -> dict[TopicPartition, dict[AttemptId, _Asked]]:
        """What was asked in conversations before the committed positions."""
        wanted = [tp for tp in since if self._remembers and tp.topic in self._with_memory]
        starts = self._consumer.offsets_for_times({tp: max(since[tp] - LOOKBACK_MS, 0) for tp in wanted})
        until = {tp: committed[tp][0] for tp in wanted}
        starts = {tp: max(start, until[tp] - LOOKBACK_ROWS, marks[tp][0]) for tp, start in starts.items()}
        asked: dict[TopicPartition, dict[AttemptId, _Asked]] = {}
        for batch in self._consumer.read_to_end(starts, until):
            decoded = self._codec.decode(batch.values, "TaskDispatched")
            slips, tasks = decoded.batch.column("slip"), decoded.batch.column("task")
            columns = zip(
                _rows(batch, decoded.rows.tolist()),
                attempt_ids(slips, tasks),
                tasks.field("conversation_id").to_pylist(),
                tasks.field("text").to_pylist(),
                strict=True,
            )
            for (tp, offset), attempt, conversation_id, text in columns:
                if conversation_id is not None and offset < until[tp]:
                    conversation = Conversation(self._agents[tp.topic], tp.partition, attempt.tenant, conversation_id)
                    asked.setdefault(tp, {})[attempt] = _Asked(conversation, text)
        return asked

    def _read_logs(
        self,
        logs: Mapping[TopicPartition, TopicPartition],
        since: Mapping[TopicPartition, int],
        marks: Mapping[TopicPartition, tuple[int, int]],
    ) -> dict[TopicPartition, dict[AttemptId, Logged]]:
        """The last event of each attempt, in the order of the log."""
        margin = {logs[tp]: max(at - self._margin_ms, 0) for tp, at in since.items()}
        memory = {logs[tp]: max(at - LOOKBACK_MS, 0) for tp, at in since.items() if tp.topic in self._with_memory}
        starts = {tp: marks[tp][0] for tp in logs.values()}
        starts |= self._consumer.offsets_for_times(margin)
        for tp, offset in self._consumer.offsets_for_times(memory).items():
            starts[tp] = min(starts[tp], max(offset, marks[tp][1] - LOOKBACK_ROWS))
        logged: dict[TopicPartition, dict[AttemptId, Logged]] = {}
        for batch in self._consumer.read_to_end(starts, {tp: marks[tp][1] for tp in logs.values()}):
            decoded = self._codec.decode(batch.values, "AgentEvent")
            columns = zip(
                _rows(batch, decoded.rows.tolist()),
                attempt_ids(decoded.batch.column("slip"), decoded.batch.column("task")),
                *(decoded.batch.column(name).to_pylist() for name in ("kind", "answer", "finished_at")),
                strict=True,
            )
            for (tp, _), attempt, kind, answer, at in columns:
                of_log = logged.setdefault(tp, {})
                if kind in OUTCOMES:
                    if attempt in of_log and of_log[attempt].kind != STARTED:
                        continue  # the first outcome counts
                    of_log.pop(attempt, None)
                    of_log[attempt] = Logged(kind, answer, at)
                elif kind == STARTED:
                    of_log.setdefault(attempt, Logged(STARTED))
        return logged


def interaction(attempt: AttemptId, asked: str, logged: Logged) -> Interaction:
    return Interaction(attempt.task_id, asked, logged.answer, logged.kind, logged.at)


def _rows(batch: Batch, rows: Iterable[int]) -> list[tuple[TopicPartition, int]]:
    partitions, offsets = batch.partitions.tolist(), batch.offsets.tolist()
    return [(TopicPartition(batch.topics[row], partitions[row]), offsets[row]) for row in rows]
