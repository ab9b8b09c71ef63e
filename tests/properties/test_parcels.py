"""Parcels on their way: each record once and in the order of its topic-partition, numbered without a gap."""

from __future__ import annotations

from collections import defaultdict

import pytest
from aiokafka.record.default_records import DefaultRecordBatch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from streams.transport.batch import TopicPartition
from streams.transport.parcels import EPOCH_MAX, REQUEST_BYTES_MAX, SEQUENCES, Parcel, Parcels
from tests.support.examples import examples

ROWS_MAX, BYTES_MAX = 4, 400
TPS = [TopicPartition("a", 0), TopicPartition("a", 1), TopicPartition("b", 0)]
LEADERS = {TPS[0]: 1, TPS[1]: 2, TPS[2]: 1}


class OnTheirWay(RuleBasedStateMachine):
    """What is taken is delivered, put back or given up, in any order; brokers are busy, leaders unknown."""

    def __init__(self) -> None:
        super().__init__()
        self.parcels = Parcels(ROWS_MAX, BYTES_MAX, "none")
        self.under_way: list[Parcel] = []
        self.sent: dict[TopicPartition, list[bytes]] = defaultdict(list)
        self.arrived: dict[TopicPartition, list[bytes]] = defaultdict(list)
        self.numbers: dict[TopicPartition, int] = defaultdict(int)
        self.epochs: dict[TopicPartition, int] = defaultdict(int)
        self.made = 0

    @rule(tp=st.sampled_from(TPS), sizes=st.lists(st.integers(0, 600), min_size=1, max_size=9))
    def add(self, tp: TopicPartition, sizes: list[int]) -> None:
        values = [b"%06d" % (self.made + place) + b"x" * size for place, size in enumerate(sizes)]
        self.made += len(values)
        self.parcels.add(tp, values, None, float(self.made), 1)
        self.sent[tp] += values

    @rule(busy=st.sampled_from([set(), set(), {1}, {2}]), unknown=st.sampled_from([set(), set(), {TPS[0]}]))
    def take(self, busy: set[int], unknown: set[TopicPartition]) -> None:
        found = self.parcels.take(lambda tp: None if tp in unknown else LEADERS[tp], busy)
        assert not found.keys() & busy
        for node, parcels in found.items():
            for parcel in parcels:
                assert LEADERS[parcel.tp] == node
                assert parcel.tp not in unknown
                assert parcel.tp not in {each.tp for each in self.under_way}
                self.under_way.append(parcel)

    @rule(data=st.data())
    def deliver(self, data: st.DataObject) -> None:
        if not self.under_way:
            return
        parcel = data.draw(st.sampled_from(self.under_way))
        self.under_way.remove(parcel)
        batch = DefaultRecordBatch(parcel.data(5, 2))
        assert (batch.producer_id, batch.base_sequence) == (5, self.numbers[parcel.tp])
        assert batch.producer_epoch == 2 + self.epochs[parcel.tp]
        values = [record.value for record in batch]
        assert len(values) == parcel.rows <= ROWS_MAX
        assert len(values) == 1 or parcel.size <= BYTES_MAX
        self.numbers[parcel.tp] += len(values)
        self.arrived[parcel.tp] += values
        self.parcels.delivered([parcel])

    @rule(data=st.data())
    def put_back(self, data: st.DataObject) -> None:
        if self.under_way:
            parcel = data.draw(st.sampled_from(self.under_way))
            self.under_way.remove(parcel)
            before = parcel.data(5, 2)
            self.parcels.put_back([parcel])
            assert parcel.data(5, 2) == before  # a broker knows it by its numbers: it must be the same

    @rule()
    def drop_unsent(self) -> None:
        """What has had its number stays: after it, a gap would be refused."""
        before, dropped = len(self.parcels), self.parcels.drop_unsent()
        assert len(self.parcels) == before - dropped
        for tp, values in self.sent.items():
            kept = len(self.arrived[tp]) + self.numbered(tp)
            del values[kept:]

    @rule()
    def drop_all(self) -> None:
        """What was given up after it was sent leaves an open question, and what follows a new epoch."""
        for tp in TPS:
            if self.numbered(tp):
                self.epochs[tp] += 1
                self.numbers[tp] = 0
            self.sent[tp] = list(self.arrived[tp])
        late, self.under_way = self.under_way, []
        before = len(self.parcels)
        assert self.parcels.drop_all() == before
        for parcel in late:
            assert not self.parcels.is_under_way(parcel)
        self.parcels.put_back(late)
        self.parcels.delivered(late)  # its answer comes when nobody waits for it any more

    def numbered(self, tp: TopicPartition) -> int:
        """Records of it that have a number and are not delivered."""
        waiting = self.parcels._waiting.get(tp, ())
        parcels = [*self.under_way, *waiting]
        return sum(each.rows for each in parcels if each.tp == tp and each.first is not None)

    @invariant()
    def all_is_accounted_for(self) -> None:
        for tp, values in self.arrived.items():
            assert self.sent[tp][: len(values)] == values
        assert len(self.parcels) == sum(map(len, self.sent.values())) - sum(map(len, self.arrived.values()))
        unsent = len(self.parcels) - sum(each.rows for each in self.under_way)
        assert self.parcels.has_unsent == (unsent > 0)
        assert (self.parcels.held[1] > 0) == (len(self.parcels) > 0)

    def teardown(self) -> None:
        self.parcels.drop_all()
        assert self.parcels.held == (0, 0)
        assert not self.parcels.has_unsent


