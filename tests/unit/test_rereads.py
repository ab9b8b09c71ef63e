"""Submissions that are read again after a recovery: what was decided about them is known until they are."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from streams.core.cell import Cell
from streams.core.policy import Policy
from streams.processors.worker import Worker
from streams.transport.batch import TopicPartition
from tests.support.scenes import T0_MS, topology
from tests.unit.test_spill import taken_in

HORIZON_MS = 1_000
LATE_MS = T0_MS + 100 * HORIZON_MS
DONE = ("default", "done")


def recovered(since_ms: int | None = T0_MS) -> Cell:
    cell = Cell(Policy.compile(topology(limits={"duplicate_horizon_ms": HORIZON_MS})), 0)
    cell.reread_ms = since_ms
    cell.finished.add(DONE, T0_MS + 1, ())
    return cell


def test_a_task_that_has_ended_is_known_until_its_submission_is_read_again() -> None:
    cell = recovered()
    cell.tick(LATE_MS)
    taken_in(cell, [{"task_id": "other"}], now_ms=LATE_MS)
    assert DONE in cell.finished
    cell.reread_ms = None
    cell.tick(LATE_MS)
    assert DONE not in cell.finished


def test_without_submissions_to_read_again_it_is_forgotten_in_time() -> None:
    cell = recovered(None)
    cell.tick(T0_MS + 1 + HORIZON_MS)
    assert DONE in cell.finished
    cell.tick(T0_MS + 2 + HORIZON_MS)
    assert DONE not in cell.finished


def test_no_cut_is_behind_facts_about_submissions_that_it_does_not_cover() -> None:
    """Else who recovers from it reads none of them, and decides anew."""
    cell = recovered()
    assert cell.low_watermark() == T0_MS
    taken_in(cell, [{"task_id": "a"}])  # appended at T0
    cell.reread_ms = T0_MS - 7
    assert cell.low_watermark() == T0_MS - 7
    cell.reread_ms = T0_MS + 7
    assert cell.low_watermark() == T0_MS
    cell.reread_ms = 0  # of a cut that says nothing
    assert cell.low_watermark() == 0
    cell.reread_ms = None
    assert cell.low_watermark() == T0_MS


def test_they_are_read_once_the_position_is_where_the_log_ended() -> None:
    cell, tp = recovered(), TopicPartition("tasks.submitted.v1", 0)
    cuts = SimpleNamespace(positions={tp: 4})
    worker: Any = SimpleNamespace(
        _topics=topology().topics(), _cuts=cuts, _rereads_until={0: 5}, _cells={0: cell}, _clock=lambda: LATE_MS
    )
    Worker._end_rereads(worker)
    assert Worker._low_watermarks(worker, [0]) == {0: T0_MS}
    cuts.positions[tp] = 5
    Worker._end_rereads(worker)
    assert worker._rereads_until == {}
    assert Worker._low_watermarks(worker, [0]) == {0: LATE_MS}
    cell.reread_ms = 0
    assert Worker._low_watermarks(worker, [0]) == {0: 0}
