"""Brings partitions back to life: looks up where their story begins, reads it from the logs, and folds it into cells.

Everything here is read, nothing is produced or committed. One object serves one assignment, in a thread of its own, for
it blocks. Source of the design: docs/architecture.md, "Recovery". I/O: Kafka.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas.codec import Codec
from schemas.codes import ErrorCode
from schemas.epochs import Epochs, LogEpochs, Since
from schemas.errors import ConfigurationError
from schemas.registry import SchemaRegistry
from schemas.runs import by_value
from schemas.topology import Topology
from streams.core.cell import Cell
from streams.core.columns import Dispatches, Events, task_keys
from streams.core.policy import Policy
from streams.core.recovery import Fold
from streams.core.rows import at
from streams.core.task import TaskKey
from streams.processors.fencing import split
from streams.processors.spill import latest, spilled_of
from streams.transport.batch import Batch, TopicPartition, piled
from streams.transport.clients import TransportError
from streams.transport.consumer import BatchConsumer
from streams.transport.packed_reader import reader
from streams.transport.telemetry import RECOVERY_RECORDS, get_logger

log = get_logger("pointsman.recovery")

LOW_WATERMARK, EPOCHS = "low_watermark_ms", "epochs"

Positions = dict[TopicPartition, int]

_AS_APPENDED = {"isolation.level": "read_uncommitted"}


@dataclass(frozen=True)
class Recovered:
    """One partition whose facts are folded; left to do: show the cell the breakers, then call `fold.resume`.

    `positions`: where to read on, of every topic that the worker reads. `ends`: where those topics ended when it was
    assigned. `epochs`: who wrote in the agents' logs since when; `spilled`: the same of the spilled tasks, and where
    these ended. `is_new`: no cut of this partition was ever committed. `rereads_until`: the submissions before this
    offset may have been decided on already, and are read again; None where there are none.
    """

    cell: Cell
    fold: Fold
    positions: Positions
    ends: Positions
    epochs: Mapping[tuple[str, int], LogEpochs]
    spilled: tuple[LogEpochs, int]
    is_new: bool
    rereads_until: int | None


def cut_metadata(low_watermark_ms: int, spilled: Since) -> str:
    """What is committed beside the position of the submissions; `spilled`: whose the spilled tasks were since when."""
    return json.dumps({LOW_WATERMARK: low_watermark_ms, EPOCHS: spilled}, separators=(",", ":"))


def low_watermark_of(metadata: str) -> int:
    """The time in a commit's metadata; 0, which reads everything, where there is none that can be understood."""
    try:
        found = json.loads(metadata)[LOW_WATERMARK]
    except (ValueError, TypeError, KeyError):
        return 0
    return found if isinstance(found, int) and found >= 0 else 0


def epochs_metadata(since: Since) -> str:
    """What is committed beside the position of an agent's log."""
    return json.dumps({EPOCHS: since}, separators=(",", ":"))


def epochs_of(metadata: str) -> LogEpochs:
    """The claims in a commit's metadata; none are known where there is none that can be understood."""
    try:
        return LogEpochs([(int(offset), int(epoch)) for offset, epoch in json.loads(metadata)[EPOCHS]])
    except (ValueError, TypeError, KeyError):
        return LogEpochs()


class GivenUpError(TransportError):
    """Nobody wants to know any more what this recovery reads."""


