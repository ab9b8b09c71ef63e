"""The breaker of one agent, for the whole fleet: when it trips, when it asks for probes, when it closes.

`step` is the machine; `TRANSITIONS` is all that can happen to it. The published part of a State is the Avro record
BreakerState; its `book` (what was counted lately) is rebuilt from new counts after a restart. I/O: none.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from math import ceil, log
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from schemas.errors import PointsmanError
from streams.core.breaker_book import Book, Findings, Health, take_in

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from schemas.topology import BreakerPolicy

FOREVER_MS = 253_402_300_799_000
"""The end of the year 9999: when the open time of a breaker that a person tripped ends."""

TRIPS_MAX = 2**31 - 1


class Phase(StrEnum):
    CLOSED = "CLOSED"
    OPEN = "OPEN"
    HALF_OPEN = "HALF_OPEN"


class Cause(StrEnum):
    """Why a breaker changed; the `reason` of its record."""

    CONSECUTIVE_FAILURES = "CONSECUTIVE_FAILURES"
    FAILURE_RATE = "FAILURE_RATE"
    SLOW_RATE = "SLOW_RATE"
    OPEN_TIME_ENDED = "OPEN_TIME_ENDED"
    RESTORED = "RESTORED"  # a write agent is never probed: it is back when its open time ends
    PROBES_MOVED = "PROBES_MOVED"
    PROBE_FAILED = "PROBE_FAILED"
    PROBES_PASSED = "PROBES_PASSED"
    FORCED_TRIP = "FORCED_TRIP"
    FORCED_RESET = "FORCED_RESET"


TRANSITIONS: Mapping[tuple[Phase, Cause], Phase] = {
    (Phase.CLOSED, Cause.CONSECUTIVE_FAILURES): Phase.OPEN,
    (Phase.CLOSED, Cause.FAILURE_RATE): Phase.OPEN,
    (Phase.CLOSED, Cause.SLOW_RATE): Phase.OPEN,
    (Phase.CLOSED, Cause.FORCED_TRIP): Phase.OPEN,
    (Phase.CLOSED, Cause.FORCED_RESET): Phase.CLOSED,
    (Phase.OPEN, Cause.OPEN_TIME_ENDED): Phase.HALF_OPEN,
    (Phase.OPEN, Cause.RESTORED): Phase.CLOSED,
    (Phase.OPEN, Cause.FORCED_TRIP): Phase.OPEN,
    (Phase.OPEN, Cause.FORCED_RESET): Phase.CLOSED,
    (Phase.HALF_OPEN, Cause.PROBES_MOVED): Phase.HALF_OPEN,
    (Phase.HALF_OPEN, Cause.PROBE_FAILED): Phase.OPEN,
    (Phase.HALF_OPEN, Cause.PROBES_PASSED): Phase.CLOSED,
    (Phase.HALF_OPEN, Cause.RESTORED): Phase.CLOSED,
    (Phase.HALF_OPEN, Cause.FORCED_TRIP): Phase.OPEN,
    (Phase.HALF_OPEN, Cause.FORCED_RESET): Phase.CLOSED,
}


class IllegalTransitionError(PointsmanError):
    """The table has no such change; the state stands as it was."""

    def __init__(self, phase: Phase, cause: Cause) -> None:
        self.phase, self.cause = phase, cause
        super().__init__(f"a breaker that is {phase} cannot change by {cause}")


@dataclass(frozen=True, slots=True)
class Policy:
    """`limits` are the topology's; `write` says that calling the agent leaves a mark, so that it is never probed."""

    limits: BreakerPolicy
    write: bool = False


@dataclass(frozen=True, slots=True)
class HealthSeen:
    """Counts came in. They are judged together: what ends within one batch still counts as having happened."""

    counts: tuple[Health, ...]


@dataclass(frozen=True, slots=True)
class Tick:
    """Time passed."""


@dataclass(frozen=True, slots=True)
class Forced:
    """A person trips the breaker, until a person resets it; or resets it."""

    trip: bool


Event: TypeAlias = HealthSeen | Tick | Forced


