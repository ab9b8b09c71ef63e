"""The breaker's transcript: what goes in, what comes out, one rule a test."""

from dataclasses import replace
from itertools import product

import pytest

from schemas.topology import BreakerPolicy
from streams.core.breaker import (
    FOREVER_MS,
    TRANSITIONS,
    Cause,
    Changed,
    Event,
    Forced,
    HealthSeen,
    IllegalTransitionError,
    Phase,
    Policy,
    State,
    Tick,
    change,
    columns,
    from_row,
    open_time_ms,
    step,
)
from streams.core.breaker_book import Book, Health

LIMITS = BreakerPolicy()
NOW = 1_700_000_000_000
MIDDLE = 0.5  # this draw leaves an open time as it is


class Fleet:
    """One breaker and its clock; `window` says what a partition saw since the last window."""

    def __init__(self, *, write: bool = False, limits: BreakerPolicy = LIMITS, state: State | None = None) -> None:
        self.policy, self.state, self.now = Policy(limits, write), state or State(), NOW

    def feed(self, event: Event, *, after_ms: int = 0) -> Cause | None:
        self.now += after_ms
        self.state, changes = step(self.policy, self.state, event, self.now, MIDDLE)
        return changes[0].cause if changes else None

    def window(
        self, outcomes: str = "", *, partition: int = 0, after_ms: int = 200, slow: int = 0, demand: int = 1
    ) -> Cause | None:
        self.now += after_ms
        return self.feed(HealthSeen((health(outcomes, partition, self.now, slow=slow, demand=demand),)))

    def probe(self, *, good: bool, partition: int = 0, epoch: int | None = None) -> Cause | None:
        self.now += 200
        epoch = self.state.epoch if epoch is None else epoch
        counts = Health(
            partition, self.now, good, not good, probe_epoch=epoch, probe_successes=good, probe_failures=not good
        )
        return self.feed(HealthSeen((counts,)))

    def trip(self, *, wanted_by: tuple[int, ...] = (0,)) -> None:
        for partition in wanted_by:
            self.window("FFFFF", partition=partition)
        assert self.state.phase is Phase.OPEN

    def half_open(self, *, wanted_by: tuple[int, ...] = (0,)) -> None:
        self.trip()
        self.now = self.state.until_ms - 1000
        for partition in wanted_by:
            self.window(partition=partition)
        assert self.feed(Tick(), after_ms=1000) is Cause.OPEN_TIME_ENDED


def health(outcomes: str, partition: int, window_id: int, *, slow: int = 0, demand: int = 1) -> Health:
    """`outcomes` in order: S is a success, F a failure."""
    assert set(outcomes) <= set("SF")
    return Health(
        partition,
        window_id,
        successes=outcomes.count("S"),
        failures=outcomes.count("F"),
        slow=slow,
        leading_failures=len(outcomes) - len(outcomes.lstrip("F")),
        trailing_failures=len(outcomes) - len(outcomes.rstrip("F")),
        demand=demand,
    )


def test_five_failures_in_a_row_trip() -> None:
    fleet = Fleet()
    assert fleet.window("SFFFF") is None
    assert fleet.window("F") is Cause.CONSECUTIVE_FAILURES
    assert (fleet.state.phase, fleet.state.epoch, fleet.state.trips) == (Phase.OPEN, 1, 1)
    assert fleet.state.reason == "CONSECUTIVE_FAILURES"
    assert fleet.state.since_ms == fleet.now
    assert fleet.state.until_ms == fleet.now + 60_000


def test_a_success_between_breaks_the_row() -> None:
    fleet = Fleet()
    assert [fleet.window(outcomes) for outcomes in ("FFFF", "SFF", "FFS", "FFFFS", "FFFF")] == [None] * 5


def test_a_row_joins_windows_of_failures_only_and_quiet_ones() -> None:
    fleet = Fleet()
    assert [fleet.window(outcomes) for outcomes in ("SF", "FF", "", "F")] == [None] * 4
    assert fleet.window("FS") is Cause.CONSECUTIVE_FAILURES


