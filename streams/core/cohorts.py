"""The cohorts of one cell: the tasks of which nothing is known but that they were sent out, and perhaps a first voice.

I/O: none.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from streams.core.cohort import Bodies, Cohort, Firsts, Past, serial_of
from streams.core.pairs import Pairs
from streams.core.policy import Policy
from streams.core.task import Task, TaskKey

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from streams.core.hosts import HostsSeen


class Cohorts:
    """By serial, oldest first. `pairs` has the first voices of their tasks."""

    def __init__(self, policy: Policy) -> None:
        limits = policy.topology.limits
        self._grace_ms, self._wait_ms = limits.timeout_grace_ms, limits.dispatch_wait_ms
        self._by_serial: dict[int, Cohort] = {}
        self._serial = 0
        self.pairs = Pairs(policy)

    def __bool__(self) -> bool:
        return bool(self._by_serial)

    def __getitem__(self, serial: int) -> Cohort:
        return self._by_serial[serial]

    def add(
        self,
        bodies: Bodies,
        rows: npt.NDArray[np.int64],
        codes: npt.NDArray[np.int64],
        firsts: Firsts,
        deadlines_ms: npt.NDArray[np.int64],
        now_ms: int,
        past: Past | None = None,
    ) -> Cohort:
        """Tasks that are sent out now."""
        self._serial += 1
        cohort = Cohort(self._serial, bodies, rows, codes, firsts, deadlines_ms, now_ms, self._grace_ms, past)
        self._by_serial[self._serial] = cohort
        return cohort

    def of(self, number: int) -> Cohort:
        """The cohort of a task."""
        return self._by_serial[serial_of(number)]

    def leave(self, cohort: Cohort, times: int) -> None:
        """So many tasks of it are in it no longer."""
        cohort.left -= times
        if not cohort.left:
            del self._by_serial[cohort.serial]

    def appended_ms(self, number: int) -> int:
        return self.of(number).appended_ms(number)

    def task(self, number: int) -> Task:
        """The facts of a task, as they stand."""
        task = self.of(number).task(number)
        self.pairs.tell(number, task)
        return task

    def single_out(self, number: int) -> Task:
        """The facts of a task that is in a cohort no longer."""
        task = self.task(number)
        self.pairs.forget(number)
        self.leave(self.of(number), 1)
        return task

    def leave_behind(self, now_ms: int, hosts: HostsSeen, tasks: dict[TaskKey, Task | int]) -> Iterator[Task]:
        """Takes apart cohorts that have waited for long, or of which a task may be overdue: the tasks left in them, but
        for those that no host has begun yet, which may have to wait for each other's sake."""
        for cohort in [each for each in self._by_serial.values() if each.due_ms <= now_ms]:
            staying = cohort.unread(hosts, self._wait_ms, now_ms)
            if all(staying):
                continue
            for number, task_id in cohort.still_here(tasks.get):
                if not staying[cohort.code_of(number)]:
                    tasks[task_id] = task = self.single_out(number)
                    yield task
