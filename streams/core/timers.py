"""When each task in flight next needs a look, without looking at all of them.

A hashed timing wheel (Varghese and Lauck, 1987) of unbounded range: slots in a heap. I/O: none.
"""

from __future__ import annotations

from heapq import heappop, heappush

from streams.core.task import Task

SLOT_MS = 50


class Timers:
    """Tasks by the time they are due. One that has ended meanwhile is dropped when its time comes."""

    def __init__(self) -> None:
        self._slots: dict[int, list[Task]] = {}
        self._order: list[int] = []

    def add(self, task: Task, due_ms: int) -> None:
        slot = due_ms // SLOT_MS
        waiting = self._slots.get(slot)
        if waiting is None:
            self._slots[slot] = [task]
            heappush(self._order, slot)
        else:
            waiting.append(task)

    def due(self, now_ms: int) -> list[Task]:
        """Takes out all that may be due, oldest submission first; the caller looks, for some of the slot may not be."""
        found: list[Task] = []
        while self._order and self._order[0] <= now_ms // SLOT_MS:
            found += self._slots.pop(heappop(self._order))
        return sorted((task for task in found if not task.finished), key=lambda task: task.appended_ms)
