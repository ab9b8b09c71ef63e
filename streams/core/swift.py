"""The swift half of a cell: what is the same for most tasks of a batch, in columns.

A new task that is sent to its first agents needs no facts of its own before something is heard of it; it stands in a
cohort (streams/core/cohort.py). A task whose only agent gives a good answer is decided from the event alone: the slip
travels. A panel of two that agrees is decided from its two events (streams/core/pairs.py). Every other row is handed
back, and the cell takes it as it takes any: tests hold both halves against each other. I/O: none.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import numpy.typing as npt

from schemas.ids import fact_id
from schemas.reasons import ResultReason
from streams.core.availability import Blocked
from streams.core.cohort import PAIR, Cohort, Departures, Ending, serial_of, split
from streams.core.effects import Answered, Note
from streams.core.hearing import Hearing
from streams.core.hosts import HostsSeen
from streams.core.intake import UNSTATED_MS, Heard, Intake
from streams.core.pairs import Pairs, agreed
from streams.core.routing import FALLBACK
from streams.core.task import Task, TaskKey

if TYPE_CHECKING:
    from streams.core.cell import Cell

Rows = npt.NDArray[np.int64]
T = TypeVar("T")

ROWS_MIN = 64
"""Of fewer rows columns cost more than they save."""


class Swift:
    """The cohorts of one cell; it shares the cell's tasks, its memory of those that ended, and its health counts."""

    def __init__(self, cell: Cell) -> None:
        self._cell = cell
        self._cohorts: dict[int, Cohort] = {}
        self._pairs = Pairs(cell.policy)
        self._serial = 0

    # ------------------------------------------------------------------ out

    def send_out(self, intake: Intake, rows: Rows, now_ms: int) -> list[int]:
        """Sends out the tasks that are new and go to agents; the rows that are left, none of which dispatches anything.

        With a probe to be sent that is all rows: which task it is depends on those before.
        """
        view = self._cell.availability.view
        if view is None or len(rows) < ROWS_MIN:
            return _list(rows)
        departures = self._departures(intake, view, now_ms)
        kind, stated_ms = intake.kind[rows], intake.deadlines_ms[rows]
        deadlines_ms = np.where(stated_ms == UNSTATED_MS, departures.unstated_ms[kind], stated_ms)
        goes = departures.goes[kind] & (deadlines_ms > now_ms) & ~intake.is_refused[rows]
        goes &= self._is_new(_at(intake.ids, rows))
        if goes.any():
            self._depart(intake, departures, rows[goes], deadlines_ms[goes], now_ms)
        return _list(rows[~goes])

    def _departures(self, intake: Intake, view: Blocked, now_ms: int) -> Departures:
        found = intake.shared.get((view, now_ms))
        if found is None:
            found = Departures(self._cell.policy, self._cell.availability, intake.kinds, now_ms)
            intake.shared[view, now_ms] = found
        assert isinstance(found, Departures)
        return found

    def _is_new(self, ids: Sequence[TaskKey]) -> npt.NDArray[np.bool_]:
        """Which tasks are not known; of those that come twice here, the first."""
        cell = self._cell
        if cell.tasks.keys().isdisjoint(ids) and cell.finished.knows_none_of(ids) and len(set(ids)) == len(ids):
            return np.ones(len(ids), np.bool_)
        seen: set[TaskKey] = set()
        new = []
        for each in ids:
            new.append(each not in seen and each not in cell.tasks and each not in cell.finished)
            seen.add(each)
        return np.array(new, np.bool_)

    def _depart(self, intake: Intake, departures: Departures, rows: Rows, deadlines_ms: Rows, now_ms: int) -> None:
        cell = self._cell
        codes, firsts = departures.firsts(intake.kind[rows], deadlines_ms)
        grace_ms = cell.policy.topology.limits.timeout_grace_ms
        self._serial += 1
        cohort = Cohort(self._serial, intake, rows, codes, firsts, deadlines_ms, now_ms, grace_ms)
        self._cohorts[self._serial] = cohort
        cell.tasks.update(zip(_at(intake.ids, rows), cohort.numbers, strict=True))
        cell.bytes += int(intake.sizes[rows].sum())
        for first, times in zip(firsts, np.bincount(codes, minlength=len(firsts)).tolist(), strict=True):
            for slip in first.slips:
                cell.health.of(slip.agent_id).demand += times
        unsure = np.array([first.plan.band == FALLBACK for first in firsts], np.bool_)[codes]
        effects = cell.machine.decisions.effects
        effects.departed = cohort
        for row, code in zip(rows[unsure].tolist(), codes[unsure].tolist(), strict=True):
            effects.notes.append(_unsure(intake, row, firsts[code].plan.route.intent, now_ms))

    # ------------------------------------------------------------------ back

    def take_answers(self, heard: Heard, rows: Rows, now_ms: int) -> Others:
        """Takes good answers of those who were asked, and ends tasks by them; the outcomes that are left.

        A task of which the batch says anything else is left, too: what counts then depends on the order.
        """
        if not self._cohorts or len(rows) < ROWS_MIN:
            return Others(self._cell, None, rows, rows[:0])
        hearing = heard.hearing(self._cell.policy)
        rows = rows[hearing.is_outcome[rows]]
        held = map(self._cell.tasks.get, _at(heard.ids, rows))
        numbers = np.array([each if type(each) is int else 0 for each in held], np.int64)
        voices, fits = self._fit(hearing, rows, numbers)
        times = _times_said(numbers, fits, hearing.attempt[rows])
        single, pair = np.flatnonzero((voices == 1) & (times == 1)), np.flatnonzero((voices == PAIR) & (times > 0))
        taken = np.zeros(len(rows), np.bool_)
        if len(pair):
            pair = pair[self._pairs.are_new(numbers[pair], hearing.attempt[rows[pair]], times[pair])]
            taken[self._hear_pairs(heard, hearing, rows, numbers, pair, now_ms)] = True
        if len(single):
            self._answer(heard, hearing, rows[single], numbers[single], now_ms)
            taken[single] = True
        return Others(self._cell, hearing, rows[~taken], rows[taken])

    def _fit(self, hearing: Hearing, rows: Rows, numbers: Rows) -> tuple[Rows, npt.NDArray[np.bool_]]:
        """How many voices decide each row's task, and whether the row is one of them."""
        voices, fits = np.zeros(len(rows), np.int64), hearing.is_good[rows].copy()
        attempt = hearing.attempt[rows]
        fits &= (numbers > 0) & (attempt >= 1) & (attempt <= PAIR)
        serials, places = split(numbers)
        for serial in np.unique(serials[numbers > 0]).tolist():
            cohort, own = self._cohorts[serial], np.flatnonzero(serials == serial)
            codes = cohort.codes[places[own]]
            voices[own] = cohort.voices[codes]
            asked = cohort.seats[codes, np.clip(attempt[own], 1, PAIR) - 1]
            fits[own] &= asked == hearing.agent[rows[own]]
        return voices, fits

    def _answer(self, heard: Heard, hearing: Hearing, rows: Rows, numbers: Rows, now_ms: int) -> None:
        ids = _at(heard.ids, rows)
        keys, codes, endings = self._finish(ids, numbers)
        batch = heard.events.batch
        events = zip(batch.column("event_id").take(rows).to_pylist(), strict=True)
        self._cell.finished.add_all(ids, now_ms, events)
        answered = Answered(batch, hearing, rows, keys, codes, endings, now_ms * 1000)
        self._cell.machine.decisions.effects.answered = answered

    def _hear_pairs(
        self, heard: Heard, hearing: Hearing, rows: Rows, numbers: Rows, places: Rows, now_ms: int
    ) -> list[int]:
        """Keeps first voices, and ends the tasks whose second says the same; the places of all these, in order."""
        taken: list[int] = []
        ended: dict[int, TaskKey] = {}
        events: list[tuple[str, str]] = []
        results = self._cell.machine.decisions.effects.results
        outcomes, confidences = heard.outcomes.at(_list(rows[places])), hearing.confidence[rows[places]].tolist()
        for place, outcome, confidence in zip(places.tolist(), outcomes, confidences, strict=True):
            number = int(numbers[place])
            both = self._pairs.hear(number, outcome, confidence)
            if both is not None:
                one, other = both
                if one.vote.key != other.vote.key:
                    continue
                result = agreed(self._of(number), number, one, other, now_ms)
                results.append(result)
                ended[number] = result.id
                events.append((one.outcome.event_id, other.outcome.event_id))
            taken.append(place)
        self._cell.finished.add_all(ended.values(), now_ms, events)
        self._finish(list(ended.values()), np.array(list(ended), np.int64))
        deque(map(self._pairs.forget, ended), maxlen=0)
        return taken

    def _finish(self, ids: list[TaskKey], numbers: Rows) -> tuple[list[bytes], Rows, list[Ending]]:
        """Lets go of tasks: the record key and the ending of each, the latter as a code."""
        keys: list[bytes] = [b""] * len(ids)
        codes, endings = np.zeros(len(ids), np.int64), list[Ending]()
        serials, places = split(numbers)
        for serial in np.unique(serials).tolist():
            cohort, own = self._cohorts[serial], np.flatnonzero(serials == serial)
            origin = cohort.rows[places[own]]
            for place, key in zip(own.tolist(), _at(cohort.intake.keys, origin), strict=True):
                keys[place] = key
            codes[own] = cohort.codes[places[own]] + len(endings)
            endings += [first.ending for first in cohort.firsts]
            self._cell.bytes -= int(cohort.intake.sizes[origin].sum())
            self._leave(cohort, len(own))
        deque(map(self._cell.tasks.__delitem__, ids), maxlen=0)
        return keys, codes, endings

    # ------------------------------------------------------------------ one by one

    def appended_ms(self, number: int) -> int:
        return self._of(number).appended_ms(number)

    def task(self, number: int) -> Task:
        """The facts of a task, as they stand."""
        task = self._of(number).task(number)
        self._pairs.tell(number, task)
        return task

    def single_out(self, number: int) -> Task:
        """The facts of a task that is in a cohort no longer."""
        task = self.task(number)
        self._pairs.forget(number)
        self._leave(self._of(number), 1)
        return task

    def leave_behind(self, now_ms: int, hosts: HostsSeen) -> Iterator[Task]:
        """Takes apart cohorts that have waited for long, or of which a task may be overdue: the tasks left in them, but
        for those that no host has begun yet, which may have to wait for each other's sake."""
        tasks, limits = self._cell.tasks, self._cell.policy.topology.limits
        for cohort in [each for each in self._cohorts.values() if each.due_ms <= now_ms]:
            staying = cohort.unread(hosts, limits.dispatch_wait_ms, now_ms)
            if all(staying):
                continue
            for number, task_id in cohort.still_here(tasks.get):
                if not staying[cohort.code_of(number)]:
                    tasks[task_id] = task = self.single_out(number)
                    yield task

    def _of(self, number: int) -> Cohort:
        return self._cohorts[serial_of(number)]

    def _leave(self, cohort: Cohort, times: int) -> None:
        cohort.left -= times
        if not cohort.left:
            del self._cohorts[cohort.serial]


