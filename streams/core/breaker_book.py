"""What a breaker remembers of the counts that came in lately.

Its size is bounded by the partitions and by the tenths of one window. I/O: none.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

SLOTS = 10


class Health(NamedTuple):
    """What one partition saw of the agent in one window: the Avro record HealthCounts."""

    partition: int
    window_id: int
    successes: int = 0
    failures: int = 0
    slow: int = 0
    leading_failures: int = 0
    trailing_failures: int = 0
    demand: int = 0
    probe_epoch: int = 0
    probe_successes: int = 0
    probe_failures: int = 0


class Tally(NamedTuple):
    """Outcomes of one slot of the window."""

    successes: int = 0
    failures: int = 0
    slow: int = 0

    def plus(self, health: Health) -> Tally:
        return Tally(self.successes + health.successes, self.failures + health.failures, self.slow + health.slow)


@dataclass(frozen=True, slots=True)
class Book:
    """What was counted lately; the mappings are never changed once they stand here.

    `seen`: the last window_id of each partition. `slots`: outcomes since the breaker closed, by tenths of the window.
    `runs`: failures in a row, by partition. `demand`: when a partition last wanted the agent. `passes`: (epoch,
    partition) of the probes that succeeded since the open time ended at epoch `episode`.
    """

    seen: Mapping[int, int] = field(default_factory=dict)
    slots: Mapping[int, Tally] = field(default_factory=dict)
    runs: Mapping[int, int] = field(default_factory=dict)
    demand: Mapping[int, int] = field(default_factory=dict)
    passes: frozenset[tuple[int, int]] = frozenset()
    episode: int = 0

    def forget_outcomes(self, episode: int) -> Book:
        """For a new phase: outcomes of the last one are judged; who was seen, and who wants the agent, stays."""
        return Book(seen=self.seen, demand=self.demand, episode=episode)


class Findings(NamedTuple):
    """What new counts say beyond what the book keeps of them."""

    longest_run: int
    probe_failed: bool


def take_in(
    book: Book, counts: Iterable[Health], now_ms: int, window_ms: int, *, counted_from_ms: int | None, epoch: int
) -> tuple[Book, Findings]:
    """The book with the counts in it, and without what has left the window.

    Outcomes count from `counted_from_ms` on; None while the breaker is not closed. `epoch` is that of the last probes
    granted; -1 while there are none. Counts outside of the window, and those that are not later than the last ones of
    their partition, are dropped; but a probe counts however late it is reported, within its half-open time.
    """
    slot_ms = max(window_ms // SLOTS, 1)
    oldest = (now_ms - window_ms) // slot_ms
    slots = {slot: each for slot, each in book.slots.items() if slot > oldest}
    demand = {partition: at for partition, at in book.demand.items() if at > now_ms - window_ms}
    seen, runs, passes, longest_run, probe_failed = dict(book.seen), dict(book.runs), set(book.passes), 0, False
    for health in counts:
        partition, at = health.partition, health.window_id
        if book.episode <= health.probe_epoch <= epoch:
            probe_failed = probe_failed or health.probe_failures > 0
            if health.probe_successes > 0:
                passes.add((health.probe_epoch, partition))
        if not max(now_ms - window_ms, seen.get(partition, at - 1)) < at <= now_ms + window_ms:
            continue
        seen[partition] = at
        if health.demand > 0:
            demand[partition] = now_ms
        if counted_from_ms is not None and at >= counted_from_ms:
            before = runs.get(partition, 0)
            longest_run = max(longest_run, before + health.leading_failures, health.trailing_failures)
            runs[partition] = health.trailing_failures if health.successes else before + health.failures
            if at // slot_ms > oldest:  # the tenth that the window's edge runs through counts as gone
                slots[at // slot_ms] = slots.get(at // slot_ms, Tally()).plus(health)
    after = Book(seen, slots, runs, demand, frozenset(passes), book.episode)
    return after, Findings(longest_run, probe_failed)
