"""When time-outs may be told: never while outcomes may lie unread."""

from __future__ import annotations

from streams.processors.frontier import FRESH_MS, LAGGING_MS, Frontier
from streams.transport.batch import TopicPartition

LOG = TopicPartition("agents.a.events.v1", 0)
T0 = 1_700_000_000_000


def test_there_is_no_time_before_the_logs_are_read_to_where_they_ended() -> None:
    frontier = Frontier()
    frontier.fall_behind({LOG: 10})
    assert frontier.time({LOG: 9}, T0) is None
    assert frontier.time({LOG: 10}, T0) == T0
    assert frontier.time({LOG: 9}, T0) == T0, "a target that was reached once is not asked for again"


def test_the_time_of_a_partition_that_lags_is_that_of_what_it_reads() -> None:
    frontier = Frontier()
    frontier.read(T0 - 20, T0)
    assert frontier.time({}, T0) == T0
    frontier.read(T0 + 1_000, T0 + 5_020)
    assert frontier.time({}, T0 + 5_020) == T0 + 1_020


def test_a_lag_that_is_over_ends_when_nothing_more_is_read() -> None:
    frontier = Frontier()
    frontier.read(T0, T0)
    frontier.read(T0, T0 + 5_000)
    assert frontier.time({}, T0 + 5_000 + FRESH_MS) == T0 + 5_000 + FRESH_MS


def test_clocks_that_differ_are_no_lag() -> None:
    frontier = Frontier()
    for at in range(T0, T0 + 1_000, 100):
        frontier.read(at - 7_000, at)
        assert frontier.time({}, at) == at
    frontier.read(T0 - 7_000, T0 + LAGGING_MS + 1)
    assert frontier.time({}, T0 + LAGGING_MS + 1) == T0
