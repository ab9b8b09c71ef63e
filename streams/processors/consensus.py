"""The consensus processor: what agents say in their logs, to the cells of their partitions.

I/O: Kafka, through the outbox that it is given.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from itertools import product

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas.codec import Codec
from schemas.epochs import Epochs
from schemas.runs import by_value
from streams.core.cell import Cell
from streams.core.columns import Events
from streams.core.hosts import AHEAD_MS
from streams.core.intake import Heard
from streams.core.judge import OUTCOMES
from streams.core.turn import collect
from streams.processors.fencing import Rows, split
from streams.processors.frontier import Frontier
from streams.processors.outbox import Outbox
from streams.transport.batch import Batch, whole_or
from streams.transport.telemetry import OUTCOMES as OUTCOMES_METRIC
from streams.transport.telemetry import counter, get_logger

COMPONENT = "consensus"

log = get_logger("pointsman.worker")


class Consensus:
    """Call `handle` with each batch of the agents' event logs. What it raises must end the worker.

    `epochs` tells what a zombie wrote behind its successor's claim: that is noted, and decides nothing.
    """

    def __init__(
        self,
        agents: Collection[str],
        codec: Codec,
        outbox: Outbox,
        cells: Mapping[int, Cell],
        epochs: Epochs,
        frontiers: Mapping[int, Frontier],
    ) -> None:
        self._agents, self._codec, self._outbox, self._cells = frozenset(agents), codec, outbox, cells
        self._epochs, self._frontiers = epochs, frontiers
        for agent_id in self._agents:  # from zero, so that a rate sees the first one too
            for kind in OUTCOMES:
                counter(OUTCOMES_METRIC, agent_id, kind)

    def handle(self, batch: Batch, now_ms: int) -> None:
        """Decodes, decides and hands over one batch, of partitions that all have a cell."""
        decoded = self._codec.decode(batch.values, "AgentEvent")
        self._outbox.bury(batch, decoded.faults, COMPONENT)
        valid, void = split(self._epochs, batch, decoded)
        if void is not None:
            self._fence(batch, void, now_ms)
        partitions = batch.partitions[valid.rows]
        agents = valid.records.column("slip").field("agent_id").dictionary_encode()
        self._count(agents, valid.records)
        self._follow(agents, partitions, valid.records, now_ms)
        heard = _heard(batch, valid)
        parts = [(self._cells[partition], places) for partition, places in by_value(partitions)]
        self._outbox.emit(collect(parts, heard, now_ms))

    def _follow(
        self, agents: pa.DictionaryArray, partitions: npt.NDArray[np.int32], records: pa.RecordBatch, now_ms: int
    ) -> None:
        """How far hosts have read their inboxes."""
        written = records.column("epoch").to_numpy()
        routed_ms = records.column("slip").field("routed_at").to_numpy() // 1000
        names, codes = agents.dictionary.to_pylist(), agents.indices.to_numpy()
        shape = int(partitions.max(initial=0)) + 1, max(len(names), 1)
        epochs, newest_ms = np.full(shape, -1, np.int64), np.zeros(shape, np.int64)
        np.maximum.at(epochs, (partitions, codes), written)
        # A record may say any time; and any name, below.
        counts = (written == epochs[partitions, codes]) & (routed_ms <= now_ms + AHEAD_MS)
        np.maximum.at(newest_ms, (partitions[counts], codes[counts]), routed_ms[counts])
        for partition, code in np.argwhere(epochs >= 0).tolist():
            if names[code] in self._agents:
                hosts, at = self._frontiers[partition].hosts, (partition, code)
                hosts.heard(names[code], int(epochs[at]), int(newest_ms[at]), now_ms)

    def _fence(self, batch: Batch, void: Rows, now_ms: int) -> None:
        """Leaves a trace of outcomes that do not count."""
        log.warning("events of a host that had lost its inboxes are passed over", events=len(void.rows))
        heard = _heard(batch, void)
        self._outbox.emit(
            {
                partition: self._cells[partition].fence(heard, now_ms, places.tolist())
                for partition, places in by_value(batch.partitions[void.rows])
            }
        )

    def _count(self, agents: pa.DictionaryArray, records: pa.RecordBatch) -> None:
        kinds = records.column("kind").dictionary_encode()
        said = agents.indices.to_numpy() * np.int64(len(kinds.dictionary)) + kinds.indices.to_numpy()
        pairs = product(agents.dictionary.to_pylist(), kinds.dictionary.to_pylist())
        for (agent_id, kind), times in zip(pairs, np.bincount(said).tolist(), strict=False):
            if times and kind in OUTCOMES:
                # A record may say any name: a label may not.
                agent = agent_id if agent_id in self._agents else "unknown"
                counter(OUTCOMES_METRIC, agent, kind).inc(times)


def _heard(batch: Batch, rows: Rows) -> Heard:
    return Heard.read(Events(rows.records, whole_or(batch.keys, rows.rows.tolist())))
