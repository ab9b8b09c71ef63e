"""PackedConsumer on a real broker, and on the in-memory one: what librdkafka's consumer reads, whatever happens to
group, log and broker."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from pathlib import Path

import confluent_kafka as ck
import pytest
from confluent_kafka.admin import AdminClient

from console.local.broker import LocalBroker
from schemas.topics import TopicSpec
from streams.transport.admin import ensure_topics
from streams.transport.batch import Batch, TopicPartition
from streams.transport.clients import client_config
from streams.transport.consumer import Begin
from streams.transport.fetches import can_fetch
from streams.transport.packed import Packed
from streams.transport.packed_consumer import PackedConsumer
from streams.transport.producer import Producer
from tests.support.brokers import BROKERS, Settings, either
from tests.support.waiting import deadline_in

WAIT_S = 30.0
PACKED = "packed"


@pytest.fixture(params=BROKERS)
def address(request: pytest.FixtureRequest) -> Iterator[str]:
    yield from either(request, __name__)


@pytest.fixture
def members() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


class Member:
    """A consumer of one topic, and all that it was ever given, by topic-partition."""

    def __init__(
        self,
        address: str,
        topic: str,
        group: str,
        stack: ExitStack,
        rows_max: int = 1000,
        begin: Mapping[TopicPartition, int] | None = None,
    ) -> None:
        config = client_config(Settings(address), None, "consumer", group=group, fetch="prompt")
        self.source = PackedConsumer(config, lambda _: PACKED, frozenset({PACKED}), rows_max=rows_max, poll_s=0.1)
        stack.callback(self.source.close, 5.0)
        self.read: dict[TopicPartition, list[tuple[int, bytes | None]]] = {}
        self.largest, self.revoked = 0, 0
        self.source.subscribe(
            [topic], on_assign=lambda _: None if begin is None else Begin(begin), on_revoke=self._revoked
        )

    def _revoked(self, _: list[TopicPartition]) -> None:
        self.revoked += 1

    def poll(self) -> None:
        for item in self.source.poll():
            self.largest = max(self.largest, len(item))
            batch = item.unpacked() if isinstance(item, Packed) else item
            assert isinstance(batch, Batch)
            owners = zip(batch.topics, batch.partitions.tolist(), strict=True)
            for owner, offset, value in zip(owners, batch.offsets.tolist(), batch.values, strict=True):
                self.read.setdefault(TopicPartition(*owner), []).append((offset, value))

    def poll_until(self, holds: Callable[[], bool], *others: Member) -> None:
        deadline = deadline_in(WAIT_S)
        while not holds():
            assert time.monotonic() < deadline, (self.read.keys(), self.source.assignment())
            for member in (self, *others):
                member.poll()

    def values(self) -> list[bytes | None]:
        return sorted((value for own in self.read.values() for _, value in own), key=repr)

    def commit(self) -> None:
        self.source.commit({tp: (own[-1][0] + 1, "") for tp, own in self.read.items()})


def made(address: str, topic: str, partitions: int = 2) -> str:
    ensure_topics(Settings(address), [TopicSpec(topic, None, partitions, "delete", 3_600_000)])
    return topic


def send(
    address: str, topic: str, values: list[bytes], partitions: int = 2, kafka: Mapping[str, str] | None = None
) -> None:
    with closing(Producer(client_config(Settings(address, dict(kafka or {})), None, "producer"))) as producer:
        for number in range(partitions):
            own = values[number::partitions]
            producer.send(topic, number, own, [b"k%d" % row for row in range(len(own))])
        producer.flush(WAIT_S)


def numbered(first: int, last: int) -> list[bytes]:
    return [b"%06d" % number for number in range(first, last)]


def test_every_compression_is_read(address: str, prefix: str, members: ExitStack) -> None:
    topic = made(address, f"{prefix}kinds")
    for step, name in enumerate(("none", "gzip", "snappy", "lz4", "zstd")):
        send(address, topic, numbered(100 * step, 100 * step + 100), kafka={"compression.type": name})
    member = Member(address, topic, f"{prefix}g", members, rows_max=60)
    member.poll_until(lambda: len(member.values()) >= 500)
    assert member.values() == numbered(0, 500)
    assert [offset for offset, _ in member.read[TopicPartition(topic, 0)]] == list(range(250))
    assert member.largest <= 60


def test_who_is_told_where_to_go_on_reads_from_there_and_the_rest_from_what_is_committed(
    address: str, prefix: str, members: ExitStack
) -> None:
    topic = made(address, f"{prefix}going-on")
    send(address, topic, numbered(0, 20))
    with ExitStack() as before:
        one = Member(address, topic, f"{prefix}g", before)
        one.poll_until(lambda: len(one.values()) == 20)
        one.source.commit({(topic, 0): (1, ""), (topic, 1): (7, "")})
    two = Member(address, topic, f"{prefix}g", members, begin={TopicPartition(topic, 0): 8})
    two.poll_until(lambda: len(two.values()) >= 5)
    assert {tp.partition: [offset for offset, _ in own] for tp, own in two.read.items()} == {0: [8, 9], 1: [7, 8, 9]}


def test_what_a_transaction_that_failed_wrote_is_not_read(address: str, prefix: str, members: ExitStack) -> None:
    topic = made(address, f"{prefix}cuts", 1)
    producer = ck.Producer({"bootstrap.servers": address, "transactional.id": f"{prefix}t"})
    producer.init_transactions(WAIT_S)
    for number, is_kept in enumerate((True, False, True, False, True)):
        producer.begin_transaction()
        producer.produce(topic, b"%d" % number, b"k", 0)
        producer.flush(WAIT_S)
        (producer.commit_transaction if is_kept else producer.abort_transaction)(WAIT_S)
    member = Member(address, topic, f"{prefix}g", members)
    member.poll_until(lambda: len(member.values()) >= 3)
    assert member.values() == [b"0", b"2", b"4"]
    member.poll_until(lambda: member.source.lag() == {(topic, 0): 0})


def test_another_member_takes_its_share_over_and_reads_on_behind_what_is_committed(
    address: str, prefix: str, members: ExitStack
) -> None:
    topic = made(address, f"{prefix}share")
    send(address, topic, numbered(0, 100))
    first = Member(address, topic, f"{prefix}g", members)
    first.poll_until(lambda: len(first.values()) >= 100)
    first.commit()
    second = Member(address, topic, f"{prefix}g", members)
    first.poll_until(lambda: len(first.source.assignment()) == len(second.source.assignment()) == 1, second)
    assert first.revoked == 1
    send(address, topic, numbered(100, 200))
    first.poll_until(lambda: len(first.values()) + len(second.values()) >= 200, second)
    assert sorted([*first.values(), *second.values()], key=repr) == numbered(0, 200)
    assert len(second.values()) == 50


def test_what_is_not_committed_is_read_again(address: str, prefix: str) -> None:
    topic = made(address, f"{prefix}again")
    send(address, topic, numbered(0, 100))
    for commits in (False, True):
        with ExitStack() as stack:
            member = Member(address, topic, f"{prefix}g", stack)
            member.poll_until(lambda reader=member: len(reader.values()) >= 100)  # type: ignore[misc]
            assert member.values() == numbered(0, 100)
            if commits:
                member.commit()
    with ExitStack() as stack:
        member = Member(address, topic, f"{prefix}g", stack)
        send(address, topic, numbered(100, 102))
        member.poll_until(lambda: len(member.values()) >= 2)
        assert member.values() == numbered(100, 102)


def test_reading_rests_where_it_is_told_to(address: str, prefix: str, members: ExitStack) -> None:
    topic = made(address, f"{prefix}rests")
    member = Member(address, topic, f"{prefix}g", members)
    member.poll_until(lambda: len(member.source.assignment()) == 2)
    member.source.pause([(topic, 0)])
    send(address, topic, numbered(0, 100))
    member.poll_until(lambda: len(member.values()) >= 50)
    for _ in range(5):
        member.poll()
    assert set(member.read) == {TopicPartition(topic, 1)}
    member.source.resume([(topic, 0)])
    member.poll_until(lambda: len(member.values()) >= 100)
    assert member.values() == numbered(0, 100)


def test_where_the_log_has_been_cut_reading_goes_on_with_what_is_left(
    address: str, prefix: str, members: ExitStack
) -> None:
    topic = made(address, f"{prefix}cut", 1)
    send(address, topic, numbered(0, 10), 1)
    member = Member(address, topic, f"{prefix}g", members)
    member.poll_until(lambda: len(member.values()) >= 10)
    member.source.pause([(topic, 0)])
    send(address, topic, numbered(10, 100), 1)
    member.poll()  # what was asked for before the pause is not taken
    admin = AdminClient({"bootstrap.servers": address})
    for done in admin.delete_records([ck.TopicPartition(topic, 0, 50)]).values():
        done.result(WAIT_S)
    member.source.resume([(topic, 0)])
    member.poll_until(lambda: len(member.values()) >= 60)
    assert member.values() == [*numbered(0, 10), *numbered(50, 100)]


@pytest.mark.broker
def test_reading_goes_on_when_the_broker_is_back(tmp_path: Path, members: ExitStack) -> None:
    with LocalBroker(tmp_path / "broker") as broker:
        topic = made(broker.address, "back")
        send(broker.address, topic, numbered(0, 100))
        member = Member(broker.address, topic, "g", members)
        member.poll_until(lambda: len(member.values()) >= 100)
        broker.kill()
        for _ in range(5):
            member.poll()
        broker.start()
        send(broker.address, topic, numbered(100, 200))
        member.poll_until(lambda: set(member.values()) == set(numbered(0, 200)))
        members.close()


@pytest.mark.parametrize(
    ("given", "is_ours"),
    [
        ({}, True),
        ({"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "PLAIN"}, True),
        ({"sasl.mechanism": "GSSAPI"}, False),
        ({"client.rack": "a"}, False),
    ],
)
def test_what_only_librdkafka_can_is_left_to_it(given: Mapping[str, str], is_ours: bool) -> None:
    config = client_config(Settings("localhost:1", dict(given)), None, "consumer", group="g")
    assert can_fetch(config) == is_ours
