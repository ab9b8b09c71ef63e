"""How long after a fault agents' answers flow again, as the results themselves tell.

A partition flows again with the first COMPLETED result of a task that was meant to be sent after the fault was over: a
fleet whose hosts do nothing any more still gives results, of tasks that ran out of time. A fault that the deployment
mends by itself (a process was killed) counts from its injection, or from when the broker is back. The slowest partition
is the measure, and times are those at which the broker appended the results. What concerns the history alone has
recovered when the store has committed all that stood in the topics when the fault was over; nor does time count for it
in which another fault keeps ClickHouse from the store. I/O: none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from console.chaos.kinds import KINDS
from console.chaos.schedule import Due

# Faults of agents and of records interrupt nothing: there is nothing to recover from.
UNMEASURED = frozenset({"corrupt", "agent-slow", "agent-fails", "agent-hangs", "agent-unsure", "agent-wrong"})
HISTORY = frozenset({"store", "clickhouse"})
_NEEDED = frozenset({"broker"})
"""While these are away, nothing recovers."""
_NEEDED_BY_HISTORY = frozenset({"broker", "clickhouse"})
_SLOWS = "delay"  # who is slow is there


@dataclass(frozen=True, slots=True)
class Results:
    """Columns of the results topic. Times are in milliseconds since the epoch; `meant_ms`: when the task was due.

    `completed`: whether an agent, or a rule, has answered. `by_status`: how many there are of each status.
    """

    partitions: npt.NDArray[np.int32]
    appended_ms: npt.NDArray[np.int64]
    meant_ms: npt.NDArray[np.int64]
    completed: npt.NDArray[np.bool_]
    by_status: Counter[str] = field(default_factory=Counter)

    @property
    def latencies_ms(self) -> npt.NDArray[np.int64]:
        return self.appended_ms - self.meant_ms


@dataclass(slots=True)
class Injected:
    """A fault that was done: when, and when it was over. `history_s`: how long the store took to catch up."""

    due: Due
    injected_ms: int
    healed_ms: int | None = None
    history_s: float | None = None

    @property
    def kind(self) -> str:
        return self.due.kind

    @property
    def over_ms(self) -> int:
        """When it was over; of what nobody has to mend, when it was done."""
        return self.injected_ms if self.healed_ms is None else self.healed_ms

    @property
    def since_ms(self) -> int:
        """From when on its recovery counts."""
        return self.injected_ms if KINDS[self.due.step.fault].since_start else self.over_ms


def since_ms(injected: Injected, every: Sequence[Injected]) -> int:
    """From when on its recovery counts, given all faults of the run: while the broker is away nothing recovers."""
    since = injected.since_ms
    for each in sorted(every, key=lambda each: each.injected_ms):
        if each is not injected and each.due.on == "broker" and each.injected_ms <= since <= (each.healed_ms or 0):
            since = each.healed_ms or since
    return since


def recovery_s(injected: Injected, results: Results, every: Sequence[Injected] = ()) -> float | None:
    """None where it is not measured: nothing was interrupted, or nothing was sent afterwards.

    Time in which other faults kept the broker away does not count, wherever it falls, nor, for the history, such in
    which they kept ClickHouse away. All other faults that came before this one had recovered do (`overlapping`): nobody
    could tell apart what each of them cost.
    """
    since = since_ms(injected, every)
    if injected.kind in UNMEASURED:
        return None
    if injected.due.on in HISTORY:
        return None if injected.history_s is None else _history_s(injected, every, injected.history_s)
    until = _answered_ms(results, since)
    if until is None:
        return None
    return max(0.0, (until - since - _away_ms(injected, every, since, until, _NEEDED)) / 1000)


def _history_s(injected: Injected, every: Sequence[Injected], took_s: float) -> float:
    """The store's way to where the topics ended when the fault was over, `took_s` long."""
    until = injected.over_ms + round(took_s * 1000)
    return max(0.0, took_s - _away_ms(injected, every, injected.over_ms, until, _NEEDED_BY_HISTORY) / 1000)


def overlapping(injected: Injected, results: Results, every: Sequence[Injected]) -> list[Injected]:
    """Faults of the pipeline that came after it was over, and before it had recovered."""
    since = since_ms(injected, every)
    until = _answered_ms(results, since)
    if injected.kind in UNMEASURED or injected.due.on in HISTORY or until is None:
        return []
    others = [each for each in every if each.kind not in UNMEASURED and each.due.on not in HISTORY]
    return [each for each in others if each is not injected and since <= each.injected_ms < until]


def _answered_ms(results: Results, since: int) -> int | None:
    """When the slowest partition answered what was sent from `since` on."""
    after = results.meant_ms >= since
    firsts = [
        _first_answer_ms(results, after & (results.partitions == number))
        for number in np.unique(results.partitions[after]).tolist()
    ]
    return max(firsts, default=None)


def _away_ms(injected: Injected, every: Sequence[Injected], since: int, until: int, needed: Collection[str]) -> int:
    """For how long of this time other faults kept away what is needed, what overlaps counted once."""
    away = 0
    for each in sorted(every, key=lambda each: each.injected_ms):
        if each is not injected and each.due.on in needed and each.kind != _SLOWS:
            began, ended = max(each.injected_ms, since), min(each.healed_ms or until, until)
            away += max(0, ended - began)
            since = max(since, ended)
    return away


def _first_answer_ms(results: Results, of_partition: npt.NDArray[np.bool_]) -> int:
    """Of a partition that has not answered up to the end: when that was, and longer it took."""
    answered = of_partition & results.completed
    return int(results.appended_ms[answered].min() if answered.any() else results.appended_ms[of_partition].max())


def percentiles(values: Iterable[float | None]) -> tuple[float | None, float | None]:
    """p50 and p99 of those that are there, the 99th by nearest rank, so that it is one of them."""
    found: Sequence[float] = [value for value in values if value is not None]
    if not found:
        return None, None
    p50, p99 = np.percentile(found, [50, 99], method="inverted_cdf")
    return round(float(p50), 3), round(float(p99), 3)
