"""Makes tasks before they are due, many at once: what a task is, and when it is meant to be sent, is known before.

Making the tasks of a tick alone would cost as much as sending them: a call into each library costs more than its rows,
most of all after a sleep, when nothing is in the caches. I/O: none.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from loadtest.schedule import Schedule
from loadtest.workload import Tick, Workload

AHEAD = 4_096
"""Tasks that are made at once: in some 2 ms, which no tick notices."""


class Ahead:
    """The tasks of one run. Which they are is drawn when this is made; they are asked for in order."""

    def __init__(self, workload: Workload, schedule: Schedule) -> None:
        self._workload, self._schedule = workload, schedule
        self._what, self._who = workload.draw(0, schedule.tasks)
        self._began_us = self._upto = 0
        self._made: list[Tick] = []

    def begin(self, at_us: int) -> None:
        """From when on the schedule counts, since the epoch."""
        self._began_us, self._upto = at_us, 0

    def between(self, first: int, upto: int) -> Iterator[Tick]:
        """Tasks `first` to `upto`, by partition, each partition's in order."""
        while first < upto:
            if first >= self._upto:
                self._make(first)
            stop = min(upto, self._upto)
            for made in self._made:
                tick = made.between(first, stop)
                if tick.keys:
                    yield tick
            first = stop

    def _make(self, first: int) -> None:
        self._upto = min(first + AHEAD, self._schedule.tasks)
        sent_us = self._began_us + self._schedule.offsets_us(np.arange(first, self._upto, dtype=np.int64))
        part = slice(first, self._upto)
        self._made = self._workload.ticks(first, self._what[part], self._who[part], sent_us)