def test_a_row_is_of_one_partition() -> None:
    fleet = Fleet()
    assert fleet.window("FFFF", partition=0) is None
    assert fleet.window("FFFF", partition=1) is None


def test_half_of_twenty_failed_trips() -> None:
    fleet = Fleet()
    assert fleet.window("SF" * 9) is None  # 18 outcomes are too few
    assert fleet.window("SF", partition=1) is Cause.FAILURE_RATE


def test_less_than_half_failed_does_not_trip() -> None:
    assert Fleet().window("SSF" * 20) is None


def test_what_left_the_window_no_longer_counts() -> None:
    fleet = Fleet()
    assert fleet.window("SF" * 9) is None
    assert fleet.window("SF" * 9, after_ms=10_000) is None


def test_nine_of_ten_slow_trip_though_they_succeed() -> None:
    fleet = Fleet()
    assert fleet.window("S" * 20, slow=17) is None
    assert fleet.window("S" * 10, slow=10) is Cause.SLOW_RATE


def test_a_repeated_count_is_dropped() -> None:
    fleet = Fleet()
    counts = HealthSeen((health("FFF", 0, NOW),))
    assert [fleet.feed(counts, after_ms=100) for _ in range(5)] == [None] * 5
    assert fleet.state.book.runs == {0: 3}


@pytest.mark.parametrize("window_id", [NOW - 10_000, 0, -(2**63), NOW + 10_001, 2**63 - 1])
def test_counts_of_another_time_are_dropped(window_id: int) -> None:
    fleet = Fleet()
    assert fleet.feed(HealthSeen((health("FFFFF", 0, window_id),))) is None
    assert fleet.state == State()


def test_one_batch_is_judged_as_a_whole() -> None:
    fleet = Fleet()
    counts = tuple(health(outcomes, 0, NOW + number) for number, outcomes in enumerate(("FFF", "FF", "S")))
    assert fleet.feed(HealthSeen(counts)) is Cause.CONSECUTIVE_FAILURES


def test_open_ends_by_time_and_grants_probes_where_the_agent_is_wanted() -> None:
    fleet = Fleet()
    fleet.trip()
    fleet.now = fleet.state.until_ms - 600
    for partition in (3, 1, 2):
        assert fleet.window("F" * 9, partition=partition, after_ms=199) is None
    assert fleet.feed(Tick(), after_ms=3) is Cause.OPEN_TIME_ENDED
    assert (fleet.state.phase, fleet.state.epoch) == (Phase.HALF_OPEN, 2)
    assert fleet.state.probe_partitions == (1, 2)  # two probes, to where demand is freshest


def test_all_probes_passed_close() -> None:
    fleet = Fleet()
    fleet.half_open(wanted_by=(0, 1))
    assert fleet.probe(good=True, partition=0) is None
    assert fleet.probe(good=True, partition=1) is Cause.PROBES_PASSED
    assert (fleet.state.phase, fleet.state.trips, fleet.state.until_ms) == (Phase.CLOSED, 0, 0)
    assert fleet.state.probe_partitions == ()


def test_one_failed_probe_opens_for_longer() -> None:
    fleet = Fleet()
    fleet.half_open(wanted_by=(0, 1))
    assert fleet.probe(good=True, partition=0) is None
    assert fleet.probe(good=False, partition=1) is Cause.PROBE_FAILED
    assert (fleet.state.phase, fleet.state.trips) == (Phase.OPEN, 2)
    assert fleet.state.until_ms == fleet.now + 120_000


def test_a_repeated_report_of_one_probe_is_one_pass() -> None:
    fleet = Fleet()
    fleet.half_open(wanted_by=(0, 1))
    assert fleet.probe(good=True, partition=0) is None
    assert fleet.probe(good=True, partition=0) is None
    assert fleet.state.phase is Phase.HALF_OPEN


