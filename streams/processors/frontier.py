"""How far a partition has read, and what time it is there: an outage must not become a storm of time-outs.

An attempt is overdue when its outcome should have been read by now. While outcomes lie unread in the logs (after a
recovery, an outage, or under a load that is more than the machine can take), that cannot be told. I/O: none.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from streams.core.hosts import Hosts
from streams.transport.batch import TopicPartition

LAGGING_MS = 500
"""Less than this behind is the ordinary rhythm of batches."""

FRESH_MS = 2_000
"""What was read longer ago says nothing about now: there is nothing to read."""


@dataclass(slots=True)
class Frontier:
    """One partition. `targets`: where its logs ended when it fell behind, by what has not been reached yet. `hosts`:
    how far the hosts have read its inboxes."""

    hosts: Hosts = field(default_factory=lambda: Hosts({}))
    targets: dict[TopicPartition, int] = field(default_factory=dict)
    is_first: bool = True
    _read_at_ms: int = 0
    _age_ms: int = 0
    _least_age_ms: int | None = None

    def fall_behind(self, targets: Mapping[TopicPartition, int]) -> None:
        """Until these positions are reached there is no time; the first time-outs after that blame nobody."""
        self.targets, self.is_first = dict(targets), True

    def pass_over(self, topics: Collection[str]) -> None:
        """These are paused: what lies unread in them is not waited for."""
        self.targets = {tp: end for tp, end in self.targets.items() if tp.topic not in topics}

    def read(self, newest_ms: int, now_ms: int) -> None:
        """Events were read, the newest of them appended at `newest_ms` by the broker's clock."""
        self._read_at_ms, self._age_ms = now_ms, now_ms - newest_ms
        # The least age ever seen is what two clocks differ by, and what reading takes.
        if self._least_age_ms is None or self._age_ms < self._least_age_ms:
            self._least_age_ms = self._age_ms

    def time(self, positions: Mapping[TopicPartition, int], now_ms: int) -> int | None:
        """The time up to which outcomes are read, in milliseconds; None while that is not known."""
        if self.targets:
            self.targets = {tp: end for tp, end in self.targets.items() if positions.get(tp, end) < end}
            if self.targets:
                return None
        behind_ms = self._age_ms - (self._least_age_ms or 0)
        if behind_ms > LAGGING_MS and now_ms - self._read_at_ms < FRESH_MS:
            return now_ms - behind_ms
        return now_ms
