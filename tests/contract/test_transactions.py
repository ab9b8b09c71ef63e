"""Transactions as the worker uses them, on both brokers: all of a cut or nothing, whoever else has a say."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import confluent_kafka as ck
import pytest

from schemas.topics import TopicSpec
from streams.transport.admin import ensure_topics
from streams.transport.batch import TopicPartition
from streams.transport.bounded import CLOSE_TIMEOUT_S, close
from streams.transport.clients import NotYetError, TransportError, client_config
from streams.transport.consumer import BatchConsumer
from streams.transport.requests import NO_OFFSET, committed
from streams.transport.transactions import TransactionalProducer, TransactionLostError
from tests.support.brokers import BROKERS, Settings, either, in_process
from tests.support.waiting import leaving, until

# Of a transaction: what a busy machine takes between two calls must not end it.
TIMEOUT_MS = 20_000
WAIT_S = 30.0
UNCOMMITTED = {"isolation.level": "read_uncommitted"}


@pytest.fixture(params=BROKERS)
def broker(request: pytest.FixtureRequest) -> Iterator[str]:
    yield from either(request, __name__)


class Place:
    """A topic, a member of a group that reads it, and whoever looks at what is committed."""

    def __init__(self, broker: str, prefix: str) -> None:
        self.broker, self.topic, self.group = broker, f"{prefix}topic", f"{prefix}group"
        ensure_topics(Settings(broker), [TopicSpec(self.topic, None, 1, "delete", 3_600_000)])
        self._members: list[ck.Consumer] = []

    def member(self, poll_ms_max: int = 120_000) -> ck.Consumer:
        """It is put out of its group when nobody has polled it for so long."""
        config = client_config(Settings(self.broker), None, "consumer", group=self.group)
        member = ck.Consumer({**config, "max.poll.interval.ms": poll_ms_max})
        member.subscribe([self.topic])
        until(lambda: bool(member.consume(1, 0.1) or member.assignment()), WAIT_S)
        self._members.append(member)
        return member

    async def producer(self, name: str = "slot", timeout_ms: int = TIMEOUT_MS) -> TransactionalProducer:
        config = client_config(Settings(self.broker), None, "producer")
        producer = TransactionalProducer(config, f"{self.group}-{name}", timeout_ms)
        await producer.start(lambda: True)
        return producer

    def reader(self, **config: Any) -> BatchConsumer:
        settings = client_config(Settings(self.broker), None, "consumer")
        return BatchConsumer({**settings, **config}, str, rows_max=100, bytes_max=1 << 20, poll_s=0.05)

    def end(self) -> dict[TopicPartition, int]:
        """After the last record, committed or not."""
        reader = self.reader(**UNCOMMITTED)
        try:
            return {tp: high for tp, (_, high) in reader.watermarks([(self.topic, 0)]).items()}
        finally:
            reader.close()

    def values(self) -> list[bytes | None]:
        """What is committed, once everything that was appended by now has come to an end."""
        return self._read(self.end())

    def stable(self) -> list[bytes | None]:
        """What is committed now, before the first record of a transaction that is open."""
        reader = self.reader()
        try:
            marks = reader.watermarks([(self.topic, 0)])
        finally:
            reader.close()
        return self._read({tp: high for tp, (_, high) in marks.items()})

    def _read(self, end: dict[TopicPartition, int]) -> list[bytes | None]:
        reader = self.reader()
        try:
            return [v for batch in reader.read_to_end({(self.topic, 0): 0}, end) for v in batch.values]
        finally:
            reader.close()

    def positions(self) -> tuple[int, str]:
        config = client_config(Settings(self.broker), None, "consumer", group=self.group)
        with leaving(ck.Consumer(config)) as reader:
            return committed(reader, [(self.topic, 0)])[TopicPartition(self.topic, 0)]

    def close(self) -> None:
        for member in self._members:
            close(member, CLOSE_TIMEOUT_S)


@pytest.fixture
def place(broker: str, prefix: str) -> Iterator[Place]:
    place = Place(broker, prefix)
    yield place
    place.close()


@in_process
async def test_output_and_positions_are_committed_together_and_are_not_seen_before(place: Place) -> None:
    membership, producer = place.member().consumer_group_metadata(), await place.producer()
    producer.send(place.topic, 0, [b"a", b"b"])
    producer.send_one(place.topic, b"c", partition=0)
    until(lambda: place.end() == {(place.topic, 0): 3}, WAIT_S)
    reader = place.reader()
    assert producer.has_output
    assert reader.watermarks([(place.topic, 0)]) == {(place.topic, 0): (0, 0)}
    assert place.positions() == (NO_OFFSET, "")
    await producer.commit({(place.topic, 0): (7, "low")}, membership)
    assert not producer.has_output
    assert place.values() == [b"a", b"b", b"c"]
    assert place.positions() == (7, "low")
    await producer.commit({(place.topic, 0): (8, "")}, membership)
    assert place.positions() == (8, "")
    producer.close()
    reader.close()


@in_process
async def test_what_is_sent_while_a_commit_is_under_way_is_of_the_next_transaction(place: Place) -> None:
    membership, producer = place.member().consumer_group_metadata(), await place.producer()
    producer.send(place.topic, 0, [b"first"])
    under_way = asyncio.create_task(producer.commit({(place.topic, 0): (1, "")}, membership))
    await asyncio.sleep(0)
    assert not producer.drained()
    producer.send(place.topic, 0, [b"second"])
    producer.send_one(place.topic, b"third", partition=0)
    producer.poll()
    await under_way
    assert producer.drained()
    assert producer.has_output
    # The broker answers a commit before its marker is in the log.
    until(lambda: place.stable() == [b"first"], WAIT_S)
    await producer.commit({(place.topic, 0): (2, "")}, membership)
    assert place.values() == [b"first", b"second", b"third"]
    producer.send(place.topic, 0, [b"taken back"])
    producer.close()
    assert place.values() == [b"first", b"second", b"third"]


@in_process
async def test_a_member_that_is_out_of_its_group_commits_nothing_and_can_do_nothing_more(place: Place) -> None:
    membership, producer = place.member(6_000).consumer_group_metadata(), await place.producer()
    producer.send(place.topic, 0, [b"never"])
    place.member()  # the first one does not poll any more, and is put out
    with pytest.raises(TransactionLostError, match="did not commit"):
        await producer.commit({(place.topic, 0): (1, "")}, membership)
    for more in (lambda: producer.send(place.topic, 0, [b"never"]), producer.poll, producer.drained):
        with pytest.raises(TransactionLostError):
            more()
    producer.close()
    assert place.values() == []
    assert place.positions() == (NO_OFFSET, "")


@in_process
async def test_who_starts_in_the_same_slot_fences_the_former_and_ends_what_it_left_open(place: Place) -> None:
    membership, former = place.member().consumer_group_metadata(), await place.producer(timeout_ms=60_000)
    former.send(place.topic, 0, [b"never"])
    until(lambda: place.end() == {(place.topic, 0): 1}, WAIT_S)
    began = time.monotonic()
    latter = await place.producer(timeout_ms=60_000)
    assert place.values() == []
    assert time.monotonic() - began < 30, "nobody waited for the time-out"
    with pytest.raises(TransactionLostError):
        await former.commit({(place.topic, 0): (1, "")}, membership)
    latter.send(place.topic, 0, [b"once"])
    await latter.commit({(place.topic, 0): (2, "")}, membership)
    assert (place.values(), place.positions()) == ([b"once"], (2, ""))
    former.close()
    latter.close()


@in_process
async def test_a_transaction_that_nobody_ends_holds_readers_back_until_its_time_is_over(place: Place) -> None:
    membership, dead = place.member().consumer_group_metadata(), await place.producer(timeout_ms=3_000)
    dead.send(place.topic, 0, [b"never"])
    offsets = [ck.TopicPartition(place.topic, 0, 5)]
    await asyncio.to_thread(dead._producer.send_offsets_to_transaction, offsets, membership, 20)
    until(lambda: place.end() == {(place.topic, 0): 1}, WAIT_S)
    with leaving(ck.Consumer(client_config(Settings(place.broker), None, "consumer", group=place.group))) as asking:
        with pytest.raises(NotYetError):
            committed(asking, [(place.topic, 0)], timeout_s=0.5)
        assert place.values() == [], "read to the end, for the broker ended it"
        assert committed(asking, [(place.topic, 0)]) == {(place.topic, 0): (NO_OFFSET, "")}
    with pytest.raises(TransactionLostError):
        await dead.commit({(place.topic, 0): (5, "")}, membership)
    dead.close()


@in_process
async def test_a_call_that_overruns_is_not_waited_for(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.transport.transactions.OVERRUN_S", 0.1)
    producer = await place.producer(timeout_ms=1_000)
    monkeypatch.setattr(producer, "_end", lambda *_: time.sleep(8))
    began = time.monotonic()
    with pytest.raises(TransactionLostError, match="neither well nor badly"):
        await producer.commit({(place.topic, 0): (1, "")}, b"")
    producer.close()
    assert time.monotonic() - began < 7


@in_process
async def test_a_commit_that_is_cancelled_has_an_outcome_that_nobody_knows(place: Place) -> None:
    membership, producer = place.member().consumer_group_metadata(), await place.producer()
    producer.send(place.topic, 0, [b"perhaps"])
    under_way = asyncio.create_task(producer.commit({(place.topic, 0): (1, "")}, membership))
    await asyncio.sleep(0)
    under_way.cancel()
    with pytest.raises(asyncio.CancelledError):
        await under_way
    with pytest.raises(TransactionLostError):
        producer.send(place.topic, 0, [b"never"])
    producer.close()
    # Who comes after it ends it, well or badly; and then both say the same.
    (await place.producer()).close()
    assert (place.values(), place.positions()) in (([], (NO_OFFSET, "")), ([b"perhaps"], (1, "")))


@in_process
async def test_partitions_that_were_lost_take_the_output_with_them(place: Place) -> None:
    producer = await place.producer()
    producer.send(place.topic, 0, [b"never"])
    with pytest.raises(TransactionLostError):
        producer.abandon()
    with pytest.raises(TransactionLostError):
        producer.send(place.topic, 0, [b"never"])
    producer.close()
    assert place.values() == []


async def test_a_broker_that_is_away_is_waited_for_only_while_somebody_wants_it() -> None:
    producer = TransactionalProducer({"bootstrap.servers": "127.0.0.1:1"}, "slot", 3_000)
    began = time.monotonic()
    with pytest.raises(TransportError, match="under the id slot"):
        await producer.start(lambda: time.monotonic() < began + 1)
    producer.close()
    assert time.monotonic() - began < 15