class Recovery:
    """Reads back what was decided in the given partitions. `config` is a consumer's; it joins no group."""

    def __init__(self, topology: Topology, policy: Policy, registry: SchemaRegistry, config: Mapping[str, Any]) -> None:
        self._topology, self._policy, self._config = topology, policy, config
        self._codec = Codec(registry, topology.limits.record_bytes_max)
        self._transaction_s = topology.limits.transaction_timeout_ms / 1000
        self._topics = topology.topics()
        self._told = self._topics
        self._epochs = Epochs()
        self._is_given_up = threading.Event()
        self.read = (self._topics.submitted, *self._topics.logs, self._topics.health)
        """Topics that a live worker reads, in all of its partitions."""

    def recover(
        self,
        partitions: Sequence[int],
        committed: Mapping[TopicPartition, tuple[int, str]],
        now_ms: int,
    ) -> dict[int, Recovered]:
        """The partitions' cells and folds, by partition number.

        `committed` gives position and metadata of every topic-partition in `read`, -1001 where there is none. Raises
        TransportError when the broker does not answer or a topic cannot be read to its end, GivenUpError after
        `give_up`.
        """
        with closing(self._consumer()) as consumer, closing(self._consumer(**_AS_APPENDED)) as appended:
            return self._recover(consumer, appended, partitions, committed, now_ms)

    def give_up(self) -> None:
        """The partitions are gone: where one rebalance comes after the other, folds that nobody waits for would take
        the cores from the one that counts. Any thread."""
        self._is_given_up.set()

    def log_ends(self, partitions: Sequence[int]) -> Positions:
        """Where the agents' logs end now. Raises TransportError when the broker does not answer."""
        with closing(self._consumer()) as consumer:
            marks = consumer.watermarks([TopicPartition(t, n) for t in self._topics.logs for n in partitions])
            return {tp: high for tp, (_, high) in marks.items()}

    def _consumer(self, **config: str) -> BatchConsumer:
        limits = self._topology.limits
        return reader(
            {**self._config, **config},
            channel_of=lambda topic: topic,
            rows_max=limits.batch_rows_max,
            bytes_max=limits.batch_bytes_max,
            poll_s=0.05,
        )

    def _recover(
        self,
        consumer: BatchConsumer,
        appended: BatchConsumer,
        partitions: Sequence[int],
        committed: Mapping[TopicPartition, tuple[int, str]],
        now_ms: int,
    ) -> dict[int, Recovered]:
        # An agent that left the topology may have left tasks behind.
        self._told = self._topics.of_any_agent(consumer.topics(self._topics.submitted))
        live = [TopicPartition(topic, number) for topic in self.read for number in partitions]
        # Ends as they were appended: reading to them, and only what is committed, waits until the transactions that a
        # former owner left open have ended, well or badly.
        told = (*self._facts(), self._topics.spilled)
        marks = appended.watermarks([*live, *(TopicPartition(t, n) for t in told for n in partitions)])
        self._epochs = Epochs({tp: epochs_of(committed[tp][1]) for tp in live if tp.topic in self._topics.logs})
        found: dict[int, Recovered] = {}
        for number in partitions:
            anchor = TopicPartition(self._topics.submitted, number)
            if committed[anchor][0] < 0:
                self._refuse_forgotten(number, marks)
            cell = Cell(self._policy, number)
            tps = [tp for tp in live if tp.partition == number]
            found[number] = Recovered(
                cell=cell,
                fold=Fold(cell),
                # What retention has taken away meanwhile cannot be read: the first record left is next.
                positions={tp: max(committed[tp][0], marks[tp][0]) for tp in tps},
                ends={tp: marks[tp][1] for tp in tps},
                epochs=self._epochs.items(number),
                spilled=(epochs_of(committed[anchor][1]), marks[TopicPartition(self._topics.spilled, number)][1]),
                is_new=committed[anchor][0] < 0,
                rereads_until=marks[anchor][1] if 0 <= committed[anchor][0] < marks[anchor][1] else None,
            )
        known = [n for n in partitions if not found[n].is_new]
        folds = {number: each.fold for number, each in found.items()}
        spilled, read = self._take_spilled(consumer, marks, {number: found[number] for number in known}), 0
        # Of what a zombie wrote of a task, the logs know better: they are read from where that task begins.
        lows = {n: low_watermark_of(committed[TopicPartition(self._topics.submitted, n)][1]) for n in known}
        for number, low_ms in lows.items():
            if found[number].rereads_until is not None:
                found[number].cell.reread_ms = low_ms
        lows = {number: min([low, *folds[number].doubtful.values()]) for number, low in lows.items()}
        starts = {tp: max(at, marks[tp][0]) for tp, at in self._starts(consumer, lows, committed, now_ms).items()}
        # Results first: of what is finished little has to be known, and most of what is read is finished.
        for first in (True, False):
            own = {tp: at for tp, at in starts.items() if (tp.topic == self._told.results) is first}
            ends = {tp: marks[tp][1] for tp in own}
            read += self.fold_all(consumer.read_to_end(own, ends, transaction_s=self._transaction_s), folds)
        log.info("folded", partitions=list(partitions), records=read, spilled=spilled)
        return found

    def _take_spilled(
        self,
        consumer: BatchConsumer,
        marks: Mapping[TopicPartition, tuple[int, int]],
        found: Mapping[int, Recovered],
    ) -> int:
        """Reads the compacted topic whole; gives how many records that were."""
        own = [TopicPartition(self._topics.spilled, number) for number in found]
        begins, ends = ({tp: marks[tp][which] for tp in own} for which in (0, 1))
        batches = list(consumer.read_to_end(begins, ends, transaction_s=self._transaction_s))
        for number, records in latest(batches).items():
            if records:
                found[number].fold.spilled(spilled_of(self._codec, records, found[number].spilled[0]))
        read = sum(map(len, batches))
        RECOVERY_RECORDS.labels(topic=self._topics.spilled).inc(read)
        return read

    def _refuse_forgotten(self, number: int, marks: Mapping[TopicPartition, tuple[int, int]]) -> None:
        """A cut is committed before anything is emitted: results without a cut mean that the group was forgotten."""
        if marks[TopicPartition(self._topics.results, number)][1] > 0:
            raise ConfigurationError(
                f"{self._topics.submitted}[{number}] has no committed position, yet it has results: the consumer "
                "group was deleted, or its offsets expired (offsets.retention.minutes). Starting over would answer "
                "tasks twice. Set the group's positions with kafka-consumer-groups --reset-offsets, then start again.",
                code=ErrorCode.NO_POSITION,
            )

    def _facts(self) -> tuple[str, ...]:
        return (*self._told.inboxes, *self._told.logs, self._told.orchestrator, self._told.results)

    def _starts(
        self,
        consumer: BatchConsumer,
        low_watermarks_ms: Mapping[int, int],
        committed: Mapping[TopicPartition, tuple[int, str]],
        now_ms: int,
    ) -> Positions:
        """Where reading begins: no fact of a task that is unfinished, or may be submitted again, is before that.

        Nor is one that a spilled task lacks: its record knows what was read up to the cut, which may be less than what
        had been appended by then.
        """
        limits = self._topology.limits
        times: dict[TopicPartition, int] = {}
        for number, low_ms in low_watermarks_ms.items():
            for topic in self._facts():
                horizon_ms = now_ms - limits.duplicate_horizon_ms if topic == self._topics.results else low_ms
                start_ms = min(low_ms, horizon_ms) - limits.clock_skew_margin_ms
                times[TopicPartition(topic, number)] = max(start_ms, 0)
        found = consumer.offsets_for_times(times)
        at = {tp: committed[tp][0] for tp in found if tp in committed and committed[tp][0] >= 0}
        return {tp: min(start, at.get(tp, start)) for tp, start in found.items()}

    def fold_all(self, batches: Iterable[Batch], folds: Mapping[int, Fold]) -> int:
        """Folds what these hold, many records of a topic at once: a small batch costs nearly as much as a large one.

        Gives how many records that were. Each batch is of one topic, which its channel names.
        """
        read = 0
        for batch in piled(map(self._still_wanted, batches)):
            self.fold(batch, folds)
            RECOVERY_RECORDS.labels(topic=batch.channel).inc(len(batch))
            read += len(batch)
        return read

    def _still_wanted(self, batch: Batch) -> Batch:
        if self._is_given_up.is_set():
            raise GivenUpError("partitions were taken away while they were read back")
        return batch

    def fold(self, batch: Batch, folds: Mapping[int, Fold]) -> None:
        """One batch of one topic. What cannot be decoded decides nothing: it is dead-lettered where it is read live."""
        topic = batch.channel
        record = self._told.record_of(topic)
        assert record is not None
        decoded = self._codec.decode(batch.values, record)
        records, valid = decoded.batch, decoded.rows
        if record == "AgentEvent":
            (records, valid), _ = split(self._epochs, batch, decoded)
        has_tasks = record in ("TaskDispatched", "AgentEvent")
        ids = task_keys(records.column("task")) if has_tasks else []
        for number, places in by_value(batch.partitions[valid]):
            fold = folds[number]
            if has_tasks:
                over = fold.are_over(at(ids, places))
                self._skim(fold, records, ids, places[over], batch.timestamps_ms[valid])
                places = places[~over]  # noqa: PLW2901  the others are of no interest any more
                if not len(places):
                    continue
            part, rows = _taken(records, places), valid[places]
            appended_ms = batch.timestamps_ms[rows].tolist()
            if record == "TaskResult":
                fold.results(part, appended_ms)
            elif record == "OrchestratorEvent":
                fold.notes(part)
            else:
                keys = [batch.keys[row] or b"" for row in rows.tolist()]
                if record == "TaskDispatched":
                    fold.dispatches(self._dispatches(part, keys, appended_ms))
                else:
                    fold.events(Events(part, keys))

    def _skim(
        self,
        fold: Fold,
        records: pa.RecordBatch,
        ids: Sequence[TaskKey],
        places: npt.NDArray[np.intp],
        appended_ms: npt.NDArray[np.int64],
    ) -> None:
        """Dispatches or agents' events, at these places, of tasks that are over."""
        if not len(places):
            return
        if "event_id" in records.schema.names:
            rows = pa.array(places)
            fold.skim_events(at(ids, places), *(records.column(name).take(rows) for name in ("kind", "event_id")))
        else:
            fold.skim_dispatches(at(ids, places), appended_ms[places].tolist())

    def _dispatches(self, batch: pa.RecordBatch, keys: list[bytes], appended_ms: list[int]) -> Dispatches:
        tasks = batch.column("task")
        flat = pa.RecordBatch.from_struct_array(tasks)
        datums = self._codec.encode_datums(flat, "TaskSubmitted")
        frames = [self._codec.frame("TaskDispatched")] * len(datums)
        return Dispatches(batch=batch, keys=keys, frames=frames, datums=datums, appended_ms=appended_ms)


def _taken(records: pa.RecordBatch, places: npt.NDArray[np.intp]) -> pa.RecordBatch:
    """Taking rows of nested columns is dear: most often it is all of them, in order."""
    is_all = len(places) == records.num_rows and bool((np.diff(places) == 1).all())
    return records if is_all else records.take(pa.array(places))
