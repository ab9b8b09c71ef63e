"""The audit of a run of millions of tasks, in columns: the invariants of loadtest/invariants.py, and the same findings.

A log may come in parts (`Tally`), so that ten minutes at rate fit into memory. Each check has its scalar twin there,
and a test holds the two against each other. I/O: none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from loadtest.audit_log import Place
from loadtest.column_log import ColumnLog

EXAMPLES_MAX = 5
LANE = 4  # seed of the hashes of lanes
LINES: Mapping[str, Any] = {"key": pl.UInt64, "offset": pl.Int64, "asked": pl.Int64, "lane": pl.UInt64}


@dataclass(frozen=True)
class Breach:
    """How many tasks or facts break an invariant, and the hashes of a few."""

    count: int = 0
    keys: tuple[int, ...] = ()

    def __add__(self, other: Breach) -> Breach:
        """Of two parts that have no task in common."""
        return Breach(self.count + other.count, (*self.keys, *other.keys)[:EXAMPLES_MAX])


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
    tally = Tally()
    tally.add(log, sent)
    return tally.audit(overtaken([lined(log)]), log.invalid, log.dead)


class Tally:
    """Adds up the audits of parts of a log: all records of a task are in the same part.

    But for its conversations, which are anywhere: `lined` gives what `overtaken` has to be told of them.
    """

    def __init__(self) -> None:
        self._counts = dict.fromkeys(("submitted", "accepted", "results", "dispatches", "events", "notes"), 0)
        self._breaches: dict[str, Breach] = {}

    def add(self, log: ColumnLog, sent: pl.Series | None = None) -> None:
        """`sent`: of the tasks of this part, if known."""
        asked = log.submissions.select("key").unique()
        found = {name: check(log) for name, check in _CHECKS.items()}
        if sent is not None:
            found["unrecorded"] = _breach(sent.to_frame("key").join(asked, on="key", how="anti"))
        for name, breach in found.items():
            self._breaches[name] = self._breaches.get(name, Breach()) + breach
        heights = (log.submissions, asked, log.results, log.dispatches, log.events, log.notes)
        for name, frame in zip(self._counts, heights, strict=True):
            self._counts[name] += frame.height

    def audit(self, out_of_order: Breach, invalid: AbstractSet[Place], dead: AbstractSet[Place]) -> ColumnAudit:
        """Of all that was added."""
        found = {**self._breaches, "out_of_order": out_of_order, "unburied": Breach(len(invalid ^ dead))}
        return ColumnAudit(dead=len(dead), breaches=found, history={}, **self._counts)


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


def lined(log: ColumnLog) -> pl.DataFrame:
    """A3: the dispatches whose order counts, of all tasks of a log; the scalar form says which. `asked` is where the
    task stands, `lane` whose order it is: a conversation's, with one agent, in one partition."""
    first = log.submissions.sort("partition", "offset").unique("key", keep="first", maintain_order=True)
    began = log.dispatches.group_by("key").agg(pl.col("routed_us").min().alias("began_us"))
    first_seats = pl.col("attempt") <= pl.max_horizontal(pl.lit(1), pl.col("seats").cast(pl.Int32))
    return (
        log.dispatches.filter(first_seats)
        .select("key", "agent", "partition", "offset", "routed_us")
        .join(first.select("key", "line", pl.col("offset").alias("asked")), on="key")
        .filter(pl.col("line") != 0)
        .join(began, on="key")
        .filter(pl.col("routed_us") <= pl.col("began_us"))
        .select("key", "offset", "asked", lane=pl.struct("partition", "line", "agent").hash(LANE))
    )


def overtaken(parts: Iterable[pl.DataFrame]) -> Breach:
    """A3: tasks that a later submission of their conversation went before. All rows of a lane are in the same part."""
    found = [each for part in parts if (each := _overtaken(part.sort("lane", "offset"))) is not None]
    # A task that was put to two agents is in two lanes.
    return _breach(pl.concat(found).unique(maintain_order=True)) if found else Breach()


def _overtaken(lines: pl.DataFrame) -> pl.DataFrame | None:
    if lines.is_empty():
        return None
    # The greatest submission so far, of each lane: lanes stand one after the other, so a number that grows from lane to
    # lane keeps them apart.
    lane = lines["lane"].rle_id().cast(pl.Int64).to_numpy()
    asked = lines["asked"].to_numpy()
    ranked = lane * (int(asked.max()) + 1) + asked
    before = np.concatenate((ranked[:1], np.maximum.accumulate(ranked)[:-1]))
    return lines.filter(pl.Series(ranked < before)).select("key")


def kept(log: pl.Series, shown: pl.Series) -> Kept:
    """P8: the facts of one kind in the log, where one may stand more than once, against those that the history shows,
    where none may. Hashes, unsigned; sorted, not looked up, for millions of them."""
    expected, _ = _distinct(log)
    distinct, repeated = _distinct(shown)
    common = 0
    if len(distinct):
        at = np.minimum(np.searchsorted(distinct, expected), len(distinct) - 1)
        common = int(np.count_nonzero(distinct[at] == expected))
    return Kept(len(expected), missing=len(expected) - common, surplus=len(distinct) - common, repeated=repeated)


def _distinct(hashes: pl.Series) -> tuple[npt.NDArray[np.uint64], int]:
    """In their order, and how many of them there are more than once. (`np.unique` takes five times as long.)"""
    every = np.sort(hashes.to_numpy())
    again = np.zeros(len(every), np.bool_)
    again[1:] = every[1:] == every[:-1]
    # One that is there three times is there again twice, and after one that was not again once.
    begins = again[1:] & ~again[:-1]
    return every[~again], int(np.count_nonzero(begins))


def of_run(log: ColumnLog, keys: pl.Series) -> ColumnLog:
    """What the log holds of these tasks: on a deployment that serves others, too."""
    mine = keys.to_frame("key")
    frames = {name: frame.join(mine, on="key", how="semi") for name, frame in log.frames.items()}
    # Whose the invalid records are nobody knows: they are the others'.
    return ColumnLog(frames, log.topics, log.bytes_of, frozenset(), frozenset())


_CHECKS: Mapping[str, Callable[[ColumnLog], Breach]] = {
    "lost": lost,
    "duplicated": duplicated,
    "unasked": unasked,
    "asked_twice": asked_twice,
}


def _breach(found: pl.DataFrame) -> Breach:
    return Breach(found.height, tuple(found["key"].head(EXAMPLES_MAX).to_list()))
