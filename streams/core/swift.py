"""The swift half of a turn: what is the same for most of its tasks, in columns, for all of its cells together.

A new task that is sent to its first agents needs no facts of its own before something is heard of it; it stands in a
cohort (streams/core/cohort.py). One of which nobody is asked needs none at all (streams/core/unasked.py). A task whose
only agent gives a good answer is decided from the event alone: the slip travels; where it fails, the next one is asked
(streams/core/relay.py). A panel of two that agrees is decided from its two events (streams/core/pairs.py). Every other
row is handed back, and the cell takes it as it takes any: tests hold both halves against each other. I/O: none.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from streams.core.availability import Blocked
from streams.core.cohort import PAIR
from streams.core.counting import Answers, by_agent, no_answers
from streams.core.hearing import Hearing
from streams.core.in_columns import Agreed, Answered
from streams.core.intake import UNSTATED_MS, Heard, Intake
from streams.core.openings import Departures
from streams.core.pairs import Chorus, Pairs, are_new, voices
from streams.core.relay import hand_on
from streams.core.rows import Rows, at, edges, listed, together
from streams.core.task import Outcome, TaskKey
from streams.core.told import Told
from streams.core.unasked import escalate, settle

if TYPE_CHECKING:
    from streams.core.cell import Cell

Part: TypeAlias = "tuple[Cell, Rows]"
"""A cell, and its rows of a batch, ascending."""

ROWS_MIN = 64
"""Of fewer rows in a turn columns cost more than they save."""

FAILURES_MIN = 32
"""Of fewer failures likewise, and the cohorts that they make have to be looked at by later turns, too."""


def send_out(parts: Sequence[Part], intake: Intake, now_ms: int) -> list[list[int]]:
    """Sends out the tasks that are new, and ends those of which nobody is asked; the rows that each cell is left with.

    Where a probe is to be sent these are all of its rows: which task it is depends on those before.
    """
    left = [listed(rows) for _, rows in parts]
    alike: dict[Blocked, list[int]] = {}
    for place, (cell, _) in enumerate(parts):
        view = cell.availability.view
        if view is not None:
            alike.setdefault(view, []).append(place)
    for view, places in alike.items():
        own = [parts[place] for place in places]
        if sum(len(rows) for _, rows in own) >= ROWS_MIN:
            for place, rest in zip(places, _send_alike(own, view, intake, now_ms), strict=True):
                left[place] = rest
    return left


def _send_alike(parts: Sequence[Part], view: Blocked, intake: Intake, now_ms: int) -> list[list[int]]:
    """The same for cells that see the same agents blocked."""
    departures = Departures(parts[0][0].openings.of(intake.kinds, view), now_ms)
    rows, owner = together([rows for _, rows in parts])
    kind, stated_ms = intake.kind[rows], intake.deadlines_ms[rows]
    deadlines_ms = np.where(stated_ms == UNSTATED_MS, departures.unstated_ms[kind], stated_ms)
    is_plain = (deadlines_ms > now_ms) & ~intake.is_refused[rows]
    is_plain &= np.concatenate([_are_new(cell, at(intake.ids, own)) for cell, own in parts])
    goes = departures.goes[kind] & is_plain
    ends = ~departures.goes[kind] & is_plain
    if goes.any():
        _depart(parts, intake, departures, rows[goes], owner[goes], deadlines_ms[goes], now_ms)
    if not settle(parts, intake, departures, rows[ends], owner[ends], now_ms):
        ends[:] = False
    unsure = departures.is_unsure[kind] & (goes | ends)
    escalate(parts, intake, rows[unsure], owner[unsure], now_ms)
    stays = ~(goes | ends)
    left = listed(rows[stays])
    return [left[start:end] for start, end in pairwise(edges(owner[stays], len(parts)))]


def _are_new(cell: Cell, ids: Sequence[TaskKey]) -> npt.NDArray[np.bool_]:
    """Which tasks are not known; of those that come twice here, the first."""
    new = np.ones(len(ids), np.bool_)
    if not cell.tasks.keys().isdisjoint(ids) or len(set(ids)) < len(ids):
        seen: set[TaskKey] = set()
        for place, each in enumerate(ids):
            new[place] = each not in seen and each not in cell.tasks
            seen.add(each)
    for place in cell.finished.alike(ids):
        new[place] &= ids[place] not in cell.finished
    return new


def _depart(
    parts: Sequence[Part],
    intake: Intake,
    departures: Departures,
    rows: Rows,
    owner: Rows,
    deadlines_ms: Rows,
    now_ms: int,
) -> None:
    codes, firsts = departures.firsts(intake.kind[rows], deadlines_ms)
    n = len(firsts.each)
    times = np.bincount(owner * n + codes, minlength=len(parts) * n).reshape(-1, n).tolist()
    ids, ends = at(intake.ids, rows), edges(owner, len(parts))
    for (cell, _), demand, (start, end) in zip(parts, times, pairwise(ends), strict=True):
        if start == end:
            continue
        own = slice(start, end)
        cohort = cell.cohorts.add(intake, rows[own], codes[own], firsts, deadlines_ms[own], now_ms)
        cell.tasks.update(zip(ids[own], cohort.numbers, strict=True))
        cell.bytes += int(intake.sizes[rows[own]].sum())
        for first, count in zip(firsts.each, demand, strict=True):
            for slip in first.slips if count else ():
                cell.health.of(slip.agent_id).demand += count
        cell.machine.decisions.effects.departed = cohort


@dataclass(slots=True)
class Others:
    """What a cell has to take one by one: rows, what they say, and the answers among which they stand."""

    rows: list[int]
    outcomes: list[Outcome]
    answers: Answers


def take_answers(parts: Sequence[Part], heard: Heard, now_ms: int) -> list[Others]:
    """Takes good answers of those who were asked, and ends tasks by them; the outcomes that each cell is left with.

    A task of which the batch says anything else is left, too: what counts then depends on the order.
    """
    told = None
    if sum(len(rows) for cell, rows in parts if cell.cohorts) >= ROWS_MIN:
        hearing = heard.hearing(parts[0][0].policy)
        parts = [(cell, rows[hearing.is_outcome[rows]]) for cell, rows in parts]
        told = Told.read(parts, heard.ids, hearing)
    if told is None:
        outcomes = _outcomes(heard, [rows for _, rows in parts])
        return [_others(rows, outcomes, no_answers(cell.health)) for cell, rows in parts]
    times = told.times()
    single = np.flatnonzero((told.voices == 1) & (times == 1))
    pair = np.flatnonzero((told.voices == PAIR) & (times > 0))
    failed = np.flatnonzero(
        (told.voices == 1) & (told.said == 1) & told.belongs & (told.attempt == 1) & hearing.is_failure[told.rows]
    )
    taken = np.zeros(len(heard), np.bool_)
    taken[told.rows[single]] = True
    _answer(parts, heard, hearing, told, single, now_ms)
    taken[_hear_pairs(parts, heard, hearing, told, pair, times, now_ms)] = True
    counts = taken.copy()
    if len(failed) >= FAILURES_MIN:
        handed_on, blameless = hand_on([cell for cell, _ in parts], heard, told, failed, now_ms)
        taken[handed_on] = counts[handed_on] = True
        counts[blameless] = False
    outcomes = _outcomes(heard, [rows[~taken[rows]] for _, rows in parts])
    answers = by_agent(hearing, [rows[counts[rows]] for _, rows in parts], [cell.health for cell, _ in parts])
    return [_others(rows[~taken[rows]], outcomes, own) for (_, rows), own in zip(parts, answers, strict=True)]


def _outcomes(heard: Heard, parts: Sequence[Rows]) -> dict[int, Outcome]:
    """What these rows say, read for all cells at once."""
    rows = [row for part in parts for row in part.tolist()]
    return dict(zip(rows, heard.outcomes.at(rows), strict=True))


def _others(rows: Rows, outcomes: Mapping[int, Outcome], answers: Answers) -> Others:
    left = listed(rows)
    return Others(left, [outcomes[row] for row in left], answers)


def _answer(parts: Sequence[Part], heard: Heard, hearing: Hearing, told: Told, places: Rows, now_ms: int) -> None:
    """Ends the tasks of these answers, each of which decides its own."""
    rows, endings, batch = told.rows[places], told.ending[places], heard.events.batch
    events = told.events(places, batch.column("event_id").take(pa.array(rows)).to_pylist())
    attempts, past_cost, past_tokens = told.attempt[places], told.past_cost[places], told.past_tokens[places]
    for cell, own, keys in _end(parts, heard.ids, told, places, events, now_ms):
        effects = cell.machine.decisions.effects
        effects.answered = Answered(
            batch=batch,
            hearing=hearing,
            rows=rows[own],
            keys=keys,
            endings=endings[own],
            attempts=attempts[own],
            past_cost=past_cost[own],
            past_tokens=past_tokens[own],
            decided_at=now_ms * 1000,
        )


def _end(
    parts: Sequence[Part],
    ids: Sequence[TaskKey],
    told: Told,
    places: Rows,
    events: Sequence[tuple[str, ...]],
    now_ms: int,
) -> Iterator[tuple[Cell, slice, list[bytes]]]:
    """Ends the tasks of these places, each named once: by cell, which of the places are its own, and their keys.

    `events`: of each task, those that were seen of it.
    """
    tasks, keys = at(ids, told.rows[places]), told.leave(places)
    for (cell, _), own in zip(parts, _cut(told, places), strict=True):
        if own.start == own.stop:
            continue
        deque(map(cell.tasks.__delitem__, tasks[own]), maxlen=0)
        cell.finished.add_all(tasks[own], now_ms, events[own])
        yield cell, own, keys[own]


def _hear_pairs(
    parts: Sequence[Part], heard: Heard, hearing: Hearing, told: Told, places: Rows, times: Rows, now_ms: int
) -> Rows:
    """Keeps first voices, and ends the tasks whose second says the same: the rows of all these."""
    pairs = [cell.cohorts.pairs for cell, _ in parts]
    numbers = told.numbers[places]
    spots = np.concatenate([each.spots(numbers[own]) for each, own in zip(pairs, _cut(told, places), strict=True)])
    is_new = are_new(spots, told.attempt[places], times[places])
    places, spots = places[is_new], spots[is_new]
    if not len(places):
        return places
    policy, batch = parts[0][0].policy, heard.events.batch
    now = voices(policy, batch, hearing, told.rows[places])
    own = _cut(told, places)
    first, blocks = _heard_before(pairs, [spots[each] for each in own], now.num_rows)
    chorus = Chorus.of(now, blocks, first, times[places] == PAIR)
    kept = now.take(pa.array(chorus.waiting))
    waiting = places[chorus.waiting]
    for each, mine in zip(pairs, _cut(told, waiting), strict=True):
        each.keep(told.numbers[waiting[mine]], kept.slice(mine.start, mine.stop - mine.start))
    _agree(parts, heard, told, places[chorus.deciding], chorus.voices, now_ms)
    return told.rows[places[chorus.taken]]


def _heard_before(pairs: Sequence[Pairs], spots: Sequence[Rows], known: int) -> tuple[Rows, list[pa.RecordBatch]]:
    """Where the voices in these spots are, one cell's after the other's, in their blocks, counted on from `known`; -1
    where there was none."""
    first, blocks = [], []
    for each, own in zip(pairs, spots, strict=True):
        found, places = each.found(own[own > 0])
        where = np.full(len(own), -1, np.int64)
        where[own > 0] = known + places
        known += sum(block.num_rows for block in found)
        first.append(where)
        blocks += found
    return np.concatenate(first), blocks


def _agree(parts: Sequence[Part], heard: Heard, told: Told, places: Rows, spoken: pa.RecordBatch, now_ms: int) -> None:
    """Ends the tasks of these voices, each of which is its task's second and says the same as the first."""
    rows = told.rows[places]
    seen = spoken.column("event_id").to_pylist()
    events = list(zip(seen[::2], seen[1::2], strict=True))
    for cell, own, keys in _end(parts, heard.ids, told, places, events, now_ms):
        cell.cohorts.pairs.forget_all(listed(told.numbers[places[own]]))
        both = spoken.slice(2 * own.start, 2 * (own.stop - own.start))
        effects = cell.machine.decisions.effects
        effects.agreed = Agreed(cell.policy, heard.events.batch, rows[own], keys, both, now_ms * 1000)


def _cut(told: Told, places: Rows) -> list[slice]:
    """Which of these are each cell's."""
    return [slice(start, end) for start, end in pairwise(listed(np.searchsorted(places, told.ends)))]
