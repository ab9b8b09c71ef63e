"""What a run's columns say of its speed: events and results by second, and how long tasks took.

An event is a record of the lifecycle, appended to its topic: a submission, a dispatch, an agent's event, a result, or
an orchestrator's event of a task. I/O: none.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt
import polars as pl

from loadtest.column_log import ColumnLog

# What `latency_ms` and the curve of the report have.
RANKS = (50.0, 75.0, 90.0, 95.0, 99.0, 99.5, 99.9, 99.99, 100.0)


@dataclass(frozen=True)
class Window:
    """The measured time, in milliseconds since the epoch; the end is not in it."""

    from_ms: int
    to_ms: int

    @property
    def seconds(self) -> float:
        return (self.to_ms - self.from_ms) / 1000

    def holds(self, column: str) -> pl.Expr:
        return (pl.col(column) >= self.from_ms) & (pl.col(column) < self.to_ms)


@dataclass(frozen=True)
class Latencies:
    """Milliseconds from the intended send to the append of the first result: exact, not from buckets."""

    ms: npt.NDArray[np.float64]

    def percentile(self, rank: float) -> float | None:
        """The smallest value that `rank` per cent of all are not above; None of none."""
        if not len(self.ms):
            return None
        # Rounded, for 99.9 of a thousand is a little more than 999 in floats.
        place = max(math.ceil(round(rank * len(self.ms) / 100, 6)) - 1, 0)
        return float(np.partition(self.ms, place)[place])

    def aggregate(self, name: str) -> float | None:
        """`avg`, `min`, `med` or `max`."""
        if not len(self.ms):
            return None
        if name == "avg":
            return float(self.ms.mean())
        return self.percentile({"min": 0.0, "med": 50.0, "max": 100.0}[name])


@dataclass(frozen=True)
class Measured:
    """What is measured of a log. `events`, `asked` and `done` count by millisecond of append (`appended_ms`, `len`):
    all records of the lifecycle, the submissions, and the tasks that have a result.

    `ended`: of each task with a result, when it was meant to be sent (`sent_ms`), and how long it took (`took_ms`).
    `records` counts all valid ones, `bytes` their keys and values; `statuses` count results.
    """

    events: pl.DataFrame
    asked: pl.DataFrame
    done: pl.DataFrame
    ended: pl.DataFrame
    statuses: pl.DataFrame
    first_dispatch_ms: int | None
    records: int
    bytes: int


class Meter:
    """Measures a log that comes in parts, each with all records of its tasks."""

    def __init__(self) -> None:
        self._events: list[pl.DataFrame] = []
        self._asked: list[pl.DataFrame] = []
        self._done: list[pl.DataFrame] = []
        self._ended: list[pl.DataFrame] = []
        self._statuses: list[pl.DataFrame] = []
        self._first_dispatch_ms: int | None = None
        self._records = self._bytes = 0

    def add(self, log: ColumnLog) -> None:
        self._events += [_counted(frame.filter(pl.col("key").is_not_null())) for frame in log.frames.values()]
        self._asked.append(_counted(log.submissions))
        first = log.results.sort("partition", "offset").unique("key", keep="first", maintain_order=True)
        self._done.append(_counted(first))
        sent_ms = pl.col("sent_us") / 1000
        self._ended.append(first.select(sent_ms=sent_ms, took_ms=pl.col("appended_ms") - sent_ms))
        self._statuses.append(log.results.group_by("status", "reason").len("results"))
        begins = [log.dispatches["appended_ms"].min(), self._first_dispatch_ms]
        self._first_dispatch_ms = min((cast("int", each) for each in begins if each is not None), default=None)
        self._records += log.records
        # Each part knows of the whole.
        self._bytes = sum(log.bytes_of.values())

    def measured(self) -> Measured:
        """All that was added."""
        statuses = pl.concat(self._statuses).group_by("status", "reason").agg(pl.col("results").sum())
        return Measured(
            _summed(self._events),
            _summed(self._asked),
            _summed(self._done),
            pl.concat(self._ended),
            statuses.sort("results", "status", "reason", descending=True),
            self._first_dispatch_ms,
            self._records,
            self._bytes,
        )


def measured(log: ColumnLog) -> Measured:
    """A log that is whole."""
    meter = Meter()
    meter.add(log)
    return meter.measured()


def _counted(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.group_by("appended_ms").len("len")


def _summed(parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    return pl.concat(parts).group_by("appended_ms").agg(pl.col("len").sum()).sort("appended_ms")


def within(counts: pl.DataFrame, window: Window) -> int:
    """How many of what was counted by milliseconds."""
    return int(counts.filter(window.holds("appended_ms"))["len"].sum())


def latencies(ended: pl.DataFrame, window: Window) -> Latencies:
    """Of the tasks that were meant to be sent within the window, however late their results came."""
    return Latencies(ended.filter(window.holds("sent_ms"))["took_ms"].to_numpy())


def by_second(counts: pl.DataFrame, window: Window) -> list[int]:
    """How many in each second of the window."""
    seconds = max(1, round(window.seconds))
    inside = counts.filter(window.holds("appended_ms"))
    at = ((inside["appended_ms"].to_numpy() - window.from_ms) // 1000).astype(np.int64)
    found = np.bincount(np.minimum(at, seconds - 1), weights=inside["len"].to_numpy(), minlength=seconds)
    return [int(count) for count in found]


def latency_by_second(
    ended: pl.DataFrame, window: Window, ranks: Sequence[float]
) -> Mapping[float, list[float | None]]:
    """Percentiles of the tasks that were meant to be sent in each second."""
    seconds = max(1, round(window.seconds))
    inside = ended.filter(window.holds("sent_ms"))
    at = ((inside["sent_ms"].to_numpy() - window.from_ms) // 1000).astype(np.int64)
    took = inside["took_ms"].to_numpy()
    parts = [Latencies(took[at == second]) for second in range(seconds)]
    return {rank: [part.percentile(rank) for part in parts] for rank in ranks}


def in_flight(log: Measured, at_ms: Sequence[float]) -> list[int]:
    """How many tasks were appended and had no result yet, at each of these times."""
    asked, done = (_until(counts, at_ms) for counts in (log.asked, log.done))
    return [int(count) for count in asked - done]


def _until(counts: pl.DataFrame, at_ms: Sequence[float]) -> npt.NDArray[np.int64]:
    sums = np.concatenate(([0], np.cumsum(counts["len"].to_numpy(), dtype=np.int64)))
    found: npt.NDArray[np.int64] = sums[np.searchsorted(counts["appended_ms"].to_numpy(), at_ms, "right")]
    return found


def growth(seconds: Sequence[float], values: Sequence[float]) -> float | None:
    """How much these values grow in a second: the slope of the least squares; None of fewer than three."""
    if len(values) < 3:  # noqa: PLR2004  two points always make a line
        return None
    return float(np.polyfit(seconds, values, 1)[0])
