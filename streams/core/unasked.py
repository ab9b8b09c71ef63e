"""New tasks that end at once, because nobody is asked, and those that are noted because nobody is sure of their intent.

I/O: none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise, repeat
from typing import TYPE_CHECKING

from streams.core.in_columns import Settled, Unsure
from streams.core.intake import Intake
from streams.core.openings import Departures
from streams.core.rows import Rows, at, edges

if TYPE_CHECKING:
    from streams.core.cell import Cell

COLUMNS_MIN = 64
"""Of fewer tasks of the kind in a turn columns cost more than they save."""


def settle(
    parts: Sequence[tuple[Cell, Rows]], intake: Intake, departures: Departures, rows: Rows, owner: Rows, now_ms: int
) -> bool:
    """Ends the tasks of these rows, of which nobody is asked; where they are few it leaves them to their cells.

    `owner`: the place of each row's cell among `parts`.
    """
    if len(rows) < COLUMNS_MIN:
        return False
    endings = [opening.at_once for opening in departures.openings]
    for cell, own in _owned(parts, rows, owner):
        cell.finished.add_all(at(intake.ids, own), now_ms, repeat((), len(own)))
        cell.machine.decisions.effects.settled = Settled(intake, own, endings, now_ms * 1000)
    return True


def escalate(parts: Sequence[tuple[Cell, Rows]], intake: Intake, rows: Rows, owner: Rows, now_ms: int) -> None:
    """Notes that nobody was sure of the tasks of these rows; `owner` as in `settle`."""
    for cell, own in _owned(parts, rows, owner):
        effects, unsure = cell.machine.decisions.effects, Unsure.of(intake, own, now_ms * 1000)
        if len(rows) < COLUMNS_MIN:
            effects.notes += unsure.notes()
        else:
            effects.unsure = unsure


def _owned(parts: Sequence[tuple[Cell, Rows]], rows: Rows, owner: Rows) -> Iterator[tuple[Cell, Rows]]:
    """The cells that have any of these rows, each with its own."""
    for (cell, _), (start, end) in zip(parts, pairwise(edges(owner, len(parts))), strict=True):
        if start < end:
            yield cell, rows[start:end]
