"""Tasks that were sent out together and of which nothing has been heard yet, in columns: most tasks, most of the time.

What becomes of them otherwise (a failure, a time-out, a lone vote) needs the facts of one task (streams/core/task.py),
which are made then, of the same values. I/O: none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from schemas.dispatch_wait import wait_ms
from schemas.reasons import DispatchReason, FailReason, ResultReason
from streams.core.availability import Availability
from streams.core.factor import factor
from streams.core.hearing import NOBODY
from streams.core.hosts import AGAIN_MS, HostsSeen
from streams.core.intake import Kind
from streams.core.policy import Policy, RoutePolicy
from streams.core.routing import FALLBACK, plan
from streams.core.task import WORK, Attempt, Charged, Identity, Plan, Slip, Task, TaskKey

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
    `seats`: the agents' codes of the first two attempts, NOBODY where there is none.
    """

    plan: Plan
    slips: tuple[Slip, ...]
    voices: int
    seats: tuple[int, int]
    ending: Ending


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

    `endings` index ENDINGS; `is_unsure` where the route's fallback agent is asked; `shortest_ms` is the least timeout.
    """

    each: tuple[First, ...]
    seats: npt.NDArray[np.int64]
    voices: npt.NDArray[np.int64]
    endings: npt.NDArray[np.int64]
    is_unsure: npt.NDArray[np.bool_]
    shortest_ms: npt.NDArray[np.int64]

    @classmethod
    def of(cls, each: tuple[First, ...]) -> Firsts:
        return cls(
            each=each,
            seats=np.array([first.seats for first in each], np.int64),
            voices=np.array([first.voices for first in each], np.int64),
            endings=np.array([ENDINGS.index(first.ending) for first in each], np.int64),
            is_unsure=np.array([first.plan.band == FALLBACK for first in each], np.bool_),
            shortest_ms=np.array([min(slip.timeout_ms for slip in first.slips) for first in each], np.int64),
        )


def ending(route: RoutePolicy, band: str, agent_id: str, reason: str) -> Ending:
    """Rule R10: what the answer of a single agent is worth."""
    if band == FALLBACK:
        return Ending("DEGRADED", ResultReason.LOW_CONFIDENCE)
    if agent_id == route.fallback_agent and agent_id not in route.agents:
        return Ending("DEGRADED", ResultReason.FALLBACK_AGENT)
    if reason == DispatchReason.BREAKER_FLOOR:
        return Ending("DEGRADED", ResultReason.BREAKER_FLOOR)
    return Ending("COMPLETED", ResultReason.ANSWERED)


class Departures:
    """What is decided about tasks of each kind in one turn, by cells that see the same breakers; none sends a probe.

    By kind: `goes`, whether its tasks are sent to agents at all; `unstated_ms`, the deadline of those that state none;
    `longest_ms`, the longest timeout of the agents that are asked.
    """

    def __init__(self, policy: Policy, availability: Availability, kinds: Sequence[Kind], now_ms: int) -> None:
        self._policy, self._now_ms = policy, now_ms
        self._codes = {name: code for code, name in enumerate(policy.agents)}
        routes = [policy.routes[kind.intent] for kind in kinds]
        unstated = [now_ms + (route.deadline_ms or kind.default_ms) for route, kind in zip(routes, kinds, strict=True)]
        self.plans = [
            None
            if kind.tier == "LOW" and route.low_value_answer is not None
            else plan(policy, availability, route, kind.confidence, kind.tier, deadline_ms)
            for route, kind, deadline_ms in zip(routes, kinds, unstated, strict=True)
        ]
        timeouts = [[policy.agent(agent).timeout_ms for agent in each.first] if each else [0] for each in self.plans]
        self.goes = np.array([each is not None for each in self.plans], np.bool_)
        self.unstated_ms = np.array(unstated, np.int64)
        self.longest_ms = np.array(list(map(max, timeouts)), np.int64)

    def firsts(
        self, kind: npt.NDArray[np.int64], deadline_ms: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.int64], Firsts]:
        """The first dispatches of tasks: a code for each, and what the codes mean. A timeout ends with the deadline."""
        left_ms = np.clip(deadline_ms - self._now_ms, 1, self.longest_ms[kind])
        codes, distinct = factor(kind << _PLACE_BITS | left_ms)
        return codes, Firsts.of(tuple(map(self._first, distinct.tolist())))

    def _first(self, number: int) -> First:
        chosen = self.plans[number >> _PLACE_BITS]
        assert chosen is not None, "the task goes"
        slips = tuple(self._slip(chosen, seat, left_ms=number & _PLACE) for seat in range(len(chosen.first)))
        seats = [*(self._codes[agent] for agent in chosen.first), NOBODY]
        how = ending(chosen.route, chosen.band, chosen.first[0], slips[0].reason)
        return First(chosen, slips, self._voices(chosen), (seats[0], seats[1]), CONSENSUS if chosen.panel else how)

    def _voices(self, chosen: Plan) -> int:
        """Where two are asked and two must agree, nothing is decided before both have answered (rule P)."""
        if not chosen.panel:
            return 1
        weight = sum(self._policy.agent(agent).weight for agent in chosen.panel)
        is_pair = len(chosen.panel) == PAIR == self._policy.topology.consensus.quorum
        return PAIR if is_pair and weight > 0.0 else 0

    def _slip(self, chosen: Plan, seat: int, left_ms: int) -> Slip:
        return Slip(
            agent_id=chosen.first[seat],
            attempt=seat + 1,
            seat=seat,
            stage=WORK,
            intent=chosen.route.intent,
            confidence=chosen.confidence,
            band=chosen.band,
            panel=chosen.panel,
            chain=chosen.chain,
            reason=chosen.reasons[seat],
            route_version=self._policy.version,
            value_tier=chosen.tier,
            attempts=seat + 1,
            cost_microusd=0,
            tokens=0,
            probe_epoch=0,
            timeout_ms=min(self._policy.agent(chosen.first[seat]).timeout_ms, left_ms),
            deadline_default_ms=chosen.deadline_default_ms,
            routed_at=self._now_ms * 1000,
        )


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
        unread = [
            not any(hosts.has_begun(slip.agent_id, self.sent_ms) for slip in first.slips) for first in self.firsts.each
        ]
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
