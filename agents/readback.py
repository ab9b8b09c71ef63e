"""What a host has to know of an inbox before it reads on: the outcomes that are in the log.

An agent is its log. So what a dispatch that is read again has led to is read back on assignment. That is bounded:
LOOKBACK_MS and LOOKBACK_ROWS before the first dispatch that is not committed, and of agents that write, whatever may
come again and be called (agents/recognition.py). What the agent remembers is read when it is wanted
(agents/recollection.py). I/O: Kafka.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import pyarrow as pa

from agents.calls import wall_us
from agents.dispatches import attempt_ids
from agents.inbox import Inbox, read_note
from agents.outcome import OUTCOMES, STARTED
from agents.recognition import AttemptId, Logged, Memory, Recognition
from schemas.codec import Codec
from schemas.epochs import Epochs, LogEpochs
from schemas.topology import Topology
from streams.transport.batch import Batch, TopicPartition
from streams.transport.consumer import BatchConsumer
from streams.transport.requests import NO_OFFSET

LOOKBACK_MS = 600_000
LOOKBACK_ROWS = 2_000
EVENTS_OF_A_WRITE = 2  # STARTED, and what came of it


Claim = Callable[[Mapping[TopicPartition, int], Mapping[TopicPartition, str]], Mapping[TopicPartition, int]]
"""Given the newest epoch in each log, and the version that answered last, claims them; gives the epochs that are now
one's own."""


@dataclass(slots=True)
class Recovered:
    """Inboxes ready to be read on."""

    inboxes: list[Inbox] = field(default_factory=list)


class ReadBack:
    """Used in one thread, with a consumer and a codec of its own. The consumer is in no group."""

    def __init__(self, topology: Topology, codec: Codec, consumer: BatchConsumer) -> None:
        self._codec, self._consumer = codec, consumer
        self._margin_ms = topology.limits.clock_skew_margin_ms
        topics = topology.topics()
        self._agents = {topics.inbox(name): name for name in topology.agents}
        self._events = {topics.inbox(name): topics.events(name) for name in topology.agents}
        # Of these a dispatch that a worker wrote again is recognised for longer: they are called for each one.
        self._one_by_one = {topics.inbox(name) for name, agent in topology.agents.items() if agent.kind != "batch"}
        limits = topology.limits
        self._memories = {topics.inbox(name): Memory.of(agent, limits) for name, agent in topology.agents.items()}

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
            agent_id, log = self._agents[tp.topic], logs[tp]
            known = Recognition(outcomes, marks[tp][1], self._memories[tp.topic])
            inbox = Inbox(agent_id, tp.topic, tp.partition, known, own[log], epochs.of(log))
            recovered.inboxes.append(inbox)
        return recovered

    def _starts(
        self,
        logs: Mapping[TopicPartition, TopicPartition],
        since: Mapping[TopicPartition, int],
        marks: Mapping[TopicPartition, tuple[int, int]],
    ) -> dict[TopicPartition, int]:
        """Where in the logs reading begins; the last record is always read, for its epoch."""
        margin = {logs[tp]: max(at - self._margin_ms, 0) for tp, at in since.items()}
        memory = {logs[tp]: max(at - LOOKBACK_MS, 0) for tp, at in since.items() if tp.topic in self._one_by_one}
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
            events, places, passed_over = events_in(self._codec, batch, epochs)
            columns = zip(
                places,
                attempt_ids(events.column("slip"), events.column("task")),
                *(events.column(name).to_pylist() for name in ("kind", "answer", "finished_at", "agent_version")),
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


def events_in(
    codec: Codec, batch: Batch, epochs: Epochs
) -> tuple[pa.RecordBatch, list[tuple[TopicPartition, int]], frozenset[int]]:
    """What a batch of agents' logs holds, where each row of it stands, and which rows are void (schemas/epochs.py).

    `epochs` takes note of the claims among them.
    """
    decoded = codec.decode(batch.values, "AgentEvent")
    rows = decoded.rows
    places = places_in(batch, rows.tolist())
    written = decoded.batch.column("epoch").to_numpy(zero_copy_only=False)
    topics = [tp.topic for tp, _ in places]
    void = epochs.void(topics, batch.partitions[rows], batch.offsets[rows], written)
    return decoded.batch, places, frozenset(() if void is None else void.tolist())


def places_in(batch: Batch, rows: Iterable[int]) -> list[tuple[TopicPartition, int]]:
    partitions, offsets = batch.partitions.tolist(), batch.offsets.tolist()
    return [(TopicPartition(batch.topics[row], partitions[row]), offsets[row]) for row in rows]