def test_a_sole_partition_sends_its_probes_one_epoch_after_the_other() -> None:
    fleet = Fleet()
    fleet.half_open()
    assert fleet.state.probe_partitions == (0,)
    assert fleet.probe(good=True) is Cause.PROBES_MOVED
    assert (fleet.state.epoch, fleet.state.probe_partitions) == (3, (0,))
    assert fleet.probe(good=True) is Cause.PROBES_PASSED


def test_without_demand_the_grant_waits_for_it() -> None:
    fleet = Fleet()
    fleet.trip()
    assert fleet.feed(Tick(), after_ms=60_000) is Cause.OPEN_TIME_ENDED
    assert (fleet.state.phase, fleet.state.probe_partitions) == (Phase.HALF_OPEN, ())
    assert fleet.feed(Tick(), after_ms=60_000) is None
    assert fleet.window(partition=2) is Cause.PROBES_MOVED
    assert fleet.state.probe_partitions == (2,)


def test_an_unused_probe_goes_to_another_partition() -> None:
    fleet = Fleet(limits=BreakerPolicy(probes=1))
    fleet.half_open(wanted_by=(0,))
    assert fleet.window(partition=1, after_ms=4_700) is None
    assert fleet.window(partition=0, after_ms=200) is None
    assert fleet.feed(Tick(), after_ms=100) is Cause.PROBES_MOVED
    assert (fleet.state.epoch, fleet.state.probe_partitions) == (3, (1,))


def test_a_probe_of_an_earlier_epoch_of_this_half_open_time_still_counts() -> None:
    """A hung agent times out after its grant moved on: that must reopen, or probes would go on for ever."""
    fleet = Fleet()
    fleet.half_open(wanted_by=(0, 1))
    first = fleet.state.epoch
    fleet.window(partition=0, after_ms=4_900)
    assert fleet.feed(Tick(), after_ms=200) is Cause.PROBES_MOVED
    assert fleet.probe(good=False, partition=1, epoch=first) is Cause.PROBE_FAILED


def test_a_probe_of_an_earlier_half_open_time_is_discarded() -> None:
    fleet = Fleet()
    fleet.half_open()
    old = fleet.state.epoch
    assert fleet.probe(good=False) is Cause.PROBE_FAILED
    fleet.now = fleet.state.until_ms
    assert fleet.feed(Tick()) is Cause.OPEN_TIME_ENDED
    assert fleet.probe(good=False, epoch=old) is None
    assert fleet.state.phase is Phase.HALF_OPEN


def test_other_outcomes_do_not_move_a_breaker_that_is_not_closed() -> None:
    fleet = Fleet()
    fleet.trip()
    assert fleet.window("S" * 100) is None
    assert fleet.feed(Tick(), after_ms=60_000) is Cause.OPEN_TIME_ENDED
    assert fleet.window("F" * 100, demand=0) is None
    assert fleet.state.phase is Phase.HALF_OPEN


def test_what_was_seen_before_it_closed_does_not_trip_it_again() -> None:
    fleet = Fleet(limits=BreakerPolicy(probes=1))
    fleet.half_open()
    failures = health("F" * 50, 1, fleet.now)
    assert fleet.probe(good=True) is Cause.PROBES_PASSED
    assert fleet.feed(HealthSeen((failures,))) is None
    assert fleet.window("FFFFF") is Cause.CONSECUTIVE_FAILURES
    assert fleet.state.trips == 1


def test_a_write_agent_is_never_probed_and_its_open_time_grows_all_the_same() -> None:
    fleet = Fleet(write=True)
    fleet.trip()
    fleet.window(partition=0, after_ms=59_000)
    assert fleet.feed(Tick(), after_ms=1_000) is Cause.RESTORED
    assert (fleet.state.phase, fleet.state.trips) == (Phase.CLOSED, 1)
    fleet.trip()
    assert (fleet.state.trips, fleet.state.until_ms) == (2, fleet.now + 120_000)


