"""What a host has to know of an inbox before it reads on: the outcomes that are in the log, and the conversations.

An agent is its log. So what a dispatch that is read again has led to, and what the agent remembers, are both read back
on assignment. The memory is bounded: LOOKBACK_MS and LOOKBACK_ROWS before the first dispatch that is not committed, and
of agents that write, whatever may come again and be called (agents/recognition.py).
I/O: Kafka.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from agents.calls import wall_us
from agents.context import Conversation
from agents.contract import Interaction
from agents.dispatches import attempt_ids
from agents.inbox import Inbox, read_note
from agents.outcome import OUTCOMES, STARTED
from agents.recognition import AttemptId, Logged, Memory, Recognition
from schemas.codec import Codec
from schemas.epochs import Epochs, LogEpochs
from schemas.topology import Topology
from streams.transport.batch import Batch, TopicPartition
from streams.transport.consumer import NO_OFFSET, BatchConsumer

LOOKBACK_MS = 600_000
LOOKBACK_ROWS = 2_000
EVENTS_OF_A_WRITE = 2  # STARTED, and what came of it


Claim = Callable[[Mapping[TopicPartition, int], Mapping[TopicPartition, str]], Mapping[TopicPartition, int]]
"""Given the newest epoch in each log, and the version that answered last, claims them; gives the epochs that are now
one's own."""


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
        limits = topology.limits
        self._memories = {topics.inbox(name): Memory.of(agent, limits) for name, agent in topology.agents.items()}
        # A batch agent is shown no context.
        self._with_memory = {topics.inbox(name) for name, agent in topology.agents.items() if agent.kind != "batch"}

    def read(self, committed: Mapping[TopicPartition, tuple[int, str]], claim: Claim) -> Recovered:
        """For each inbox partition and its committed position, with its note. Raises TransportError when the logs
        cannot be read.

        What is in a log before this host's claim is known when this returns; what anyone else appends behind it counts
        for nobody.
        """
        inboxes = list(committed)
        logs = {tp: TopicPartition(self._events[tp.topic], tp.partition) for tp in inboxes}
        marks = self._consumer.watermarks([*inboxes, *logs.values()])
        notes = {tp: read_note(meta) for tp, (offset, meta) in committed.items() if offset != NO_OFFSET}
        since = {tp: note.low_watermark_ms for tp, note in notes.items() if note.low_watermark_ms is not None}
        epochs = Epochs({logs[tp]: LogEpochs(note.since) for tp, note in notes.items()})
        asked = self._read_inboxes(committed, since, marks)
        logged: dict[TopicPartition, dict[AttemptId, Logged]] = {}
        ends = {log: marks[log][1] for log in logs.values()}
        versions: dict[TopicPartition, str] = {}
        self._read_logs(self._starts(logs, since, marks), ends, epochs, logged, versions)
        own = claim({log: epochs.of(log).newest for log in logs.values()}, versions)
        claimed = {log: high for log, (_, high) in self._consumer.watermarks(logs.values()).items()}
        self._read_logs(ends, claimed, epochs, logged, versions)
        recovered = Recovered()
        for tp in inboxes:
            outcomes = logged.get(logs[tp], {})
            agent_id, questions, log = self._agents[tp.topic], asked.get(tp, {}), logs[tp]
            known = Recognition(outcomes, marks[tp][1], self._memories[tp.topic])
            inbox = Inbox(agent_id, tp.topic, tp.partition, known, own[log], epochs.of(log))
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

    def _starts(
        self,
        logs: Mapping[TopicPartition, TopicPartition],
        since: Mapping[TopicPartition, int],
        marks: Mapping[TopicPartition, tuple[int, int]],
    ) -> dict[TopicPartition, int]:
        """Where in the logs reading begins; the last record is always read, for its epoch."""
        margin = {logs[tp]: max(at - self._margin_ms, 0) for tp, at in since.items()}
        memory = {logs[tp]: max(at - LOOKBACK_MS, 0) for tp, at in since.items() if tp.topic in self._with_memory}
        starts = {tp: marks[tp][0] for tp in logs.values()}
        starts |= self._consumer.offsets_for_times(margin)
        for tp, offset in self._consumer.offsets_for_times(memory).items():
            starts[tp] = min(starts[tp], max(offset, marks[tp][1] - LOOKBACK_ROWS))
        now_us = wall_us()
        writes = {logs[tp]: self._memories[tp.topic] for tp in since if self._memories[tp.topic].writes}
        done = {tp: max(now_us - memory.kept_us, 0) // 1000 for tp, memory in writes.items()}
        for tp, offset in self._consumer.offsets_for_times(done).items():
            starts[tp] = min(starts[tp], max(offset, marks[tp][1] - EVENTS_OF_A_WRITE * writes[tp].outcomes_max))
        return {tp: max(min(start, marks[tp][1] - 1), marks[tp][0]) for tp, start in starts.items()}

    def _read_logs(
        self,
        starts: Mapping[TopicPartition, int],
        ends: Mapping[TopicPartition, int],
        epochs: Epochs,
        logged: dict[TopicPartition, dict[AttemptId, Logged]],
        versions: dict[TopicPartition, str],
    ) -> None:
        """The last event of each attempt, in the order of the log, and who answered last; without what is void."""
        for batch in self._consumer.read_to_end(starts, ends):
            decoded = self._codec.decode(batch.values, "AgentEvent")
            places = _rows(batch, decoded.rows.tolist())
            written = decoded.batch.column("epoch").to_numpy(zero_copy_only=False)
            topics = [tp.topic for tp, _ in places]
            void = epochs.void(topics, batch.partitions[decoded.rows], batch.offsets[decoded.rows], written)
            passed_over = frozenset(() if void is None else void.tolist())
            columns = zip(
                places,
                attempt_ids(decoded.batch.column("slip"), decoded.batch.column("task")),
                *(
                    decoded.batch.column(name).to_pylist()
                    for name in ("kind", "answer", "finished_at", "agent_version")
                ),
                strict=True,
            )
            for row, ((tp, _), attempt, kind, answer, at, version) in enumerate(columns):
                if row in passed_over:
                    continue
                versions[tp] = version
                of_log = logged.setdefault(tp, {})
                if kind in OUTCOMES:
                    if attempt in of_log and of_log[attempt].kind != STARTED:
                        continue  # the first outcome counts
                    of_log.pop(attempt, None)
                    of_log[attempt] = Logged(kind, answer, at)
                elif kind == STARTED:
                    of_log.setdefault(attempt, Logged(STARTED))


def interaction(attempt: AttemptId, asked: str, logged: Logged) -> Interaction:
    return Interaction(attempt.task_id, asked, logged.answer, logged.kind, logged.at)


def _rows(batch: Batch, rows: Iterable[int]) -> list[tuple[TopicPartition, int]]:
    partitions, offsets = batch.partitions.tolist(), batch.offsets.tolist()
    return [(TopicPartition(batch.topics[row], partitions[row]), offsets[row]) for row in rows]
