"""When a topic is paused: more than the share, of at least so many records, of the last ones that were read."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from schemas.dead_share import DeadShares, Exceeded

MIN, SHARE = 200, 0.2


def first(batches: list[tuple[int, int]], records_min: int = MIN, share: float = SHARE) -> int | None:
    """The batch that goes too far."""
    shares = DeadShares(records_min, share)
    for number, (read, dead) in enumerate(batches):
        if shares.seen({"t": read}, {"t": dead}):
            return number
    return None


@pytest.mark.parametrize(
    ("batches", "exceeds"),
    [
        ([(199, 199)], None),
        ([(200, 40)], None),  # the share itself is borne
        ([(200, 41)], 0),
        ([(199, 199), (1, 0)], 1),
        ([(10, 2)] * 19 + [(10, 3)], 19),
        ([(10, 2)] * 100, None),
        ([(1, 1)] * 200, 199),
        # Long ago does not count: what is older than the last 200 is forgotten.
        ([(100, 40), (100, 0), (100, 0), (100, 40), (100, 0), (100, 0)], None),
        ([(100, 40), (100, 0), (100, 40), (100, 2)], 3),
        # Many good records before the first bad one take nothing away from it.
        ([(100_000, 0), (200, 200)], 1),
        ([(20_000, 4_000)], None),
        ([(20_000, 4_001)], 0),
    ],
)
def test_a_topic_is_paused_beyond_the_share_of_the_last_records(
    batches: list[tuple[int, int]], exceeds: int | None
) -> None:
    assert first(batches) == exceeds


def test_each_topic_is_counted_alone_and_says_what_was_seen() -> None:
    shares = DeadShares(MIN, SHARE)
    assert shares.seen({"a": 500, "b": 500}, {"b": 300}) == [Exceeded("b", 500, 300)]
    shares.forget("b")
    assert shares.is_idle
    assert shares.seen({"b": 100}, {"b": 100}) == []
    assert not shares.is_idle


@example([(1, 0), (1, 0), (198, 41)])
@given(st.lists(st.tuples(st.integers(1, 300), st.integers(0, 300)).map(lambda each: (each[0], min(each)))))
def test_it_is_the_share_of_the_shortest_run_of_last_batches_that_is_long_enough(
    batches: list[tuple[int, int]],
) -> None:
    """Against the naive reading: the fewest last batches, since a bad one began it, that are so many records."""
    shares, begun = DeadShares(MIN, SHARE), 0
    for number in range(len(batches)):
        begun = number if shares.is_idle else begun
        read = dead = 0
        for more_read, more_dead in reversed(batches[begun : number + 1]):
            read, dead = read + more_read, dead + more_dead
            if read >= MIN:
                break
        exceeded = shares.seen({"t": batches[number][0]}, {"t": batches[number][1]})
        too_many = read >= MIN and dead > SHARE * read
        assert exceeded == ([Exceeded("t", read, dead)] if too_many else [])


def test_batches_without_a_bad_record_end_the_window() -> None:
    shares = DeadShares(MIN, SHARE)
    shares.seen({"t": 10}, {"t": 1})
    assert not shares.is_idle
    shares.seen({"t": 200}, {})
    assert shares.is_idle