@dataclass(frozen=True, slots=True)
class State:
    """The fields of the Avro record BreakerState, and the book behind them. Times in milliseconds since the epoch.

    `epoch` grows by one with every change. `since_ms` is when the present epoch began. `until_ms` ends the open time;
    it is 0 where none runs. `probe_partitions` may each send one probe in this epoch. `trips` counts those in a row.
    """

    phase: Phase = Phase.CLOSED
    epoch: int = 0
    reason: str = ""
    since_ms: int = 0
    until_ms: int = 0
    trips: int = 0
    probe_partitions: tuple[int, ...] = ()
    book: Book = field(default_factory=Book)


class Changed(NamedTuple):
    """What to publish: `after` as the agent's breaker; an event where the phase differs."""

    cause: Cause
    before: State
    after: State


def step(policy: Policy, state: State, event: Event, now_ms: int, jitter: float) -> tuple[State, tuple[Changed, ...]]:
    """One event; at most one change comes of it.

    `jitter` is a draw from 0 to 1, used where an open time begins. Dropped are counts that do not lie within the window
    around `now_ms`, and those that are not later than the last ones of their partition: a repeat. Never raises.
    """
    state, findings = _take_in(policy, state, event.counts if isinstance(event, HealthSeen) else (), now_ms)
    if isinstance(event, Forced):
        cause: Cause | None = Cause.FORCED_TRIP if event.trip else Cause.FORCED_RESET
    else:
        cause = _cause(policy, state, now_ms, findings)
    if cause is None:
        return state, ()
    after = change(policy, state, cause, now_ms, jitter)
    return after, (Changed(cause, state, after),)


def change(policy: Policy, state: State, cause: Cause, now_ms: int, jitter: float) -> State:
    """The state after one row of the table. Raises IllegalTransitionError where there is none."""
    phase = TRANSITIONS.get((state.phase, cause))
    if phase is None:
        raise IllegalTransitionError(state.phase, cause)
    after = replace(
        state, phase=phase, epoch=state.epoch + 1, reason=cause, since_ms=now_ms, until_ms=0, probe_partitions=()
    )
    if phase is Phase.OPEN:
        trips = _trips(policy.limits, state, now_ms)
        until_ms = FOREVER_MS if cause is Cause.FORCED_TRIP else now_ms + open_time_ms(policy.limits, trips, jitter)
        return replace(after, trips=trips, until_ms=until_ms, book=state.book.forget_outcomes(after.epoch))
    if phase is Phase.CLOSED:
        # A write agent comes back on trust: what it did before still lengthens its next open time.
        trips = state.trips if cause is Cause.RESTORED else 0
        return replace(after, trips=trips, book=state.book.forget_outcomes(after.epoch))
    book = state.book if state.phase is Phase.HALF_OPEN else state.book.forget_outcomes(after.epoch)
    return replace(after, probe_partitions=_grants(policy.limits, state, now_ms), book=book)


def open_time_ms(limits: BreakerPolicy, trips: int, jitter: float) -> int:
    """How long the `trips`-th trip in a row lasts: growing, spread by the jitter, never above its limit."""
    steps = max(trips - 1, 0)
    if limits.open_growth > 1.0:
        # Growth beyond the limit changes nothing, and would overflow in the end.
        most = max(ceil(log(max(limits.open_ms_max / limits.open_ms, 1.0)) / log(limits.open_growth)), 0)
        steps = min(steps, most)
    longest = min(limits.open_ms * limits.open_growth**steps, limits.open_ms_max)
    return min(round(longest * (1.0 + limits.jitter * (2.0 * jitter - 1.0))), limits.open_ms_max)


def columns(states: Mapping[str, State]) -> dict[str, list[Any]]:
    """Columns of the Avro record BreakerState, one row per agent."""
    return {
        "agent_id": list(states),
        "state": [str(state.phase) for state in states.values()],
        "epoch": [state.epoch for state in states.values()],
        "reason": [state.reason for state in states.values()],
        "since_ms": [state.since_ms for state in states.values()],
        "until_ms": [state.until_ms for state in states.values()],
        "trips": [state.trips for state in states.values()],
        "probe_partitions": [list(state.probe_partitions) for state in states.values()],
    }


