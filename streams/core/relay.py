"""Tasks whose agent has failed and that go on to the next one: they leave their cohorts together for a new one.

The same decision as streams/core/machine.py makes of the same failure. What is not plain is left to it: wrong input, a
write in doubt, the end of a chain, a second failure, and all of a cell that may have a probe to send. I/O: none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas.ids import joined, task_fact_ids
from schemas.reasons import DispatchReason, FailReason
from streams.core.availability import Availability
from streams.core.cohort import ENDINGS, Bodies, First, Firsts, Past, ending, split
from streams.core.effects import Note
from streams.core.hearing import NOBODY
from streams.core.intake import Heard
from streams.core.judge import AGAINST_THE_AGENT, LEAVES_DOUBT, failure_of
from streams.core.policy import Policy
from streams.core.rows import Rows, listed
from streams.core.task import Identity, Slip, TaskKey
from streams.core.told import Span, Told

if TYPE_CHECKING:
    from streams.core.cell import Cell

SECOND = 2
"""The attempt of the agent that is asked when the first has failed."""


def hand_on(cells: Sequence[Cell], heard: Heard, told: Told, places: Rows, now_ms: int) -> tuple[Rows, Rows]:
    """Hands on the tasks of these failures, each the only outcome of a task of which one agent at a time is asked, and
    the first was. The rows of those that were handed on, and which of these count against nobody."""
    failures = _Failures.read(heard.events.batch, told.rows[places])
    relays = _Relays(cells[0].policy, now_ms)
    taken: list[int] = []
    for span, own in told.by_span(places):
        if span.cell.availability.view is not None:
            taken += relays.take(span, told.numbers[places[own]], own.start, failures)
    relays.depart()
    rows = told.rows[places[np.array(taken, np.int64)]]
    is_nobodys = [failures.reasons[at] not in AGAINST_THE_AGENT for at in taken]
    return rows, rows[np.array(is_nobodys, np.bool_)]


@dataclass(frozen=True)
class _Failures:
    """A value per failure."""

    reasons: list[FailReason]
    event_ids: list[str]
    cost: list[int]
    tokens: list[int]

    @classmethod
    def read(cls, batch: pa.RecordBatch, rows: Rows) -> _Failures:
        places = pa.array(rows)
        kinds, classes, event_ids = (
            batch.column(name).take(places).to_pylist() for name in ("kind", "error_class", "event_id")
        )
        cost, tokens_in, tokens_out = (
            batch.column(name).to_numpy()[rows] for name in ("cost_microusd", "tokens_in", "tokens_out")
        )
        reasons = list(map(failure_of, kinds, classes))
        return cls(reasons, event_ids, cost.tolist(), (tokens_in + tokens_out).tolist())


@dataclass
class _Bodies:
    """Rows of several others, as one."""

    ids: list[TaskKey] = field(default_factory=list)
    keys: list[bytes] = field(default_factory=list)
    frames: list[bytes] = field(default_factory=list)
    datums: list[bytes] = field(default_factory=list)
    ahead: int = 0
    appended_ms: list[int] = field(default_factory=list)
    sizes: npt.NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    _origins: list[tuple[Bodies, int]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.ids)

    def add(self, bodies: Bodies, rows: list[int]) -> None:
        self.ids += [bodies.ids[row] for row in rows]
        self.keys += [bodies.keys[row] for row in rows]
        self.frames += [bodies.frames[row] for row in rows]
        self.datums += [bodies.datums[row][bodies.ahead :] for row in rows]
        self.appended_ms += [bodies.appended_ms[row] for row in rows]
        self.sizes = np.concatenate([self.sizes, bodies.sizes[rows]])
        self._origins += [(bodies, row) for row in rows]

    def identity(self, row: int) -> Identity:
        bodies, at = self._origins[row]
        return bodies.identity(at)


class _Relays:
    """The new cohorts of one turn, one for each cell."""

    def __init__(self, policy: Policy, now_ms: int) -> None:
        self._policy, self._now_ms = policy, now_ms
        self._agents = {name: code for code, name in enumerate(policy.agents)}
        self._bodies, self._codes, self._deadlines_ms = _Bodies(), list[int](), list[int]()
        self._firsts: dict[tuple[object, ...], tuple[int, First]] = {}
        self._slips, self._reasons, self._event_ids = list[Slip](), list[FailReason](), list[str]()
        self._cost, self._tokens = list[int](), list[int]()
        self._starts: dict[Cell, int] = {}

    def take(self, span: Span, numbers: Rows, start: int, failures: _Failures) -> list[int]:
        """Takes tasks, whose failures begin at `start`, out of their cohort; the failures of those that it takes."""
        cell, cohort = span.cell, span.cohort
        self._starts.setdefault(cell, len(self._bodies))
        _, places = split(numbers)
        rows, taken = listed(cohort.rows[places]), []
        successors = [_successor(cell.availability, first) for first in cohort.firsts.each]
        columns = zip(listed(cohort.codes[places]), listed(cohort.deadlines_ms[places]), strict=True)
        for at, (code, deadline_ms) in enumerate(columns, start):
            first, successor, reason = cohort.firsts.each[code], successors[code], failures.reasons[at]
            if successor is None or deadline_ms <= self._now_ms or not self._is_plain(first, reason):
                continue
            cost, tokens = failures.cost[at], failures.tokens[at]
            self._codes.append(self._code(first, successor, deadline_ms, cost, tokens))
            self._deadlines_ms.append(deadline_ms)
            self._slips.append(first.slips[0])
            self._reasons.append(reason)
            self._event_ids.append(failures.event_ids[at])
            self._cost.append(cost)
            self._tokens.append(tokens)
            taken.append(at)
        if taken:
            self._bodies.add(cohort.bodies, [rows[at - start] for at in taken])
            cell.cohorts.leave(cohort, len(taken))
        return taken

    def _is_plain(self, first: First, reason: FailReason) -> bool:
        is_in_doubt = reason in LEAVES_DOUBT and self._policy.agent(first.slips[0].agent_id).write
        return reason is not FailReason.WRONG_INPUT and not is_in_doubt

    def _code(self, first: First, successor: str, deadline_ms: int, cost: int, tokens: int) -> int:
        """The place of what is sent now among all of the turn: tasks for which it is the same share it."""
        timeout_ms = min(self._policy.agent(successor).timeout_ms, deadline_ms - self._now_ms)
        key = (id(first), successor, timeout_ms, cost, tokens)  # the cohort keeps `first`, and its address
        known = self._firsts.get(key)
        if known is None:
            next_ = self._next(first, successor, timeout_ms, cost, tokens)
            known = self._firsts[key] = len(self._firsts), next_
        return known[0]

    def _next(self, first: First, successor: str, timeout_ms: int, cost: int, tokens: int) -> First:
        plan, slip = first.plan, first.slips[0]
        sent = slip._replace(
            agent_id=successor,
            attempt=SECOND,
            chain=tuple(each for each in plan.chain if each not in (slip.agent_id, successor)),
            reason=DispatchReason.CASCADE.value,
            route_version=self._policy.version,
            attempts=SECOND,
            cost_microusd=cost,
            tokens=tokens,
            timeout_ms=timeout_ms,
            routed_at=self._now_ms * 1000,
        )
        how = ending(plan.route, plan.band, successor, sent.reason)
        return First(plan, (sent,), 1, (NOBODY, self._agents[successor]), ENDINGS.index(how))

    def depart(self) -> None:
        """Sends them out."""
        firsts = Firsts.of(tuple(first for _, first in self._firsts.values()))
        codes, deadlines_ms = np.array(self._codes, np.int64), np.array(self._deadlines_ms, np.int64)
        cost, tokens = np.array(self._cost, np.int64), np.array(self._tokens, np.int64)
        event_ids = self._note_ids()
        for (cell, start), end in zip(
            self._starts.items(), [*self._starts.values(), len(self._bodies)][1:], strict=True
        ):
            if start == end:
                continue
            own = slice(start, end)
            past = Past(self._slips[own], self._reasons[own], self._event_ids[own], cost[own], tokens[own])
            cohort = cell.cohorts.add(
                self._bodies, np.arange(start, end), codes[own], firsts, deadlines_ms[own], self._now_ms, past
            )
            cell.tasks.update(zip(self._bodies.ids[own], cohort.numbers, strict=True))
            for code, times in Counter(self._codes[own]).items():
                cell.health.of(firsts.each[code].slips[0].agent_id).demand += times
            effects = cell.machine.decisions.effects
            effects.departed = cohort
            effects.notes += [self._note(row, event_ids[row]) for row in range(start, end)]

    def _note_ids(self) -> list[str]:
        rest = cache(lambda agent_id, attempt, stage, reason: joined("CASCADED", reason, agent_id, attempt, stage))
        rests = [
            rest(slip.agent_id, slip.attempt, slip.stage, reason.value)
            for slip, reason in zip(self._slips, self._reasons, strict=True)
        ]
        tenants, task_ids = zip(*self._bodies.ids, strict=True) if rests else ((), ())
        return task_fact_ids(tenants, task_ids, rests)

    def _note(self, row: int, event_id: str) -> Note:
        """What machine.cascade says."""
        slip, bodies = self._slips[row], self._bodies
        return Note(
            event_id,
            "CASCADED",
            self._reasons[row].value,
            bodies.ids[row],
            bodies.keys[row],
            bodies.identity(row),
            slip.agent_id,
            slip.attempt,
            slip.seat,
            slip.stage,
            slip.intent,
            self._now_ms * 1000,
        )


def _successor(availability: Availability, first: First) -> str | None:
    """Who is next in the chain, of which only the first agent was asked; it sends no probe."""
    asked = first.slips[0].agent_id
    return next((each for each in first.plan.chain if each != asked and availability.is_available(each)), None)
