"""The tracker against a naive one that keeps every offset it ever saw."""

from hypothesis import given
from hypothesis import strategies as st

from agents.tracker import OffsetTracker


class Naive:
    """Remembers all; the position is computed from nothing but its definition."""

    def __init__(self) -> None:
        self.taken: list[tuple[int, int]] = []
        self.finished: set[int] = set()

    def position(self) -> int | None:
        if not self.taken:
            return None
        unfinished = [offset for offset, _ in self.taken if offset not in self.finished]
        return min(unfinished, default=max(offset for offset, _ in self.taken) + 1)

    def appended_from(self, position: int) -> list[int]:
        return [appended for offset, appended in self.taken if offset >= position]


@given(
    start=st.integers(0, 2**40),
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("take"), st.lists(st.integers(1, 3), min_size=0, max_size=6)),
            st.tuples(st.just("finish"), st.lists(st.integers(0, 40), max_size=8)),
        ),
        max_size=40,
    ),
)
def test_same_position_as_the_naive_one(start: int, steps: list[tuple[str, list[int]]]) -> None:
    tracker, naive = OffsetTracker(), Naive()
    last, clock = start - 1, 0
    for what, numbers in steps:
        if what == "take":
            offsets = []
            for gap in numbers:
                last += gap
                offsets.append(last)
            tracker.take(offsets, clock)
            naive.taken.extend((offset, clock) for offset in offsets)
            clock += 1
        else:
            known = {offset for offset, _ in naive.taken}
            offsets = [start + n for n in numbers if start + n in known]
            tracker.finish_many(offsets)
            naive.finished.update(offsets)
        position = naive.position()
        assert tracker.position == position
        watermark = tracker.low_watermark_ms
        if position is not None:
            assert watermark is not None
            assert all(watermark <= appended for appended in naive.appended_from(position))
            assert tracker.span == sum(1 for offset, _ in naive.taken if offset >= position)