def from_row(row: Mapping[str, Any]) -> State:
    """The state that a BreakerState record tells; a phase that this version does not know counts as closed."""
    phase = Phase(row["state"]) if row["state"] in Phase.__members__ else Phase.CLOSED
    return State(
        phase=phase,
        epoch=row["epoch"],
        reason=row["reason"],
        since_ms=row["since_ms"],
        until_ms=row["until_ms"],
        trips=row["trips"],
        probe_partitions=tuple(row["probe_partitions"]),
        book=Book(episode=row["epoch"]),
    )


def _take_in(policy: Policy, state: State, counts: tuple[Health, ...], now_ms: int) -> tuple[State, Findings]:
    # What was seen before the breaker closed was judged before it closed.
    counted_from_ms = state.since_ms if state.phase is Phase.CLOSED else None
    epoch = state.epoch if state.phase is Phase.HALF_OPEN else -1
    book, findings = take_in(
        state.book, counts, now_ms, policy.limits.window_ms, counted_from_ms=counted_from_ms, epoch=epoch
    )
    return replace(state, book=book), findings


def _cause(policy: Policy, state: State, now_ms: int, findings: Findings) -> Cause | None:
    if state.phase is Phase.CLOSED:
        return _trip(policy.limits, state, findings.longest_run)
    if state.phase is Phase.OPEN:
        ended = Cause.RESTORED if policy.write else Cause.OPEN_TIME_ENDED
        return ended if now_ms >= state.until_ms else None
    if policy.write:
        return Cause.RESTORED
    if findings.probe_failed:
        return Cause.PROBE_FAILED
    if len(state.book.passes) >= policy.limits.probes:
        return Cause.PROBES_PASSED
    return Cause.PROBES_MOVED if _probes_are_due(policy.limits, state, now_ms) else None


def _trip(limits: BreakerPolicy, state: State, longest_run: int) -> Cause | None:
    if longest_run >= limits.consecutive_failures:
        return Cause.CONSECUTIVE_FAILURES
    slots = state.book.slots.values()
    failures, slow = sum(each.failures for each in slots), sum(each.slow for each in slots)
    volume = failures + sum(each.successes for each in slots)
    if volume < limits.volume_min:
        return None
    if failures >= limits.failure_rate * volume:
        return Cause.FAILURE_RATE
    return Cause.SLOW_RATE if slow >= limits.slow_rate * volume else None


def _trips(limits: BreakerPolicy, state: State, now_ms: int) -> int:
    """Trips in a row, this one included; a closed time as long as the longest open time ends the row."""
    is_forgotten = state.phase is Phase.CLOSED and now_ms - state.since_ms >= limits.open_ms_max
    return 1 if is_forgotten else min(state.trips + 1, TRIPS_MAX)


def _probes_are_due(limits: BreakerPolicy, state: State, now_ms: int) -> bool:
    """Whether to grant anew: all of this epoch's probes have passed, or there were none, or they are overdue.

    Only where some partition wants the agent: without demand nobody would send them.
    """
    passed = {partition for epoch, partition in state.book.passes if epoch == state.epoch}
    is_overdue = now_ms - state.since_ms >= limits.probe_ttl_ms
    return bool(state.book.demand) and (is_overdue or passed.issuperset(state.probe_partitions))


def _grants(limits: BreakerPolicy, state: State, now_ms: int) -> tuple[int, ...]:
    """Partitions for the probes still wanted: with recent demand, and rather others than those that just had one."""
    recent = [partition for partition, at in state.book.demand.items() if at > now_ms - limits.window_ms]
    wanted = limits.probes if state.phase is Phase.OPEN else limits.probes - len(state.book.passes)
    fresh_first = sorted(recent, key=lambda each: (each in state.probe_partitions, -state.book.demand[each], each))
    return tuple(sorted(fresh_first[:wanted]))
