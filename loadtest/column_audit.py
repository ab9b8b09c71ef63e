"""The audit of a run of millions of tasks, in columns: the invariants of loadtest/invariants.py, and the same findings.

Each check has its scalar twin there, and a test holds the two against each other. I/O: none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from loadtest.column_log import ColumnLog

EXAMPLES_MAX = 5


@dataclass(frozen=True)
class Breach:
    """How many tasks or facts break an invariant, and the hashes of a few."""

    count: int = 0
    keys: tuple[int, ...] = ()


@dataclass(frozen=True)
class Kept:
    """One kind of fact: what the topics say there is, against what the history shows."""

    expected: int
    missing: int
    surplus: int
    repeated: int

    @property
    def complete(self) -> bool:
        return not (self.missing or self.surplus or self.repeated)


@dataclass(frozen=True)
class ColumnAudit:
    """Counts of what was read, and the breaches by name: none of them where the run is sound.

    `unrecorded`: of the tasks that the generator was told to be delivered, those that are not in the topic.
    """

    submitted: int
    accepted: int
    results: int
    dispatches: int
    events: int
    notes: int
    dead: int
    breaches: Mapping[str, Breach]
    history: Mapping[str, Kept] = field(default_factory=dict)

    @property
    def sound(self) -> bool:
        return all(breach.count == 0 for breach in self.breaches.values()) and self.history_complete

    @property
    def history_complete(self) -> bool:
        return all(kept.complete for kept in self.history.values())

    def findings(self, names: Mapping[int, str]) -> list[str]:
        """One line for each breach, with examples; `names` gives the task of a hash."""
        lines = []
        for name, breach in self.breaches.items():
            if breach.count:
                shown = ", ".join(names.get(key, f"a task of hash {key:016x}") for key in breach.keys)
                lines.append(f"{breach.count} {name}: {shown}{', ...' if breach.count > len(breach.keys) else ''}")
        for name, kept in self.history.items():
            for fault in ("missing", "surplus", "repeated"):
                count = getattr(kept, fault)
                lines += [f"history of {name}: {count} {fault} of {kept.expected}"] if count else []
        return lines


def audit_columns(log: ColumnLog, sent: pl.Series | None = None) -> ColumnAudit:
    """Holds what was asked against what was answered. `sent`: hashes of the tasks that were delivered, if known."""
    asked = log.submissions.group_by("key").len()
    breaches = {
        "lost": lost(log),
        "duplicated": duplicated(log),
        "out_of_order": out_of_order(log),
        "unasked": unasked(log),
        "asked_twice": asked_twice(log),
        "unburied": Breach(len(log.invalid ^ log.dead)),
    }
    if sent is not None:
        breaches["unrecorded"] = _breach(sent.to_frame("key").join(asked, on="key", how="anti"))
    return ColumnAudit(
        submitted=log.submissions.height,
        accepted=asked.height,
        results=log.results.height,
        dispatches=log.dispatches.height,
        events=log.events.height,
        notes=log.notes.height,
        dead=len(log.dead),
        breaches=breaches,
    )


def lost(log: ColumnLog) -> Breach:
    """P1: accepted tasks without a result."""
    return _breach(log.submissions.select("key").unique().join(log.results, on="key", how="anti"))


def duplicated(log: ColumnLog) -> Breach:
    """P1, P5: tasks with more than one result."""
    return _breach(log.results.group_by("key").len().filter(pl.col("len") > 1))


def unasked(log: ColumnLog) -> Breach:
    """A1."""
    strangers = log.results.join(log.submissions, on="key", how="anti").select("key")
    outcomes = log.events.filter("outcome").join(log.dispatches, on=["key", "try"], how="anti").select("key")
    return _breach(pl.concat([strangers, outcomes]).unique())


def asked_twice(log: ColumnLog) -> Breach:
    """A2."""
    times = log.dispatches.group_by("key", "agent", "again").len()
    return _breach(times.filter(pl.col("len") > 1).select("key").unique())


def out_of_order(log: ColumnLog) -> Breach:
    """A3: dispatches that a later submission of their conversation went before; see the scalar form for what counts."""
    first = log.submissions.sort("partition", "offset").unique("key", keep="first", maintain_order=True)
    began = log.dispatches.group_by("key").agg(pl.col("routed_us").min().alias("began_us"))
    first_seats = pl.col("attempt") <= pl.max_horizontal(pl.lit(1), pl.col("seats").cast(pl.Int32))
    lined = (
        log.dispatches.filter(first_seats)
        .select("key", "agent", "partition", "offset", "routed_us")
        .join(first.select("key", "line", pl.col("offset").alias("asked")), on="key")
        .filter(pl.col("line") != 0)
        .join(began, on="key")
        .filter(pl.col("routed_us") <= pl.col("began_us"))
        .select("key", "offset", "asked", lane=pl.struct("partition", "line", "agent").hash())
        .sort("lane", "offset")
    )
    if lined.is_empty():
        return Breach()
    # The greatest submission so far, of each lane: lanes stand one after the other, so a number that grows from lane to
    # lane keeps them apart.
    lane = lined["lane"].rle_id().cast(pl.Int64).to_numpy()
    asked = lined["asked"].to_numpy()
    ranked = lane * (int(asked.max()) + 1) + asked
    before = np.concatenate((ranked[:1], np.maximum.accumulate(ranked)[:-1]))
    return _breach(lined.filter(pl.Series(ranked < before)).select("key").unique(maintain_order=True))


def kept(log: pl.DataFrame, shown: pl.Series) -> Kept:
    """P8: the facts of one kind in the log, where one may stand more than once, against those that the history shows,
    where none may."""
    expected = log.select("fact").unique()
    found = shown.to_frame("fact").group_by("fact").len()
    return Kept(
        expected.height,
        missing=expected.join(found, on="fact", how="anti").height,
        surplus=found.join(expected, on="fact", how="anti").height,
        repeated=found.filter(pl.col("len") > 1).height,
    )


def of_run(log: ColumnLog, keys: pl.Series) -> ColumnLog:
    """What the log holds of these tasks: on a deployment that serves others, too."""
    mine = keys.to_frame("key")
    frames = {name: frame.join(mine, on="key", how="semi") for name, frame in log.frames.items()}
    # Whose the invalid records are nobody knows: they are the others'.
    return ColumnLog(frames, log.topics, log.bytes_of, frozenset(), frozenset())


def _breach(found: pl.DataFrame) -> Breach:
    return Breach(found.height, tuple(found["key"].head(EXAMPLES_MAX).to_list()))
