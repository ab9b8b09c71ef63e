"""Dispatches to batch agents as columns, from the poll to the log: no object for a row.

What is out of the ordinary (known before, given up, overrun, not answered in form) becomes attempts again, and takes
the way of every other agent: that way is the meaning, this one is quicker. I/O: none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from agents.dispatches import Attempt, Dispatched
from agents.inbox import Inbox
from schemas.runs import changes


class Span(NamedTuple):
    """Rows `start` to `stop` of a batch of dispatches, all of one inbox, with their keys and offsets, and when the
    first and the last of them are overdue."""

    inbox: Inbox
    start: int
    stop: int
    keys: set[bytes]
    offsets: Sequence[int]
    expires_ms: tuple[int, int]

    def part(self, source: Dispatched, start: int, stop: int) -> Span:
        """Rows `start` to `stop` of the batch, which are some of these."""
        if (start, stop) == (self.start, self.stop):
            return self
        expires_ms, first = source.expires_ms()[start:stop], self.start
        ends = int(expires_ms.min()), int(expires_ms.max())
        keys = set(source.slice(source.number, start, stop).attempt_keys())
        return Span(self.inbox, start, stop, keys, self.offsets[start - first : stop - first], ends)


@dataclass(slots=True, eq=False, repr=False)
class Rows:
    """Dispatches of one poll to one batch agent. None of them was met before; all are in hand.

    `expires_ms` is when the first and the last of them are overdue. `pieces` is where they stand in the source: few
    pieces, as a fetch brings the partitions of a topic together.
    """

    source: Dispatched
    spans: Sequence[Span]
    expires_ms: tuple[int, int]
    expand: Callable[[Rows], list[Attempt]]
    pieces: Sequence[tuple[int, int]] = field(init=False)
    _n: int = field(init=False)

    def __post_init__(self) -> None:
        self.pieces = [(start, stop) for _, start, stop in merged((0, span.start, span.stop) for span in self.spans)]
        self._n = sum(stop - start for start, stop in self.pieces)

    def __len__(self) -> int:
        return self._n

    @property
    def inboxes(self) -> set[Inbox]:
        return {span.inbox for span in self.spans}

    def batch_input(self) -> pa.RecordBatch:
        """What their agent is given: the columns of BATCH_INPUT."""
        whole = self.source.batch_input()
        parts = [sliced(whole, start, stop) for start, stop in self.pieces]
        return parts[0] if len(parts) == 1 else pa.concat_batches(parts)

    def attempts(self) -> list[Attempt]:
        """The same, one object a row."""
        return self.expand(self)

    def keys(self) -> Iterator[list[bytes | None]]:
        """Of each span."""
        return (self.source.keys[span.start : span.stop] for span in self.spans)

    def split(self, now_us: int) -> tuple[Rows | None, Rows | None]:
        """Those that are overdue, and the others; None where there are none."""
        overdue = self.source.expires_ms() * 1000 <= now_us
        late: list[Span] = []
        others: list[Span] = []
        for span in self.spans:
            starts = (span.start + np.flatnonzero(changes(overdue[span.start : span.stop]))).tolist()
            for start, stop in pairwise([*starts, span.stop]):
                (late if overdue[start] else others).append(span.part(self.source, start, stop))
        return self._of(late), self._of(others)

    def _of(self, spans: Sequence[Span]) -> Rows | None:
        if not spans:
            return None
        first, last = zip(*(span.expires_ms for span in spans), strict=True)
        return replace(self, spans=spans, expires_ms=(min(first), max(last)))

    def read_late(self) -> npt.NDArray[np.bool_]:
        """Of each whether its time was over when the host read it: that says nothing of the agent."""
        expires_ms = self.source.expires_ms()
        return np.concatenate([expires_ms[start:stop] for start, stop in self.pieces]) <= self.source.read_ms

    def ended(self, at: int) -> None:
        """They have their outcomes; `at` in us."""
        for span in self.spans:
            span.inbox.known.ended_all(span.keys, at)


def merged(pieces: Iterable[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """Pieces (source, start, stop) of sources, those that follow each other as one."""
    found: list[tuple[int, int, int]] = []
    for source, start, stop in pieces:
        if found and found[-1][0] == source and found[-1][2] == start:
            found[-1] = (source, found[-1][1], stop)
        else:
            found.append((source, start, stop))
    return found


def sliced(column: Any, start: int, stop: int) -> Any:
    """Rows of an array or of a record batch; itself, where that is all of it."""
    return column if stop - start == len(column) else column.slice(start, stop - start)
