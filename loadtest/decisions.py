"""Were the decisions right: the lives of all tasks, grouped by what they have in common, and one of each held against
the oracle.

The decision about a task depends on its text, intent and the like, on what its agents said, and hardly on who it is and
when it came. So tasks whose records agree in all of that are one *kind of life*; a run of millions has thousands. Of
each kind the task that came first is judged in full (`loadtest.judge`), its times included, and its verdict is that of
the whole kind. That every result repeats its own submission's conversation and time is checked of every task.

Of more kinds than `KINDS_MAX`, the most frequent ones are judged and a seeded sample of the rest, and those only for
`BUDGET_S`: breakers that open and time-outs make lives that take the judge a while. The share of tasks that the judged
kinds make up is said. I/O: Kafka, the clock.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from loadtest.audit_log import Place
from loadtest.column_audit import EXAMPLES_MAX, Breach
from loadtest.column_log import ColumnLog, read_batches
from loadtest.judge import Breakers, Facts, wrong
from loadtest.places import read_places
from loadtest.sharded_log import ShardedLog
from schemas.codec import Codec
from schemas.registry import FileRegistry, SchemaRegistry
from schemas.topology import Topology
from streams.transport.batch import Batch
from streams.transport.clients import BrokerSettings

KINDS_MAX = 20_000
MOST_FREQUENT = 0.75  # of those that are judged; the others are drawn
SEED = 1
BUDGET_S = 120.0
ROWS = 1_000_000  # kinds of parts that are kept before they are put together


@dataclass(frozen=True)
class Verdicts:
    """`share` of the tasks are of a kind that was judged; `why` tells of some that were decided wrongly."""

    kinds: int
    judged: int
    share: float
    breach: Breach
    why: tuple[str, ...] = ()


class Lives:
    """Kinds of lives of the accepted tasks of a log that comes in parts, each with all records of its tasks: equal sums
    of two hashes of every record mean equal records."""

    def __init__(self) -> None:
        self.tasks = 0
        self.misled = Breach()
        self._parts: list[pl.DataFrame] = []

    def add(self, log: ColumnLog) -> None:
        parts = [frame.select("key", "one", "two") for frame in log.frames.values()]
        of_task = pl.concat(parts).filter(pl.col("key").is_not_null()).group_by("key").agg(pl.col("one", "two").sum())
        first = log.submissions.group_by("key").agg(pl.col("offset").min())
        self._parts.append(_grouped(of_task.join(first, on="key").with_columns(len=pl.lit(1, pl.UInt32))))
        if sum(part.height for part in self._parts) > ROWS:
            self._parts = [self.kinds()]
        self.tasks += first.height
        self.misled += misattributed(log)

    def kinds(self) -> pl.DataFrame:
        """One row each, with its number of tasks (`len`) and the key and offset of the one that came first."""
        return _grouped(pl.concat(self._parts))


def _grouped(lives: pl.DataFrame) -> pl.DataFrame:
    ordered = lives.sort("offset", "key").group_by("one", "two", maintain_order=True)
    return ordered.agg(pl.col("len").sum(), pl.col("key", "offset").first())


def judge_decisions(
    settings: BrokerSettings,
    topology: Topology,
    lives: Lives,
    log: ShardedLog,
    registry: SchemaRegistry | None = None,
    *,
    kinds_max: int = KINDS_MAX,
    budget_s: float = BUDGET_S,
) -> Verdicts:
    """Reads the records of one task of each kind a second time. Raises TransportError."""
    kinds = lives.kinds()
    chosen = _chosen(kinds, kinds_max)
    codec = Codec(registry or FileRegistry.load(), topology.limits.record_bytes_max)
    reader = _Reader(codec, log, chosen["key"])
    read_places(settings, topology, reader.wanted, reader.take)
    breakers = Breakers(_moved(settings, topology, codec))
    counts = dict(zip(chosen["key"].to_list(), chosen["len"].to_list(), strict=True))
    found, until = dict[int, str](), time.monotonic() + budget_s
    judged = []
    for key in counts:
        if time.monotonic() > until:
            break
        judged.append(key)
        facts = reader.facts(key)
        if (why := wrong(topology, facts, breakers, facts.partition)) is not None:
            found[key] = why
    wrongly = sum(counts[key] for key in found) + lives.misled.count
    examples = (*found, *lives.misled.keys)[:EXAMPLES_MAX]
    return Verdicts(
        kinds.height,
        len(judged),
        sum(counts[key] for key in judged) / lives.tasks if lives.tasks else 1.0,
        Breach(wrongly, examples),
        tuple(found[key] for key in examples if key in found),
    )


def misattributed(log: ColumnLog) -> Breach:
    """Results that name another conversation or time of submission than any submission of their task."""
    pairs = log.submissions.select("key", "line", "sent_us").unique()
    found = log.results.join(pairs, on=["key", "line", "sent_us"], how="anti").join(
        log.submissions, on="key", how="semi"
    )
    return Breach(found.height, tuple(found["key"].head(EXAMPLES_MAX).to_list()))


def _chosen(kinds: pl.DataFrame, kinds_max: int) -> pl.DataFrame:
    ranked = kinds.sort("len", descending=True, maintain_order=True)
    if kinds.height <= kinds_max:
        return ranked
    often = ranked.head(int(kinds_max * MOST_FREQUENT))
    return pl.concat([often, ranked.tail(-often.height).sample(kinds_max - often.height, seed=SEED)])


@dataclass(frozen=True)
class _TaskFacts(Facts):
    partition: int = 0


_RECORDS: Mapping[str, str] = {
    "tasks": "TaskSubmitted",
    "dispatches": "TaskDispatched",
    "agent_events": "AgentEvent",
    "results": "TaskResult",
    "orchestrator_events": "OrchestratorEvent",
}


class _Reader:
    """The records of these tasks. `wanted`: where they are, offsets by topic and partition."""

    def __init__(self, codec: Codec, log: ShardedLog, keys: pl.Series) -> None:
        self._codec = codec
        self._kind_of: dict[str, str] = {}
        self._keys: dict[Place, int] = {}
        self.wanted: dict[tuple[str, int], np.ndarray[Any, Any]] = {}
        for kind, mine in log.places(keys).items():
            for rows in mine.sort("offset").partition_by("topic", "partition"):
                owner = log.topics[rows["topic"][0]], rows["partition"][0]
                self._kind_of[owner[0]] = kind
                self.wanted[owner] = rows["offset"].to_numpy()
                self._keys |= {(*owner, offset): key for offset, key in rows.select("offset", "key").iter_rows()}
        self._found: dict[int, dict[str, list[tuple[int, dict[str, Any]]]]] = {key: {} for key in keys.to_list()}
        self._partitions: dict[int, int] = {}

    def take(self, batch: Batch) -> None:
        """Records of the tasks, of one topic."""
        kind = self._kind_of[batch.channel]
        rows = self._codec.decode(batch.values, _RECORDS[kind]).batch.to_pylist()
        for number, offset, row in zip(batch.partitions.tolist(), batch.offsets.tolist(), rows, strict=True):
            key = self._keys[batch.channel, number, offset]
            for part in (row, row.get("task") or {}):
                if "labels" in part:
                    part["labels"] = dict(part["labels"])
            self._found[key].setdefault(kind, []).append((offset, row))
            self._partitions[key] = number

    def facts(self, key: int) -> _TaskFacts:
        """All records of one of the tasks."""
        ordered = {
            kind: [row for _, row in sorted(rows, key=lambda each: each[0])] for kind, rows in self._found[key].items()
        }
        return _TaskFacts(
            ordered.get("tasks", []),
            ordered.get("dispatches", []),
            ordered.get("agent_events", []),
            ordered.get("orchestrator_events", []),
            ordered.get("results", []),
            partition=self._partitions.get(key, 0),
        )


def _moved(settings: BrokerSettings, topology: Topology, codec: Codec) -> dict[str, int]:
    """When each breaker was first said not to be closed."""
    moved: dict[str, int] = {}

    def take(batch: Batch) -> None:
        decoded = codec.decode(batch.values, "BreakerState")
        columns = (decoded.batch.column(name).to_pylist() for name in ("agent_id", "state"))
        for agent, state, at in zip(*columns, batch.timestamps_ms[decoded.rows].tolist(), strict=True):
            if state != "CLOSED":
                moved[agent] = min(at, moved.get(agent, at))

    read_batches(settings, topology, [topology.topics().breakers], take, {})
    return moved
