"""What a batch tells of tasks that are in cohorts, in columns, for all cells of a turn together.

I/O: none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from schemas.runs import changes
from streams.core.cohort import PAIR, Cohort, Past, split
from streams.core.hearing import Hearing
from streams.core.rows import Rows, at, edges, listed, together
from streams.core.task import TaskKey

if TYPE_CHECKING:
    from streams.core.cell import Cell


class Span(NamedTuple):
    """A cohort of a cell, and the place where what is told of its tasks begins."""

    cell: Cell
    cohort: Cohort
    start: int


@dataclass(frozen=True)
class Told:
    """A value per outcome: by cell, then by task, then in the order in which they were read.

    `ends`: where each cell's begin, and where all end; `tasks`: where each task's begin. `origin` is the task's row in
    its intake, `voices` how many decide it, `ending` how (in ENDINGS); `said`, how many outcomes there are of it here.
    `belongs`: the attempt was sent to this agent; `fits`: and the outcome is one of those that decide. `past_cost` and
    `past_tokens` are those of attempts before.
    """

    rows: Rows
    numbers: Rows
    attempt: Rows
    ends: list[int]
    tasks: Rows
    spans: list[Span]
    origin: Rows
    voices: Rows
    ending: Rows
    said: Rows
    belongs: npt.NDArray[np.bool_]
    fits: npt.NDArray[np.bool_]
    past_cost: Rows
    past_tokens: Rows

    @classmethod
    def read(cls, parts: Sequence[tuple[Cell, Rows]], ids: Sequence[TaskKey], hearing: Hearing) -> Told | None:
        """`parts`: cells, and the rows of their outcomes, ascending. None where nothing is told of such a task."""
        found = [_in_cohorts(cell, ids, rows) for cell, rows in parts]
        rows, owner = together([rows for rows, _ in found])
        if not len(rows):
            return None
        numbers = np.concatenate([numbers for _, numbers in found])
        serials, places = split(numbers)
        spans = [
            Span(parts[part][0], parts[part][0].cohorts[serial], start)
            for part, serial, start in _starts(owner, serials)
        ]
        starts = [*(span.start for span in spans), len(rows)]
        pieces = [places[start:end] for start, end in pairwise(starts)]
        codes = _codes(spans, pieces)
        firsts = [span.cohort.firsts for span in spans]
        attempt = hearing.attempt[rows]
        asked = np.concatenate([each.seats for each in firsts])[codes, np.clip(attempt, 1, PAIR) - 1]
        tasks = _changes(owner, numbers)
        said = np.diff(tasks, append=len(rows))
        belongs = (attempt >= 1) & (attempt <= PAIR) & (asked == hearing.agent[rows])
        return cls(
            rows=rows,
            numbers=numbers,
            attempt=attempt,
            ends=edges(owner, len(parts)),
            tasks=tasks,
            spans=spans,
            origin=np.concatenate([span.cohort.rows[piece] for span, piece in zip(spans, pieces, strict=True)]),
            voices=np.concatenate([each.voices for each in firsts])[codes],
            ending=np.concatenate([each.endings for each in firsts])[codes],
            said=np.repeat(said, said),
            belongs=belongs,
            fits=hearing.is_good[rows] & belongs,
            past_cost=_past(spans, pieces, lambda past: past.cost),
            past_tokens=_past(spans, pieces, lambda past: past.tokens),
        )

    def times(self) -> Rows:
        """How many outcomes there are of each one's task; 0 where one does not fit, or two are of the same attempt."""
        times = self.said[self.tasks]
        fitting = np.add.reduceat(self.fits.astype(np.int64), self.tasks)
        attempts = np.add.reduceat(np.where(self.fits, self.attempt, 0), self.tasks)
        whole = (fitting == times) & ((times == 1) | ((times == PAIR) & (attempts == 1 + PAIR)))
        return np.repeat(np.where(whole, times, 0), times)

    def leave(self, places: Rows) -> list[bytes]:
        """Takes tasks, each named once, out of their cohorts; the record key of each."""
        keys: list[bytes] = []
        for span, own in self.by_span(places):
            bodies, origin = span.cohort.bodies, self.origin[places[own]]
            keys += at(bodies.keys, origin)
            span.cell.bytes -= int(bodies.sizes[origin].sum())
            span.cell.cohorts.leave(span.cohort, len(origin))
        return keys

    def by_span(self, places: Rows) -> Iterator[tuple[Span, slice]]:
        """The cohorts in which these are, ascending, and which of them are in which."""
        starts = np.searchsorted(places, [span.start for span in self.spans]).tolist()
        for span, start, end in zip(self.spans, starts, [*starts[1:], len(places)], strict=True):
            if start < end:
                yield span, slice(start, end)

    def events(self, places: Rows, event_ids: Sequence[str]) -> list[tuple[str, ...]]:
        """Of each of these tasks the events that were seen of it, this one the last."""
        seen: list[tuple[str, ...]] = list(zip(event_ids, strict=True))
        for span, own in self.by_span(places):
            if span.cohort.past is not None:
                before = at(span.cohort.past.event_ids, split(self.numbers[places[own]])[1])
                seen[own] = zip(before, event_ids[own], strict=True)
        return seen


def _in_cohorts(cell: Cell, ids: Sequence[TaskKey], rows: Rows) -> tuple[Rows, Rows]:
    """The rows whose tasks are in cohorts, by task, and the numbers of these."""
    held = map(cell.tasks.get, at(ids, rows))
    numbers = np.fromiter([each if type(each) is int else 0 for each in held], np.int64, len(rows))
    order = np.argsort(numbers, kind="stable")
    known = order[np.searchsorted(numbers, 1, sorter=order) :]
    return rows[known], numbers[known]


def _changes(owner: Rows, values: Rows) -> Rows:
    """Where the owner or the value is another than before."""
    return np.flatnonzero(changes(owner) | changes(values))


def _starts(owner: Rows, serials: Rows) -> Iterable[tuple[int, int, int]]:
    """Owner, serial and place where each of a cohort's begin."""
    starts = _changes(owner, serials)
    return zip(listed(owner[starts]), listed(serials[starts]), listed(starts), strict=True)


def _past(spans: Sequence[Span], pieces: Sequence[Rows], column: Callable[[Past], Rows]) -> Rows:
    """A column of attempts before; 0 where there was none."""
    pasts = (span.cohort.past for span in spans)
    return np.concatenate(
        [
            np.zeros(len(piece), np.int64) if past is None else column(past)[piece]
            for past, piece in zip(pasts, pieces, strict=True)
        ]
    )


def _codes(spans: Sequence[Span], pieces: Sequence[Rows]) -> Rows:
    """The first dispatches of tasks, as if those of all cohorts were one list."""
    sizes = [len(span.cohort.firsts.each) for span in spans]
    before = np.cumsum([0, *sizes[:-1]]).tolist()
    return np.concatenate(
        [span.cohort.codes[piece] + shift for span, piece, shift in zip(spans, pieces, before, strict=True)]
    )
