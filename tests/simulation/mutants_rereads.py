"""Broken builds of what is read again after a recovery: each forgets too soon what was done with it.

That the low watermark stays before it (`Cell.low_watermark`), no seed of two hundred shows: it takes a second crash in
the moment between. tests/unit/test_rereads.py holds it. I/O: none.
"""

from __future__ import annotations

from collections.abc import Mapping

from streams.core.cell import Cell
from streams.processors.worker import Worker
from tests.simulation.mutant import TWICE, Mutant


def _evicted_by_the_clock(self: Cell, now_ms: int) -> None:
    self.finished.evict(now_ms)


def _read_already(self: Worker) -> None:
    """All that was appended when a partition was recovered counts as read at once."""
    for number in list(self._rereads_until):
        self._cells[number].reread_ms = None
        del self._rereads_until[number]


REREADS: Mapping[str, Mutant] = {
    "what is read again is forgotten by the clock": Mutant(
        "streams.core.cell.Cell.evict", _evicted_by_the_clock, TWICE, "crashes"
    ),
    "what is read again counts as read at once": Mutant(
        "streams.processors.worker.Worker._end_rereads", _read_already, TWICE, "crashes"
    ),
}
