"""What a run's columns say of its speed: events and results by second, and how long tasks took.

An event is a record of the lifecycle, appended to its topic: a submission, a dispatch, an agent's event, a result, or
an orchestrator's event of a task. I/O: none.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

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


def events(log: ColumnLog) -> pl.DataFrame:
    """Append times of all records of the lifecycle."""
    return pl.concat([frame.filter(pl.col("key").is_not_null()).select("appended_ms") for frame in log.frames.values()])


def within(times: pl.DataFrame, window: Window) -> int:
    return times.filter(window.holds("appended_ms")).height


def finished(log: ColumnLog) -> pl.DataFrame:
    """Of each task with a result: when it was meant to be sent, and how long it took, in ms."""
    first = log.results.sort("partition", "offset").unique("key", keep="first", maintain_order=True)
    return first.select(
        "key",
        "appended_ms",
        sent_ms=pl.col("sent_us") / 1000,
        took_ms=pl.col("appended_ms") - pl.col("sent_us") / 1000,
    )


def latencies(ended: pl.DataFrame, window: Window) -> Latencies:
    """Of the tasks that were meant to be sent within the window, however late their results came."""
    return Latencies(ended.filter(window.holds("sent_ms"))["took_ms"].to_numpy())


def by_second(times: pl.DataFrame, column: str, window: Window) -> list[int]:
    """How many in each second of the window."""
    seconds = max(1, round(window.seconds))
    inside = times.filter(window.holds(column))
    at = ((inside[column].to_numpy() - window.from_ms) // 1000).astype(np.int64)
    return [int(count) for count in np.bincount(np.minimum(at, seconds - 1), minlength=seconds)]


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


def in_flight(log: ColumnLog, ended: pl.DataFrame, at_ms: Sequence[float]) -> list[int]:
    """How many tasks were appended and had no result yet, at each of these times."""
    asked = np.sort(log.submissions["appended_ms"].to_numpy())
    done = np.sort(ended["appended_ms"].to_numpy())
    return [int(np.searchsorted(asked, each, "right") - np.searchsorted(done, each, "right")) for each in at_ms]


def growth(seconds: Sequence[float], values: Sequence[float]) -> float | None:
    """How much these values grow in a second: the slope of the least squares; None of fewer than three."""
    if len(values) < 3:  # noqa: PLR2004  two points always make a line
        return None
    return float(np.polyfit(seconds, values, 1)[0])