def test_a_long_healthy_time_ends_the_row_of_trips() -> None:
    fleet = Fleet(write=True)
    fleet.trip()
    assert fleet.feed(Tick(), after_ms=60_000) is Cause.RESTORED
    fleet.now += LIMITS.open_ms_max
    fleet.trip()
    assert fleet.state.trips == 1


def test_an_agent_that_became_a_write_agent_while_half_open_is_restored() -> None:
    fleet = Fleet()
    fleet.half_open()
    fleet.policy = Policy(LIMITS, write=True)
    assert fleet.feed(Tick()) is Cause.RESTORED


def test_a_person_trips_until_a_person_resets() -> None:
    fleet = Fleet()
    assert fleet.feed(Forced(trip=True)) is Cause.FORCED_TRIP
    assert fleet.state.until_ms == FOREVER_MS
    assert fleet.feed(Tick(), after_ms=365 * 86_400_000) is None
    assert fleet.feed(Forced(trip=False)) is Cause.FORCED_RESET
    assert (fleet.state.phase, fleet.state.trips, fleet.state.until_ms) == (Phase.CLOSED, 0, 0)


@pytest.mark.parametrize(
    ("trips", "jitter", "expected"),
    [
        (1, 0.5, 60_000),
        (1, 0.0, 54_000),
        (1, 1.0, 66_000),
        (2, 0.5, 120_000),
        (4, 0.5, 480_000),
        (5, 0.5, 600_000),
        (5, 0.0, 540_000),
        (5, 1.0, 600_000),
        (2**31 - 1, 0.5, 600_000),
    ],
)
def test_open_time_grows_is_spread_and_bounded(trips: int, jitter: float, expected: int) -> None:
    assert open_time_ms(LIMITS, trips, jitter) == expected


def test_open_time_without_growth_stays() -> None:
    assert open_time_ms(BreakerPolicy(open_growth=1.0), 1_000, 0.5) == 60_000


def test_an_illegal_change_is_named() -> None:
    for phase, cause in product(Phase, Cause):
        if (phase, cause) in TRANSITIONS:
            assert change(Policy(LIMITS), State(phase=phase), cause, NOW, MIDDLE).phase is TRANSITIONS[phase, cause]
        else:
            with pytest.raises(IllegalTransitionError, match=f"{phase} cannot change by {cause}"):
                change(Policy(LIMITS), State(phase=phase), cause, NOW, MIDDLE)


def test_a_change_names_both_sides() -> None:
    after, changes = step(Policy(LIMITS), State(), Forced(trip=True), NOW, MIDDLE)
    assert changes == (Changed(Cause.FORCED_TRIP, State(), after),)


def test_the_record_says_all_but_the_book() -> None:
    fleet = Fleet()
    fleet.half_open(wanted_by=(0, 1))
    rows = columns({"a": fleet.state, "b": State()})
    read = [from_row({name: values[row] for name, values in rows.items()}) for row in range(2)]
    assert rows["agent_id"] == ["a", "b"]
    assert read[0] == replace(fleet.state, book=Book(episode=fleet.state.epoch))
    assert read[1] == State()


def test_a_phase_of_a_newer_version_counts_as_closed() -> None:
    row = {name: values[0] for name, values in columns({"a": State(phase=Phase.OPEN)}).items()}
    assert from_row({**row, "state": "UNKNOWN"}).phase is Phase.CLOSED


def test_a_breaker_read_back_half_open_takes_its_probes() -> None:
    fleet = Fleet()
    fleet.half_open(wanted_by=(0, 1))
    rows = columns({"a": fleet.state})
    restarted = Fleet(state=from_row({name: values[0] for name, values in rows.items()}))
    restarted.now = fleet.now
    assert restarted.probe(good=True, partition=0) is None
    assert restarted.probe(good=True, partition=1) is Cause.PROBES_PASSED
