"""The tasks that have ended lately, so that their repeats are known: bounded in count and in time.

I/O: none.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable
from itertools import repeat

from streams.core.task import TaskKey


class Finished:
    """Ids of ended tasks with the ids of the events that were seen of them, oldest first."""

    def __init__(self, count_max: int, horizon_ms: int) -> None:
        self._count_max, self._horizon_ms = count_max, horizon_ms
        self._ended: dict[TaskKey, tuple[int, tuple[str, ...]]] = {}
        # The same in the order in which they came. A dict has no quick first key: it steps over all that has gone.
        self._order: deque[TaskKey] = deque()

    def __contains__(self, task: TaskKey) -> bool:
        return task in self._ended

    def __len__(self) -> int:
        return len(self._ended)

    def add(self, task: TaskKey, now_ms: int, event_ids: tuple[str, ...]) -> None:
        found = self._ended.get(task)
        if found is None:
            self._order.append(task)
        self._ended[task] = (now_ms, event_ids if found is None else found[1] + event_ids)

    def add_all(self, tasks: Collection[TaskKey], now_ms: int, event_ids: Iterable[tuple[str, ...]]) -> None:
        """Tasks that are not known here, each with the events that were seen of it."""
        self._order.extend(tasks)
        self._ended.update(zip(tasks, zip(repeat(now_ms), event_ids, strict=False), strict=True))

    def knows_none_of(self, tasks: Iterable[TaskKey]) -> bool:
        return self._ended.keys().isdisjoint(tasks)

    def has_seen(self, task: TaskKey, event_id: str) -> bool:
        """True for a repeat; otherwise remembers the event. An unknown task has seen nothing."""
        found = self._ended.get(task)
        if found is None:
            return False
        ended_ms, event_ids = found
        if event_id in event_ids:
            return True
        self._ended[task] = (ended_ms, (*event_ids, event_id))
        return False

    def evict(self, now_ms: int) -> None:
        """Forgets what is over either bound."""
        overdue_ms = now_ms - self._horizon_ms
        ended, order = self._ended, self._order
        while order and (len(ended) > self._count_max or ended[order[0]][0] < overdue_ms):
            del ended[order.popleft()]
