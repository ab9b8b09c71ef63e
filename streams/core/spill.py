"""Which tasks of a cell stand whole in the compacted topic, so that the low watermark need not wait for them.

Decided when a cut is taken, and only then: a turn does no more than say which of them it has touched. A task is old by
the time since its submission, or by the submissions that were taken in since. I/O: none.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import filterfalse
from typing import NamedTuple

import pyarrow as pa

from streams.core.task import Task, TaskKey

SPILLS_MAX = 1_000
SPILL_BYTES_MAX = 16 << 20
"""New ones in one cut of a partition, by number and by size: the rest, and the low watermark, wait for the next."""


class Spill(NamedTuple):
    """What is to be said of a task in the compacted topic: all of it, or, without a task, that it is finished."""

    id: TaskKey
    task: Task | None


@dataclass(frozen=True, slots=True)
class Spilled:
    """Valid TaskSpilled records of one partition, the latest of each task; `frames` and `datums` as in Dispatches.

    `doubtful`: tasks whose latest record a zombie wrote, and when their submissions were appended.
    """

    batch: pa.RecordBatch
    frames: Sequence[bytes]
    datums: Sequence[bytes]
    doubtful: Mapping[TaskKey, int]


class Spills:
    """What one cell has in the topic.

    A task that stands there is written again in the cut that follows a change, and taken away when it is finished. So
    between two cuts the topic never lacks what the last cut has committed. One that has become too large for a record
    is kept: it holds the low watermark back, as if it had never been written.
    """

    def __init__(self, after_ms: int, after_tasks: int) -> None:
        self._after_ms, self._after_tasks = after_ms, after_tasks
        self._written: set[TaskKey] = set()
        self._kept: set[TaskKey] = set()
        self._changed: dict[TaskKey, None] = {}
        self._marks: deque[tuple[int, int]] = deque()

    def __len__(self) -> int:
        """How many tasks stand in the topic and hold nothing back."""
        return len(self._written) - len(self._written & self._kept)

    @property
    def has_news(self) -> bool:
        """Whether the next cut has something to say about what stands in the topic."""
        return bool(self._changed)

    def touch(self, task_id: TaskKey) -> None:
        """Something about the task may be another than it was."""
        if task_id in self._written or task_id in self._kept:
            self._changed[task_id] = None

    def found(self, task_id: TaskKey, *, is_current: bool) -> None:
        """It was read there by a recovery."""
        self._written.add(task_id)
        if not is_current:
            self._changed[task_id] = None

    def keep(self, task_id: TaskKey) -> None:
        """It is too large for a record."""
        self._kept.add(task_id)

    def unwritten(self, tasks: Mapping[TaskKey, object]) -> Iterator[TaskKey]:
        """Those for which the low watermark waits, in the order of `tasks`."""
        if not self._written:
            return iter(tasks)
        return (task_id for task_id in tasks if task_id not in self._written or task_id in self._kept)

    def old_before_ms(self, position: int, now_ms: int) -> int:
        """Tasks whose submission was appended before this are old; `position` is the next offset of submissions."""
        old_ms = now_ms - self._after_ms
        if not self._marks or self._marks[-1][0] != position:
            self._marks.append((position, now_ms))
        far = position - self._after_tasks
        while len(self._marks) > 1 and (self._marks[1][0] <= far or self._marks[1][1] <= old_ms):
            self._marks.popleft()
        at, when_ms = self._marks[0]
        return max(old_ms, when_ms) if at <= far else old_ms

    def candidates(self, tasks: Mapping[TaskKey, object]) -> Iterator[TaskKey]:
        """Those that are neither written nor too large, in the order of `tasks`."""
        return filterfalse(self._kept.__contains__, filterfalse(self._written.__contains__, tasks))

    def take_changed(self, tasks: Mapping[TaskKey, object]) -> Iterable[TaskKey]:
        """Those that must be written again, or taken away because they are no longer among `tasks`."""
        changed, self._changed = self._changed, {}
        for task_id in changed:
            is_kept, is_written = task_id in self._kept, task_id in self._written
            if task_id in tasks:
                if is_written and not is_kept:
                    yield task_id
                continue
            self._kept.discard(task_id)
            self._written.discard(task_id)
            if is_written:
                yield task_id

    def wrote(self, task_id: TaskKey) -> None:
        self._written.add(task_id)
