"""What a host has to know of an inbox before it reads on: the outcomes that are in the log.

An agent is its log. So what a dispatch that is read again has led to is read back on assignment. That is bounded:
LOOKBACK_MS and LOOKBACK_ROWS before the first dispatch that is not committed, and of agents that write, whatever may
come again and be called (agents/recognition.py). What the agent remembers is read when it is wanted
(agents/recollection.py). I/O: Kafka.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from agents.calls import wall_us
from agents.dispatches import attempt_ids
from agents.inbox import Inbox, read_note
from agents.outcome import OUTCOMES, STARTED
from agents.recognition import AttemptId, Logged, Memory, Recognition
from schemas.codec import Codec
from schemas.epochs import Epochs, LogEpochs
from schemas.runs import by_value
from schemas.topology import Topology
from streams.transport.batch import Batch, TopicPartition, piled
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
        for batch in piled(self._consumer.read_to_end(starts, ends)):
            events, rows, void = events_in(self._codec, batch, epochs)
            numbers, valid = batch.partitions[rows], np.delete(np.arange(len(rows)), void)
            of_logs: dict[int, dict[AttemptId, Logged]] = {}
            for number, places in by_value(numbers[valid]):
                tp = TopicPartition(batch.channel, number)
                versions[tp] = events.column("agent_version")[valid[places[-1]]].as_py()
                of_logs[number] = logged.setdefault(tp, {})
            _note(events, [of_logs.get(number, {}) for number in numbers.tolist()], frozenset(void.tolist()))


def _note(events: pa.RecordBatch, logged: Sequence[dict[AttemptId, Logged]], void: Collection[int]) -> None:
    """`logged`: what the log of each event held before it."""
    ids = attempt_ids(events.column("slip"), events.column("task"))
    columns = (events.column(name).to_pylist() for name in ("kind", "answer", "finished_at"))
    for row, (of_log, attempt, kind, answer, at) in enumerate(zip(logged, ids, *columns, strict=True)):
        if row in void:
            continue
        if kind in OUTCOMES:
            before = of_log.get(attempt)
            if before is not None:
                if before.kind != STARTED:
                    continue  # the first outcome counts
                del of_log[attempt]
            of_log[attempt] = Logged(kind, answer, at)
        elif kind == STARTED:
            of_log.setdefault(attempt, Logged(STARTED))


def events_in(
    codec: Codec, batch: Batch, epochs: Epochs
) -> tuple[pa.RecordBatch, npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """What a batch of agents' logs holds, which of its records each row of that is, and which rows are void
    (schemas/epochs.py).

    `epochs` takes note of the claims among them.
    """
    decoded = codec.decode(batch.values, "AgentEvent")
    rows = decoded.rows
    written = decoded.batch.column("epoch").to_numpy(zero_copy_only=False)
    void = epochs.void(
        [batch.topics[row] for row in rows.tolist()], batch.partitions[rows], batch.offsets[rows], written
    )
    return decoded.batch, rows, np.empty(0, np.intp) if void is None else void
