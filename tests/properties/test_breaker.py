"""What holds of the breaker whatever happens to it."""

from collections.abc import Sequence
from itertools import groupby

from hypothesis import example, given
from hypothesis import strategies as st

from schemas.topology import BreakerPolicy
from streams.core.breaker import TRANSITIONS, Event, Forced, HealthSeen, Phase, Policy, State, Tick, step
from streams.core.breaker_book import Health

LIMITS = BreakerPolicy(open_ms=1_000, open_ms_max=4_000, window_ms=2_000, probe_ttl_ms=500, volume_min=4, probes=2)
COUNT = st.integers(0, 6)
HEALTH = st.builds(
    Health,
    partition=st.integers(0, 3),
    window_id=st.integers(-3_000, 60_000),
    successes=COUNT,
    failures=COUNT,
    slow=COUNT,
    leading_failures=COUNT,
    trailing_failures=COUNT,
    demand=st.integers(0, 1),
    probe_epoch=st.integers(0, 20),
    probe_successes=st.integers(0, 1),
    probe_failures=st.integers(0, 1),
)
EVENT: st.SearchStrategy[Event] = st.one_of(
    st.lists(HEALTH, max_size=4).map(lambda counts: HealthSeen(tuple(counts))),
    st.just(Tick()),
    st.builds(Forced, trip=st.booleans()),
)
HISTORY = st.lists(st.tuples(EVENT, st.integers(0, 1_500), st.floats(0.0, 1.0)), max_size=30)
UNFORCED = HISTORY.map(lambda history: [entry for entry in history if not isinstance(entry[0], Forced)])


def moved(event: Event, now_ms: int) -> Event:
    """Window ids are drawn relative to the clock, so that most of them lie within the window."""
    if not isinstance(event, HealthSeen):
        return event
    return HealthSeen(
        tuple(count._replace(window_id=now_ms + count.window_id % 2_500 - 2_400) for count in event.counts)
    )


@given(history=HISTORY, write=st.booleans())
def test_the_machine_keeps_its_promises(history: Sequence[tuple[Event, int, float]], *, write: bool) -> None:
    state, now_ms = State(), 1_000_000
    for event, pause_ms, jitter in history:
        now_ms += pause_ms
        after, changes = step(Policy(LIMITS, write), state, moved(event, now_ms), now_ms, jitter)
        assert after.epoch == state.epoch + len(changes)
        assert len(changes) <= 1
        for change in changes:
            assert TRANSITIONS[change.before.phase, change.cause] is change.after.phase
            assert change.after is after
            assert (after.reason, after.since_ms) == (change.cause, now_ms)
        if not changes:
            assert (after.phase, after.probe_partitions, after.until_ms) == (
                state.phase,
                state.probe_partitions,
                state.until_ms,
            )
        assert len(set(after.probe_partitions)) == len(after.probe_partitions) <= LIMITS.probes
        assert after.phase is Phase.HALF_OPEN or not after.probe_partitions
        assert after.phase is Phase.OPEN or not after.until_ms
        assert not (write and after.phase is Phase.HALF_OPEN)
        assert all(window_id <= now_ms + 2_000 for window_id in after.book.seen.values())
        assert all(now_ms - 2_200 < slot * 200 <= now_ms + 2_000 for slot in after.book.slots)
        state = after


@given(history=UNFORCED)
def test_no_open_time_is_cut_short_or_drawn_out(history: Sequence[tuple[Event, int, float]]) -> None:
    state, now_ms, opened_ms = State(), 1_000_000, 0
    for event, pause_ms, jitter in history:
        now_ms += pause_ms
        after, changes = step(Policy(LIMITS), state, moved(event, now_ms), now_ms, jitter)
        if changes and after.phase is Phase.OPEN:
            opened_ms = now_ms
            assert 900 <= after.until_ms - now_ms <= LIMITS.open_ms_max
        if changes and state.phase is Phase.OPEN:
            assert now_ms - opened_ms >= 900
        state = after


@given(history=HISTORY, write=st.booleans())
@example(history=[(HealthSeen((Health(0, 401),)), 0, 0.0)], write=False)  # in the tenth that the window is leaving
def test_the_same_counts_again_change_nothing(history: Sequence[tuple[Event, int, float]], *, write: bool) -> None:
    policy, state, now_ms = Policy(LIMITS, write), State(), 1_000_000
    for event, pause_ms, jitter in history:
        now_ms += pause_ms
        seen = moved(event, now_ms)
        state, changes = step(policy, state, seen, now_ms, jitter)
        if isinstance(seen, HealthSeen) and not changes:
            assert step(policy, state, seen, now_ms, jitter) == (state, ())


@given(outcomes=st.text("SF", max_size=40), cuts=st.lists(st.integers(1, 5), min_size=1))
def test_a_row_of_failures_is_found_wherever_the_windows_cut_it(outcomes: str, cuts: list[int]) -> None:
    """Windows hold at most five outcomes, so that no row of five hides between two successes of one window."""
    limits = BreakerPolicy(failure_rate=1.0, volume_min=1_000)
    state, now_ms, rest, tripped, number = State(), 1_000_000, outcomes, False, 0
    while rest and not tripped:
        size = cuts[number % len(cuts)]
        part, rest, number, now_ms = rest[:size], rest[size:], number + 1, now_ms + 200
        runs = [(key, len(list(group))) for key, group in groupby(part)]
        counts = Health(
            0,
            now_ms,
            part.count("S"),
            part.count("F"),
            leading_failures=runs[0][1] if runs[0][0] == "F" else 0,
            trailing_failures=runs[-1][1] if runs[-1][0] == "F" else 0,
        )
        state, _ = step(Policy(limits), state, HealthSeen((counts,)), now_ms, 0.5)
        tripped = state.phase is Phase.OPEN
    assert tripped == ("F" * 5 in outcomes)