TestOnTheirWay = OnTheirWay.TestCase
TestOnTheirWay.settings = examples(300)


def test_a_request_has_its_bounds_and_nobody_waits_behind_those_that_have_much() -> None:
    parcels, tps = Parcels(10, 1 << 20, "none"), [TopicPartition("a", number) for number in range(20)]
    for tp in tps:
        for number in range(6):
            parcels.add(tp, [b"%d" % number + b"x" * 1_000_000], None, 0.0, 1)
            parcels.add(tp, [b"y" * 100_000], None, 0.0, 1)  # does not fit into the same parcel
    first = [parcel for _ in range(3) for parcel in taken(parcels)]
    assert {parcel.tp for parcel in first} == set(tps)
    while len(parcels):
        assert sum(parcel.size for parcel in taken(parcels)) <= REQUEST_BYTES_MAX
    parcels.add(tps[0], [b"x" * 2 * REQUEST_BYTES_MAX], None, 0.0, 1)
    assert len(taken(parcels)) == 1  # whatever its size: whoever takes no record of this size has to say so


def taken(parcels: Parcels) -> list[Parcel]:
    found = [each for group in parcels.take(lambda _: 1, ()).values() for each in group]
    parcels.delivered(found)
    return found


def test_an_epoch_that_is_none_is_no_number() -> None:
    parcels = Parcels(ROWS_MAX, BYTES_MAX, "none")
    parcels._epochs[TPS[0]] = EPOCH_MAX
    parcels.add(TPS[0], [b"a"], None, 0.0, 1)
    ((parcel,),) = parcels.take(lambda _: 1, ()).values()
    with pytest.raises(OverflowError, match="epochs"):
        parcel.data(5, 1)


@given(rows=st.integers(1, 4))
def test_numbers_begin_anew_behind_the_last_one(rows: int) -> None:
    """As Java's DefaultRecordBatch.incrementSequence: 2^31 - 1 is followed by nought."""
    tp, parcels = TPS[0], Parcels(ROWS_MAX, BYTES_MAX, "none")
    parcels._next[tp] = SEQUENCES - 1
    for expected in (SEQUENCES - 1, rows - 1):
        parcels.add(tp, [b"a"] * rows, None, 0.0, 1)
        ((parcel,),) = parcels.take(lambda _: 1, ()).values()
        assert parcel.first == expected
        parcels.delivered([parcel])
