"""When whole record batches are fetched: few, large answers instead of many, at the pace of what is made of them.

I/O: the clock, and Kafka through the fetches.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from streams.transport.batch import TopicPartition
    from streams.transport.fetches import Fetches
    from streams.transport.gathering import Gathering
    from streams.transport.packed import Pack


class Gathered:
    """Reads from `fetches`, between two answers of which it rests as `gathering` says, and asks nothing.

    After a rest it takes what there is by then. Where there is nothing, it waits for the first record, and after
    another rest takes what has come with it, for records come in company: what a turn wrote, in all topic-partitions.
    """

    def __init__(self, fetches: Fetches, gathering: Gathering, rows_max: int) -> None:
        self._fetches, self._gathering, self._rows_max = fetches, gathering, rows_max
        self._held: list[Pack] = []
        self._first: list[Pack] = []
        self._rests_until: float | None = None
        self._waits = False  # for a first record, as long as that takes

    def read(self, timeout_s: float) -> list[Pack]:
        """What there is: at most `rows_max` records, or one pack; nothing where it is not known within `timeout_s`."""
        if all(pack.tp in self._fetches.paused for pack in self._held):
            self._held += self._gather(time.monotonic() + timeout_s)
        return self._part()

    def drop_all(self) -> None:
        """Nothing of what was read is wanted any more."""
        self._held, self._first, self._rests_until, self._waits = [], [], None, False

    def lag(self) -> dict[TopicPartition, int]:
        """Records appended and not given yet, as of the last fetch: nothing is asked."""
        found = self._fetches.lag()
        for pack in (*self._held, *self._first):
            if pack.tp in found:
                found[pack.tp] += pack.rows
        return found

    def _gather(self, until: float) -> list[Pack]:
        while self._has_rested(until):
            left_s = max(0.0, until - time.monotonic())
            found = self._fetches.wait(left_s, at_once=not self._waits)
            if self._first or (found and not self._waits):
                return self._done(found)
            if found:
                self._first, self._waits, self._rests_until = found, False, None
            elif not self._fetches.has_prompt:
                self._waits = True
            if time.monotonic() >= until:
                break
        return []

    def _has_rested(self, until: float) -> bool:
        if self._rests_until is None:
            self._rests_until = time.monotonic() + self._gathering.begin()
        while (now := time.monotonic()) < self._rests_until:
            if now >= until:
                return False
            time.sleep(min(self._rests_until, until) - now)
        if not self._waits:
            self._gathering.rested()
        return True

    def _done(self, found: list[Pack]) -> list[Pack]:
        self._gathering.end()
        first, self._first, self._rests_until = self._first, [], None
        return first + found

    def _part(self) -> list[Pack]:
        """Of what is held as much as one read may bring; of each topic-partition in its order."""
        part: list[Pack] = []
        rest: list[Pack] = []
        rows = 0
        for pack in self._held:
            rests = pack.tp in self._fetches.paused
            if not rests and not (part and rows + pack.rows > self._rows_max):
                part.append(pack)
                rows += pack.rows
            else:
                rest.append(pack)
                rows += 0 if rests else self._rows_max
        self._held = rest
        return part
