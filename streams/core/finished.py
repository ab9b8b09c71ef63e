"""The tasks that have ended lately, so that their repeats are known: bounded in count and in time.

There are hundreds of thousands of them, and of most nothing is ever asked again. As objects they were half of a
worker's memory, and no cache held what a look at them touches. So only the latest are objects; from time to time those
go together into columns, are found there by the hashes of their ids (streams/core/trail.py), and then told apart by the
ids themselves. I/O: none.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from operator import attrgetter

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from streams.core.task import TaskKey
from streams.core.trail import Trail

LATEST_MAX, LATEST_MS = 4_096, 1_000
"""So many, or those of so long, are put into columns at once: by itself each would cost as much as a hundred."""


class Finished:
    """Ended tasks with the ids of the events that were seen of them, in the order in which they came."""

    def __init__(self, count_max: int, horizon_ms: int) -> None:
        self._count_max, self._horizon_ms = count_max, horizon_ms
        self._latest: dict[TaskKey, tuple[str, ...]] = {}
        # When they ended: a time, and how many there were of them after it.
        self._ended: list[tuple[int, int]] = []
        # What ended before, oldest first; the trail has a hash for each of these tasks.
        self._stretches: deque[_Stretch] = deque()
        self._trail = Trail()

    def __contains__(self, task: TaskKey) -> bool:
        return task in self._latest or self._find(task) is not None

    def __len__(self) -> int:
        return len(self._trail) + len(self._latest)

    def items(self) -> Iterator[tuple[TaskKey, int, tuple[str, ...]]]:
        """Task, when it ended, and its events; oldest first."""
        for stretch in self._stretches:
            for place in range(max(self._trail.first - stretch.start, 0), len(stretch)):
                yield stretch.task(place), int(stretch.ended_ms[place]), stretch.events(place)
        for (task, event_ids), ended_ms in zip(self._latest.items(), self._times().tolist(), strict=True):
            yield task, ended_ms, event_ids

    def add(self, task: TaskKey, now_ms: int, event_ids: tuple[str, ...]) -> None:
        """A task; of one that is known, more events."""
        if task in self._latest:
            self._put_away()
        found = self._find(task)
        if found is None:
            self.add_all((task,), now_ms, (event_ids,))
            return
        stretch, place = found
        stretch.ended_ms[place] = now_ms
        stretch.hear(place, event_ids)

    def add_all(self, tasks: Collection[TaskKey], now_ms: int, event_ids: Iterable[tuple[str, ...]]) -> None:
        """Tasks that are not known here, each with the events that were seen of it."""
        self._latest.update(zip(tasks, event_ids, strict=True))
        if self._ended and self._ended[-1][0] == now_ms:
            self._ended.pop()
        self._ended.append((now_ms, len(self._latest)))

    def alike(self, tasks: Sequence[TaskKey]) -> list[int]:
        """The places of the few that may be known; the others are not."""
        found = self._trail.among(tasks)
        if not self._latest.keys().isdisjoint(tasks):
            found += [place for place, task in enumerate(tasks) if task in self._latest]
        return found

    def has_seen(self, task: TaskKey, event_id: str) -> bool:
        """True for a repeat; otherwise remembers the event. An unknown task has seen nothing."""
        latest = self._latest.get(task)
        if latest is not None:
            if event_id not in latest:
                self._latest[task] = (*latest, event_id)
            return event_id in latest
        found = self._find(task)
        if found is None:
            return False
        stretch, place = found
        if event_id in stretch.events(place):
            return True
        stretch.hear(place, (event_id,))
        return False

    def evict(self, now_ms: int) -> None:
        """Forgets what is over either bound."""
        if len(self._latest) >= LATEST_MAX or (self._latest and now_ms - self._ended[0][0] >= LATEST_MS):
            self._put_away()
        overdue_ms, trail = now_ms - self._horizon_ms, self._trail
        while len(self):
            if not self._stretches:
                if len(self) <= self._count_max and self._ended[0][0] >= overdue_ms:
                    return
                self._put_away()
            oldest, over = self._stretches[0], max(len(self) - self._count_max, 0)
            place = trail.first - oldest.start
            if not over and oldest.ended_ms[place] >= overdue_ms:
                return
            stays = np.flatnonzero(oldest.ended_ms[place + over :] >= overdue_ms)
            if len(stays):
                trail.forget(over + int(stays[0]))
                return
            trail.forget(len(oldest) - place)
            self._stretches.popleft()

    def _times(self) -> npt.NDArray[np.int64]:
        """When each of the latest ended."""
        if not self._ended:
            return np.empty(0, np.int64)
        ended_ms, until = np.array(self._ended, np.int64).T
        return np.repeat(ended_ms, np.diff(until, prepend=0))

    def _put_away(self) -> None:
        """The latest go into columns."""
        if self._latest:
            self._stretches.append(_Stretch.of(self._trail.end, self._times(), self._latest))
            self._trail.add_all(list(self._latest))
            self._latest, self._ended = {}, []

    def _find(self, task: TaskKey) -> tuple[_Stretch, int] | None:
        """Where it stands in columns."""
        for serial in self._trail.find(task):
            stretch = self._stretches[bisect_right(self._stretches, serial, key=attrgetter("start")) - 1]
            if stretch.task(serial - stretch.start) == task:
                return stretch, serial - stretch.start
        return None


@dataclass(frozen=True, slots=True)
class _Stretch:
    """Tasks that came one after the other, a value per task in each column; `start` is the serial of the first.

    Events that were heard of since are `later`, by place.
    """

    start: int
    ended_ms: npt.NDArray[np.int64]
    tenants: pa.StringArray
    task_ids: pa.StringArray
    event_ids: pa.ListArray
    later: dict[int, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, start: int, ended_ms: npt.NDArray[np.int64], tasks: dict[TaskKey, tuple[str, ...]]) -> _Stretch:
        n, events = len(tasks), list(tasks.values())
        tenants, task_ids = zip(*tasks, strict=True)
        ends = np.zeros(n + 1, np.int32)
        np.cumsum(np.fromiter(map(len, events), np.int32, n), out=ends[1:])
        flat = pa.array(list(chain.from_iterable(events)), pa.string())
        return cls(
            start,
            ended_ms,
            pa.array(tenants, pa.string()),
            pa.array(task_ids, pa.string()),
            pa.ListArray.from_arrays(pa.array(ends), flat),
        )

    def __len__(self) -> int:
        return len(self.ended_ms)

    def task(self, place: int) -> TaskKey:
        return self.tenants[place].as_py(), self.task_ids[place].as_py()

    def events(self, place: int) -> tuple[str, ...]:
        return (*self.event_ids[place].as_py(), *self.later.get(place, ()))

    def hear(self, place: int, event_ids: tuple[str, ...]) -> None:
        self.later[place] = (*self.later.get(place, ()), *event_ids)
