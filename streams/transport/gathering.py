"""How long a reader goes on gathering once a record has come: turns are short while little comes, and grow with it.

What a turn costs is fixed for the most part: a produce request for each topic-partition that it writes to, a call of
the codec for each kind of record (docs/cost-model.md). At small rates nothing is gained by waiting; at large ones the
same work in a tenth of the turns costs a third. I/O: none.
"""

from __future__ import annotations

SHORTEST_S = 0.005
BUSY_ROWS_PER_S = 50_000
"""From this rate on a reader gathers for as long as it may; below it, for less in proportion."""


class Gathering:
    """`wait_s` is how long to gather, between SHORTEST_S and `longest_s`; `saw` is told of each poll that read."""

    def __init__(self, longest_s: float) -> None:
        self._longest_s = longest_s
        self._rows_per_s, self._seen_at = 0.0, 0.0

    @property
    def wait_s(self) -> float:
        wanted_s = self._longest_s * self._rows_per_s / BUSY_ROWS_PER_S
        return min(max(wanted_s, SHORTEST_S), self._longest_s)

    def saw(self, records: int, now_s: float) -> None:
        """So many at this time, on a clock that never goes back."""
        lately = records / max(now_s - self._seen_at, SHORTEST_S)
        self._rows_per_s += (lately - self._rows_per_s) / 2
        self._seen_at = now_s
