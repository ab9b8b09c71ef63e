"""The commit position of a partition whose records finish out of order."""

import pytest

from agents.tracker import OffsetTracker


def test_nothing_taken_nothing_to_commit() -> None:
    tracker = OffsetTracker()
    assert tracker.position is None
    assert tracker.low_watermark_ms is None


def test_the_first_commit_waits_for_the_first_record() -> None:
    """A tracker that starts at the first finished record would commit past the one before it."""
    tracker = OffsetTracker()
    tracker.take([7, 8], appended_ms=1000)
    tracker.finish(8)
    assert tracker.position == 7
    tracker.finish(7)
    assert tracker.position == 9


def test_an_unfinished_record_holds_all_behind_it() -> None:
    tracker = OffsetTracker()
    tracker.take(range(10), appended_ms=1000)
    tracker.finish_many([0, 1, 2, 4, 5, 6, 7, 8, 9])
    assert (tracker.position, tracker.span) == (3, 7)
    tracker.finish(3)
    assert (tracker.position, tracker.span) == (10, 0)


def test_gaps_in_the_log_do_not_hold_it_up() -> None:
    """A transaction marker or a compacted record leaves a hole that nobody will ever finish."""
    tracker = OffsetTracker()
    tracker.take([3, 5, 9], appended_ms=1000)
    tracker.finish_many([3, 5])
    assert tracker.position == 9
    tracker.finish(9)
    assert tracker.position == 10


def test_finishing_twice_or_what_was_never_taken_changes_nothing() -> None:
    tracker = OffsetTracker()
    tracker.take([0, 1], appended_ms=1000)
    tracker.finish_many([0, 0, 5])
    assert tracker.position == 1
    tracker.take([2, 5], appended_ms=1001)
    tracker.finish_many([1, 2])
    assert tracker.position == 5, "an offset finished before it was taken must not count"


def test_taking_an_offset_again_is_refused() -> None:
    tracker = OffsetTracker()
    tracker.take([4, 5], appended_ms=1000)
    with pytest.raises(ValueError, match="taken before"):
        tracker.take([5], appended_ms=1000)


def test_the_low_watermark_is_that_of_the_batch_with_the_position() -> None:
    tracker = OffsetTracker()
    tracker.take([0, 1], appended_ms=1000)
    tracker.take([2, 3], appended_ms=2000)
    tracker.finish_many([0, 2, 3])
    assert tracker.low_watermark_ms == 1000
    tracker.finish(1)
    assert (tracker.position, tracker.low_watermark_ms) == (4, 2000)


def test_what_was_taken_ends_behind_the_last_record_whatever_is_done_with() -> None:
    assert OffsetTracker().taken_until is None
    tracker = OffsetTracker()
    tracker.take([7, 9], appended_ms=1000)
    assert (tracker.taken_until, tracker.position) == (10, 7)
