"""When each task of a load test is meant to be sent: an open loop on the wall clock, whatever the pipeline does.

I/O: none.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

BEHIND_SHARE_MAX = 0.01
BEHIND_S_MIN = 0.5  # of a run that is too short to be a measurement


@dataclass(frozen=True)
class Stage:
    """So many tasks a second for so long."""

    seconds: float
    rate: float


class Schedule:
    """The stages of a run, one after the other; tasks are numbered from 0 and evenly spaced within a stage."""

    def __init__(self, stages: Sequence[Stage]) -> None:
        if not stages or any(stage.seconds <= 0 or stage.rate <= 0 for stage in stages):
            raise ValueError("a schedule needs stages, each with a duration and a rate above 0")
        self.stages = tuple(stages)
        # Where each stage begins, and at the end where the last one ends: in seconds, and in tasks.
        self._starts_s = np.concatenate(([0.0], np.cumsum([stage.seconds for stage in stages])))
        counts = np.floor([stage.seconds * stage.rate + 1e-9 for stage in stages]).astype(np.int64)
        self._firsts = np.concatenate((np.zeros(1, np.int64), np.cumsum(counts)))
        # The same as plain numbers: for one of them that is several times as quick.
        self._each_start_s: list[float] = self._starts_s.tolist()
        self._each_first: list[int] = self._firsts.tolist()

    @property
    def seconds(self) -> float:
        return self._each_start_s[-1]

    @property
    def tasks(self) -> int:
        """Of the whole run."""
        return self._each_first[-1]

    def due(self, elapsed_s: float) -> int:
        """How many tasks should have been sent so long after the start."""
        if elapsed_s <= 0:
            return 0
        at = bisect_right(self._each_start_s, elapsed_s) - 1
        if at >= len(self.stages):
            return self.tasks
        within = int((elapsed_s - self._each_start_s[at]) * self.stages[at].rate)
        return min(self._each_first[at] + within, self._each_first[at + 1])

    def stage_of(self, number: int) -> int:
        """In which stage a task is sent."""
        return min(bisect_right(self._each_first, number) - 1, len(self.stages) - 1)

    def offset_us(self, number: int) -> int:
        """As `offsets_us`, of one task."""
        at = self.stage_of(number)
        return int((self._each_start_s[at] + (number - self._each_first[at]) / self.stages[at].rate) * 1e6)

    def offsets_us(self, numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Microseconds after the start at which these tasks are meant to be sent."""
        at = np.searchsorted(self._firsts, numbers, side="right") - 1
        at = np.minimum(at, len(self.stages) - 1)
        rates = np.array([stage.rate for stage in self.stages])[at]
        seconds = self._starts_s[at] + (numbers - self._firsts[at]) / rates
        offsets: npt.NDArray[np.int64] = (seconds * 1e6).astype(np.int64)
        return offsets

    def behind_max_s(self) -> float:
        """How late the generator may be: a hundredth of the run. A run in which it was later is void."""
        return max(self.seconds * BEHIND_SHARE_MAX, BEHIND_S_MIN)
