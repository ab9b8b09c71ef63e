"""Tasks that were sent out together and of which nothing has been heard yet, in columns: most tasks, most of the time.

What becomes of them otherwise (a failure, a time-out, a lone vote) needs the facts of one task (streams/core/task.py),
which are made then, of the same values. I/O: none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from schemas.dispatch_wait import wait_ms
from schemas.reasons import DispatchReason, FailReason, ResultReason
from streams.core.hosts import AGAIN_MS, HostsSeen
from streams.core.policy import RoutePolicy
from streams.core.routing import FALLBACK
from streams.core.task import Attempt, Charged, Identity, Plan, Slip, Task, TaskKey

ALONE_AFTER_MS = 2_000
"""A cohort keeps the bodies of all of its tasks: those that take longer are kept one by one."""

PAIR = 2
_PLACE_BITS = 32
_PLACE = (1 << _PLACE_BITS) - 1


class Ending(NamedTuple):
    """How a task ends whose one agent gives a good answer."""

    status: str
    reason: ResultReason


class First(NamedTuple):
    """The first dispatches of equal tasks.

    `voices`: the good answers that decide such a task, if those of a panel are equal; 0 where more is to be looked at.
    `seats`: the agents' codes of the first two attempts, NOBODY where there is none. `ending` indexes ENDINGS.
    """

    plan: Plan
    slips: tuple[Slip, ...]
    voices: int
    seats: tuple[int, int]
    ending: int


CONSENSUS = Ending("COMPLETED", ResultReason.CONSENSUS)
ENDINGS = (
    CONSENSUS,
    Ending("COMPLETED", ResultReason.ANSWERED),
    Ending("DEGRADED", ResultReason.LOW_CONFIDENCE),
    Ending("DEGRADED", ResultReason.FALLBACK_AGENT),
    Ending("DEGRADED", ResultReason.BREAKER_FLOOR),
)


@dataclass(frozen=True)
class Firsts:
    """The first dispatches of one turn's tasks, and what decides by them in columns, a value for each.

    `endings` index ENDINGS; `shortest_ms` is the least timeout.
    """

    each: tuple[First, ...]
    seats: npt.NDArray[np.int64]
    voices: npt.NDArray[np.int64]
    endings: npt.NDArray[np.int64]
    shortest_ms: npt.NDArray[np.int64]

    @classmethod
    def of(cls, each: tuple[First, ...]) -> Firsts:
        return cls(
            each=each,
            seats=np.array([first.seats for first in each], np.int64),
            voices=np.array([first.voices for first in each], np.int64),
            endings=np.array([first.ending for first in each], np.int64),
            shortest_ms=np.array([min(slip.timeout_ms for slip in first.slips) for first in each], np.int64),
        )

    @cached_property
    def agents(self) -> frozenset[str]:
        """All that are asked."""
        return frozenset(slip.agent_id for first in self.each for slip in first.slips)


def ending(route: RoutePolicy, band: str, agent_id: str, reason: str) -> Ending:
    """Rule R10: what the answer of a single agent is worth."""
    if band == FALLBACK:
        return Ending("DEGRADED", ResultReason.LOW_CONFIDENCE)
    if agent_id == route.fallback_agent and agent_id not in route.agents:
        return Ending("DEGRADED", ResultReason.FALLBACK_AGENT)
    if reason == DispatchReason.BREAKER_FLOOR:
        return Ending("DEGRADED", ResultReason.BREAKER_FLOOR)
    return Ending("COMPLETED", ResultReason.ANSWERED)


class Bodies(Protocol):
    """What was submitted, a value per row in each column: an intake, or rows of several."""

    @property
    def ids(self) -> Sequence[TaskKey]: ...
    @property
    def keys(self) -> Sequence[bytes]: ...
    @property
    def frames(self) -> Sequence[bytes]: ...
    @property
    def datums(self) -> Sequence[bytes]: ...
    @property
    def ahead(self) -> int: ...
    @property
    def appended_ms(self) -> Sequence[int]: ...
    @property
    def sizes(self) -> npt.NDArray[np.int64]: ...

    def identity(self, row: int) -> Identity: ...


@dataclass(frozen=True)
class Past:
    """The one attempt before, which failed; a value per task in each column."""

    slips: Sequence[Slip]
    failures: Sequence[FailReason]
    event_ids: Sequence[str]
    cost: npt.NDArray[np.int64]
    tokens: npt.NDArray[np.int64]

    def tell(self, place: int, task: Task) -> None:
        """Adds it to the facts of its task."""
        slip, event_id = self.slips[place], self.event_ids[place]
        task.charge(Charged(event_id, int(self.cost[place]), int(self.tokens[place])))
        task.attempts[slip.attempt] = Attempt(slip, event_id, self.failures[place])


@dataclass
class Cohort:
    """The tasks of one cell that one turn sent out, by place. `rows` are theirs in `bodies`; `codes` index `firsts`.

    Where each has failed with an agent before, that is its `past`; `firsts` are the dispatches behind that. A task's
    number names cohort and place. `left` is how many are still in it; `due_ms`, when the first of them may be
    overdue.
    """

    serial: int
    bodies: Bodies
    rows: npt.NDArray[np.int64]
    codes: npt.NDArray[np.int64]
    firsts: Firsts
    deadlines_ms: npt.NDArray[np.int64]
    sent_ms: int
    grace_ms: int
    past: Past | None = None

    def __post_init__(self) -> None:
        self.left = len(self.rows)
        soonest_ms = self.sent_ms + self.grace_ms + int(self.firsts.shortest_ms[self.codes].min())
        self.due_ms = min(soonest_ms, int(self.deadlines_ms.min()), self.sent_ms + ALONE_AFTER_MS)

    @property
    def numbers(self) -> range:
        """The number of each task, by place."""
        return range(self.serial << _PLACE_BITS, (self.serial << _PLACE_BITS) + len(self.rows))

    def appended_ms(self, number: int) -> int:
        return int(self.bodies.appended_ms[int(self.rows[number & _PLACE])])

    def origin(self, number: int) -> tuple[int, First]:
        """Row in the bodies, and first dispatches."""
        place = number & _PLACE
        return int(self.rows[place]), self.firsts.each[int(self.codes[place])]

    def task(self, number: int) -> Task:
        """The facts of one task, as they stood when it was sent out: its first dispatches."""
        bodies, (row, first), place = self.bodies, self.origin(number), number & _PLACE
        task = Task(
            id=bodies.ids[row],
            key=bodies.keys[row],
            frame=bodies.frames[row],
            datum=bodies.datums[row][bodies.ahead :],
            identity=bodies.identity(row),
            deadline_ms=int(self.deadlines_ms[place]),
            appended_ms=int(bodies.appended_ms[row]),
            size=int(bodies.sizes[row]),
            plan=first.plan,
        )
        if self.past is not None:
            self.past.tell(place, task)
        task.attempts |= {slip.attempt: Attempt(slip) for slip in first.slips}
        return task

    def code_of(self, number: int) -> int:
        """Index of the task's first dispatches among `firsts`."""
        return int(self.codes[number & _PLACE])

    def unread(self, hosts: HostsSeen, most_ms: int, now_ms: int) -> list[bool]:
        """By code: whether its tasks can go on waiting here, because no host has begun any of their dispatches.

        Where any can, the cohort is due again in a while.
        """
        soonest_ms = int(self.deadlines_ms.min())
        if now_ms >= min(soonest_ms, self.sent_ms + wait_ms(most_ms, self.sent_ms, soonest_ms)):
            return [False] * len(self.firsts.each)
        begun = {agent for agent in self.firsts.agents if hosts.has_begun(agent, self.sent_ms)}
        unread = [not any(slip.agent_id in begun for slip in first.slips) for first in self.firsts.each]
        if any(unread):
            self.due_ms = min(now_ms + AGAIN_MS, soonest_ms)
        return unread

    def still_here(self, held: Callable[[TaskKey], object]) -> list[tuple[int, TaskKey]]:
        """Number and id of the tasks that are still in it, given what the cell holds of each."""
        ids = [self.bodies.ids[row] for row in self.rows.tolist()]
        return [(number, each) for number, each in zip(self.numbers, ids, strict=True) if held(each) == number]


def split(numbers: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Serials of cohorts, and places in them."""
    return numbers >> _PLACE_BITS, numbers & _PLACE


def serial_of(number: int) -> int:
    """Serial of the cohort of one task."""
    return number >> _PLACE_BITS
