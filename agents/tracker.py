"""Which offset of a partition may be committed, while its records finish in any order.

I/O: none.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence


class OffsetTracker:
    """Gap-free positions of one topic-partition.

    The position never passes a record that was taken and is not finished; offsets that the log skips (transaction
    markers, compacted records) do not hold it up. Cost is constant per record, amortised.
    """

    __slots__ = ("_finished", "_marks", "_next", "_open")

    def __init__(self) -> None:
        self._open: deque[int] = deque()  # taken, in order; finished ones leave as soon as they are the first
        self._finished: set[int] = set()  # finished, and behind an unfinished one
        self._next: int | None = None  # one past the last offset taken
        self._marks: deque[tuple[int, int]] = deque()  # (first offset of a batch, its append time in ms)

    def take(self, offsets: Sequence[int], appended_ms: int) -> None:
        """Records handed out for work, in rising order; `appended_ms` is the append time of the first of them."""
        if not offsets:
            return
        if self._next is not None and offsets[0] < self._next:
            raise ValueError(f"offset {offsets[0]} was taken before; the next one is {self._next} or later")
        self._open.extend(offsets)
        self._next = offsets[-1] + 1
        self._marks.append((offsets[0], appended_ms))

    def finish(self, offset: int) -> None:
        """One record is done with: its outcome is delivered. Finishing it again changes nothing."""
        self.finish_many((offset,))

    def finish_many(self, offsets: Sequence[int]) -> None:
        """As `finish`, for many. Offsets that were never taken here are ignored."""
        waiting, finished = self._open, self._finished
        if not waiting:
            return
        if not finished and len(offsets) == len(waiting) and list(waiting) == offsets:  # all at once, as most are
            waiting.clear()
            return
        first, beyond = waiting[0], waiting[-1] + 1
        finished.update(offset for offset in offsets if first <= offset < beyond)
        while waiting and waiting[0] in finished:
            finished.discard(waiting.popleft())
        if not waiting:
            finished.clear()

    @property
    def position(self) -> int | None:
        """The offset to commit: that of the first unfinished record, else one past the last; None before any."""
        return self._open[0] if self._open else self._next

    @property
    def taken_until(self) -> int | None:
        """One past the last record that was taken; None before any."""
        return self._next

    @property
    def low_watermark_ms(self) -> int | None:
        """A time, in milliseconds, at or before which no record from `position` on was appended; None before any.

        Exact to the batch: the append time of the batch that holds the position.
        """
        position, marks = self.position, self._marks
        if position is None:
            return None
        while len(marks) > 1 and marks[1][0] <= position:
            marks.popleft()
        return marks[0][1]

    @property
    def span(self) -> int:
        """Records taken from the first unfinished one on: what is kept in memory, and repeated after a crash."""
        return len(self._open)
