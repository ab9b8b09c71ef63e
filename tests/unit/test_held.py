"""What waits while its schema is unknown: that record and what follows it in its partition, in order, and no more."""

from __future__ import annotations

import struct
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.transport.batch import TopicPartition
from streams.transport.held import HeldBack
from streams.transport.telemetry import RECORDS_HELD
from tests.support.submissions import TOPIC, Ids, places, records
from tests.support.wire import frame


def test_a_batch_of_known_ids_goes_through_as_it_is() -> None:
    held = HeldBack(Ids())
    given = records(
        (0, 5, frame(9) + b"x"), (1, 7, None), (1, 8, b""), (1, 9, b"{}"), (2, 3, b"\x00\x00"), (2, 4, b"\x01abcdef")
    )
    assert held.admit(given) is given
    assert (held.tps, len(held), held.released(), held.oldest_ms()) == (frozenset(), 0, [], None)


def test_what_follows_an_unknown_id_waits_in_its_partition_alone() -> None:
    ids = Ids()
    held = HeldBack(ids)
    part = held.admit(
        records((0, 5, frame(9)), (1, 7, frame(9)), (0, 6, frame(30)), (0, 7, frame(9)), (1, 8, frame(9)))
    )
    assert places(part) == [(0, 5), (1, 7), (1, 8)]
    assert part is not None
    assert part.ends == {(TOPIC, 0): 5, (TOPIC, 1): 8}
    assert held.tps == {TopicPartition(TOPIC, 0)}
    assert (len(held), RECORDS_HELD._value.get(), held.oldest_ms()) == (2, 2, 6)
    # What was on its way when the partition was paused.
    assert places(held.admit(records((0, 8, frame(9)), (1, 9, b"{}")))) == [(1, 9)]
    assert held.admit(records((0, 9, frame(9)))) is None
    assert held.released() == []
    ids.known = 31
    assert [places(each) for each in held.released()] == [[(0, 6), (0, 7)], [(0, 8)], [(0, 9)]]
    assert (held.tps, len(held), RECORDS_HELD._value.get()) == (frozenset(), 0, 0)


def test_another_unknown_id_behind_it_stops_the_partition_again() -> None:
    ids = Ids()
    held = HeldBack(ids)
    assert held.admit(records((0, 1, frame(20)), (0, 2, frame(9)), (0, 3, frame(40)), (0, 4, frame(9)))) is None
    assert held.admit(records((0, 5, frame(9)))) is None
    ids.known = 21
    [part] = held.released()
    assert (places(part), part.ends) == ([(0, 1), (0, 2)], {(TOPIC, 0): 2})
    assert len(held) == 3
    assert ids.asked[:2] == [20, 40]  # both at once, and not one after the other


def test_what_is_anothers_to_read_is_forgotten() -> None:
    ids = Ids()
    held = HeldBack(ids)
    held.admit(records((0, 1, frame(20)), (1, 1, frame(20))))
    held.drop([(TOPIC, 0), (TOPIC, 7)])
    ids.known = 21
    assert [places(each) for each in held.released()] == [[(1, 1)]]


@given(
    st.lists(st.tuples(st.integers(0, 2), st.sampled_from([9, 20, 30, 40])), min_size=1, max_size=30),
    st.lists(st.integers(1, 5), max_size=8),
    st.permutations([21, 31, 41]),
)
def test_every_record_goes_once_and_in_order_whenever_ids_get_known(
    sent: list[tuple[int, int]], sizes: list[int], steps: list[int]
) -> None:
    ids, gone = Ids(), list[tuple[int, int]]()
    held = HeldBack(ids)
    rows = [(partition, offset, frame(schema_id)) for offset, (partition, schema_id) in enumerate(sent)]
    for size in (*sizes, len(rows)):
        if rows[:size]:
            gone += places(held.admit(records(*rows[:size])))
        rows = rows[size:]
        if steps and size % 2:
            ids.known = max(ids.known, steps.pop())
            for part in held.released():
                gone += places(part)
                assert all(struct.unpack(">I", (value or b"")[1:5])[0] < ids.known for value in part.values)
    ids.known = 50
    for part in held.released():
        gone += places(part)
    assert sorted(gone, key=lambda place: place[1]) == [(partition, at) for at, (partition, _) in enumerate(sent)]
    for partition in {partition for partition, _ in sent}:
        offsets = [offset for number, offset in gone if number == partition]
        assert offsets == sorted(offsets)


def test_an_error_of_the_ids_comes_through() -> None:
    class Failed(Ids):
        def unsettled(self, ids: Iterable[int]) -> set[int]:
            raise RuntimeError("ended")

    with pytest.raises(RuntimeError, match="ended"):
        HeldBack(Failed()).admit(records((0, 1, frame(20))))