def _times_said(numbers: Rows, fits: npt.NDArray[np.bool_], attempt: Rows) -> Rows:
    """How many rows speak of each row's task; 0 where one of them does not fit, or two speak of the same attempt."""
    _, task, times = np.unique(numbers, return_inverse=True, return_counts=True)
    fitting, attempts = np.bincount(task, fits), np.bincount(task, np.where(fits, attempt, 0))
    whole = (fitting == times) & ((times == 1) | ((times == PAIR) & (attempts == 1 + PAIR)))
    return np.where(whole, times, 0)[task]


class Others:
    """Events that are taken one by one, and how to count the answers among which they stand; `hearing` judged those.

    A breaker counts failures in a row: so answers are counted in the order in which they were read, too.
    """

    def __init__(self, cell: Cell, hearing: Hearing | None, rows: Rows, answers: Rows) -> None:
        self.rows: list[int] = _list(rows)
        self._health = cell.health
        self._answers: dict[str, _Answers] = {}
        if hearing is None:
            return
        agents = hearing.agent[answers]
        for code in np.unique(agents).tolist():
            own = np.sort(answers[agents == code])
            slow = np.concatenate(([0], np.cumsum(hearing.is_slow[own])))
            self._answers[hearing.names[code]] = _Answers(_list(own), slow.tolist())

    def count_before(self, row: int, agent_id: str) -> None:
        """What the agent had answered before this row."""
        answers = self._answers.get(agent_id)
        if answers is not None:
            self._count(agent_id, answers, bisect_left(answers.rows, row, answers.counted))

    def count_all(self) -> None:
        for agent_id, answers in self._answers.items():
            self._count(agent_id, answers, len(answers.rows))

    def _count(self, agent_id: str, answers: _Answers, upto: int) -> None:
        begun = answers.counted
        if upto > begun:
            self._health.of(agent_id).successes_in_a_row(upto - begun, answers.slow[upto] - answers.slow[begun])
            answers.counted = upto


@dataclass(slots=True)
class _Answers:
    """One agent's good answers: their rows, how many of the first so many were slow, and how many are counted."""

    rows: list[int]
    slow: list[int]
    counted: int = 0


def _unsure(intake: Intake, row: int, intent: str, now_ms: int) -> Note:
    """What machine.begin says of a task that goes to its route's fallback agent."""
    task_id, reason = intake.ids[row], ResultReason.LOW_CONFIDENCE.value
    event_id = fact_id(*task_id, "ESCALATED", reason, "", 0, "UNKNOWN")
    return Note(
        event_id=event_id,
        kind="ESCALATED",
        reason=reason,
        id=task_id,
        key=intake.keys[row],
        identity=intake.identity(row),
        agent_id=None,
        attempt=0,
        seat=0,
        stage="UNKNOWN",
        intent=intent,
        at=now_ms * 1000,
    )


def _at(column: Sequence[T], rows: Rows) -> list[T]:
    """The values of these rows."""
    return [column[row] for row in rows.tolist()]


def _list(rows: Rows) -> list[int]:
    found: list[int] = rows.tolist()
    return found
