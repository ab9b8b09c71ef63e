"""What a poll brought, in columns: order, bounds and ends."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.transport.batch import Batch, bounded, by_channel, content_bytes, from_messages, merged
from tests.simulation.wire import Message


def channel_of(topic: str) -> str:
    return topic[0]


PLACES = st.sampled_from([("a1", 0), ("a1", 1), ("a2", 0), ("b1", 1), ("b1", 0)])


def _rows(batch: Batch) -> list[tuple[str, int, int, bytes | None, bytes | None]]:
    columns = batch.topics, batch.partitions.tolist(), batch.offsets.tolist(), batch.values, batch.keys
    return list(zip(*columns, strict=True))


def _messages(places: Sequence[tuple[str, int]], sizes: Sequence[int]) -> list[Message]:
    """Each with a text of its own for its topic, as librdkafka gives them."""
    return [
        Message("".join(topic), partition, at, b"k%d" % at, bytes(size) if size else None, timestamp_ms=1_000 + at)
        for at, ((topic, partition), size) in enumerate(zip(places, sizes, strict=True))
    ]


@given(
    st.lists(st.tuples(PLACES, st.integers(0, 9)), min_size=1, max_size=40),
    st.integers(1, 9) | st.integers(1, 40),
    st.integers(1, 40) | st.just(10**6),
)
def test_what_was_read_is_in_its_channel_in_order_and_within_bounds(
    read: list[tuple[tuple[str, int], int]], rows_max: int, bytes_max: int
) -> None:
    messages = _messages(*zip(*read, strict=True))
    batches = by_channel(messages, channel_of, rows_max=rows_max, bytes_max=bytes_max)
    for place, _ in read:
        of_place = [row for batch in batches for row in _rows(batch) if row[:2] == place]
        assert of_place == [
            (each.topic(), each.partition(), each.offset(), each.value(), each.key())
            for each in messages
            if (each.topic(), each.partition()) == place
        ]
    assert sum(map(len, batches)) == len(messages)
    for batch in batches:
        assert {channel_of(topic) for topic in batch.topics} == {batch.channel}
        assert 0 < len(batch) <= rows_max
        assert len(batch) == 1 or content_bytes(batch) <= bytes_max
        assert batch.timestamps_ms.tolist() == [1_000 + at for at in batch.offsets.tolist()]
        places = [row[:2] for row in _rows(batch)]
        assert batch.ends == {place: row[2] for place, row in zip(places, _rows(batch), strict=True)}
        assert list(batch.ends) == list(dict.fromkeys(places))


@given(
    st.lists(st.tuples(PLACES, st.integers(0, 9)), min_size=1, max_size=40),
    st.integers(1, 9) | st.integers(1, 40),
    st.integers(1, 40) | st.just(10**6),
)
def test_a_batch_is_cut_where_it_is_too_large_and_done_only_with_its_last_part(
    read: list[tuple[tuple[str, int], int]], rows_max: int, bytes_max: int
) -> None:
    whole = from_messages(_messages(*zip(*read, strict=True)), "a")
    whole.ends = {place: end + 7 for place, end in whole.ends.items()}  # behind it the log has a gap
    parts = list(bounded(whole, rows_max, bytes_max))
    assert [row for part in parts for row in _rows(part)] == _rows(whole)
    for part in parts[:-1]:
        assert part.ends == from_rows(part)
    last = parts[-1]
    assert last.ends == {place: whole.ends[place] for place in from_rows(last)}
    for part in parts:
        assert 0 < len(part) <= rows_max
        assert len(part) == 1 or content_bytes(part) <= bytes_max


def from_rows(batch: Batch) -> dict[tuple[str, int], int]:
    return {row[:2]: row[2] for row in _rows(batch)}


@pytest.mark.parametrize("said", [None, [("why", b"because")]])
def test_batches_are_put_together_with_their_headers(said: list[tuple[str, bytes | None]] | None) -> None:
    one = from_messages([Message("a1", 0, 0)], "a")
    other = from_messages([Message("a1", 0, 1, headers=said)], "a", with_headers=said is not None)
    both = merged([one, other])
    assert both.headers == (None if said is None else [[], said])
    assert both.ends == {("a1", 0): 1}


@given(st.lists(PLACES, min_size=1, max_size=30))
def test_the_records_of_a_topic_stand_together(read: list[tuple[str, int]]) -> None:
    """So an agent's dispatches are one piece of the batch."""
    for batch in by_channel(_messages(read, [1] * len(read)), channel_of, rows_max=99, bytes_max=999):
        changes = sum(one != other for one, other in pairwise(batch.topics))
        assert changes == len(set(batch.topics)) - 1


@pytest.mark.parametrize("said", [None, [("why", b"because")]])
def test_headers_are_read_where_they_are_asked_for(said: list[tuple[str, bytes | None]] | None) -> None:
    messages = [Message("a1", 0, 0), Message("a1", 0, 1, headers=said)]
    (batch,) = by_channel(messages, channel_of, rows_max=9, bytes_max=99, with_headers=True)
    assert batch.headers == [[], said or []]
    (bare,) = by_channel(messages, channel_of, rows_max=9, bytes_max=99)
    assert bare.headers is None


def test_records_of_a_topic_share_one_text_of_its_name() -> None:
    messages = _messages([("a1", at % 2) for at in range(6)], [1] * 6)
    assert len({id(each.topic()) for each in messages}) == 6
    [batch] = by_channel(messages, channel_of, rows_max=10, bytes_max=10**6)
    assert len(set(map(id, batch.topics))) == 1


def test_without_records_there_are_no_ends() -> None:
    assert from_messages([], "channel").ends == {}
