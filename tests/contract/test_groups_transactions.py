"""Groups and transactions, as recovery and fencing rest on them: the real broker and the in-memory one."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from typing import Any, cast

import confluent_kafka as ck
import pytest

from schemas.topics import TopicSpec
from streams.transport import to_end
from streams.transport.admin import ensure_topics
from streams.transport.batch import TopicPartition
from streams.transport.bounded import close
from streams.transport.clients import CommitRejectedError, HangingTransactionError, TransportError, client_config
from streams.transport.consumer import BatchConsumer, Begin
from streams.transport.packed_reader import PackedReader
from streams.transport.producer import Producer
from streams.transport.requests import NO_OFFSET
from streams.transport.slots import instance_of
from tests.support.brokers import BROKERS, Settings, either
from tests.support.waiting import PATIENCE, deadline_in

WAIT_S = 30.0


@pytest.fixture(params=BROKERS)
def broker(request: pytest.FixtureRequest) -> Iterator[str]:
    yield from either(request, __name__)


class Member:
    """A member of a group, and what it was told."""

    def __init__(self, broker: str, group: str, topic: str, **config: Any) -> None:
        settings = client_config(Settings(broker), None, "consumer", group=group)
        self.source = BatchConsumer({**settings, **config}, str, rows_max=100, bytes_max=1 << 20, poll_s=0.05)
        self.told: list[tuple[str, list[int]]] = []
        self.values: list[bytes | None] = []
        self.source.subscribe(
            [topic],
            on_assign=self._assigned,
            on_revoke=lambda tps: self.told.append(("revoked", sorted(tp.partition for tp in tps))),
            on_lost=lambda tps: self.told.append(("lost", sorted(tp.partition for tp in tps))),
        )

        self.begin = Begin()

    def _assigned(self, tps: list[TopicPartition]) -> Begin:
        self.told.append(("assigned", sorted(tp.partition for tp in tps)))
        return self.begin

    @property
    def held(self) -> list[int]:
        return sorted(tp.partition for tp in self.source.assignment())

    def poll(self) -> None:
        for batch in self.source.poll():
            self.values += batch.values


def static(slot: str, topic: str) -> dict[str, Any]:
    return {"group.instance.id": instance_of(slot, [topic]), "session.timeout.ms": 30_000}


def until(holds: Callable[[], bool], *members: Member) -> None:
    deadline = deadline_in(WAIT_S)
    while not holds():
        assert time.monotonic() < deadline, [(member.told, member.held) for member in members]
        for member in members:
            member.poll()


def make(broker: str, name: str, partitions: int = 2) -> str:
    ensure_topics(Settings(broker), [TopicSpec(name, None, partitions, "delete", 3_600_000)])
    return name


def reader(broker: str, kind: type[BatchConsumer] = BatchConsumer, /, **config: Any) -> BatchConsumer:
    settings = client_config(Settings(broker), None, "consumer")
    return kind({**settings, **config}, str, rows_max=100, bytes_max=1 << 20, poll_s=0.05)


def transactional(broker: str, name: str) -> Any:
    writer = ck.Producer({"bootstrap.servers": broker, "transactional.id": name, "log_level": 0})
    writer.init_transactions(20)
    return writer


def test_two_members_share_what_one_had_and_the_one_that_stays_takes_all(broker: str, prefix: str) -> None:
    topic = make(broker, f"{prefix}shared", 4)
    one = Member(broker, f"{prefix}group", topic)
    until(lambda: one.held == [0, 1, 2, 3], one)
    two = Member(broker, f"{prefix}group", topic)
    until(lambda: len(one.held) == len(two.held) == 2, one, two)
    assert sorted(one.held + two.held) == [0, 1, 2, 3]
    assert one.told[:2] == [("assigned", [0, 1, 2, 3]), ("revoked", [0, 1, 2, 3])]
    two.source.close()
    assert two.told[-1][0] == "revoked"
    until(lambda: one.held == [0, 1, 2, 3], one)
    assert [kind for kind, _ in one.told] == ["assigned", "revoked"] * 2 + ["assigned"]
    one.source.close()


def test_what_a_member_commits_while_it_gives_up_is_where_the_next_one_reads_on(broker: str, prefix: str) -> None:
    topic = make(broker, f"{prefix}handed", 1)
    out = Producer(client_config(Settings(broker), None, "producer"))
    out.send(topic, 0, [b"a", b"b", b"c"])
    out.flush(20)
    one = Member(broker, f"{prefix}group", topic)
    until(lambda: len(one.values) == 3, one)
    one.source.commit({(topic, 0): (2, "so far")})
    one.source.close()
    two = Member(broker, f"{prefix}group", topic)
    until(lambda: two.values == [b"c"], two)
    assert two.source.committed([(topic, 0)]) == {(topic, 0): (2, "so far")}
    two.source.close()


def test_who_comes_back_in_its_slot_has_its_partitions_at_once_and_fences_who_had_them(
    broker: str, prefix: str
) -> None:
    """In the same generation, long before the former one's session is over, and nobody else hears of it."""
    topic, group = make(broker, f"{prefix}slots", 2), f"{prefix}group"
    other = Member(broker, group, topic, **static("b", topic))
    until(lambda: len(other.held) == 2, other)
    # Second, so that nobody waits for its heartbeats: none of them is to tell it what its commit does.
    first = Member(broker, group, topic, **static("a", topic), **{"heartbeat.interval.ms": 15_000})
    until(lambda: len(first.held) == len(other.held) == 1, first, other)
    generation, held, told = first.source.generation(), first.held, len(other.told)
    again = Member(broker, group, topic, **static("a", topic))
    until(lambda: again.held == held, again, other)
    assert again.source.generation() == generation
    again.source.commit({(topic, held[0]): (0, "mine")})
    with pytest.raises(CommitRejectedError):
        first.source.commit({(topic, held[0]): (0, "a zombie's")})
    assert again.source.committed([(topic, held[0])]) == {(topic, held[0]): (0, "mine")}
    assert len(other.told) == told
    with pytest.raises(TransportError, match="fenced"):  # and does not go on as if nobody had anything for it
        until(lambda: False, first)
    for member in (first, again, other):
        member.source.close()


def test_a_static_member_that_closes_keeps_its_place(broker: str, prefix: str) -> None:
    topic, group = make(broker, f"{prefix}kept", 2), f"{prefix}group"
    first = Member(broker, group, topic, **static("a", topic))
    until(lambda: first.held == [0, 1], first)
    generation = first.source.generation()
    first.source.close()
    again = Member(broker, group, topic, **static("a", topic))
    until(lambda: again.held == [0, 1], again)
    assert again.source.generation() == generation
    again.source.close()


def test_the_generation_rises_with_each_assignment_and_is_known_when_it_is_told(broker: str, prefix: str) -> None:
    topic, seen = make(broker, f"{prefix}counted", 2), list[int]()
    one = Member(broker, f"{prefix}group", topic)
    assert one.source.generation() < 0, "it is in no group yet"
    one.source.subscribe([topic], on_assign=lambda _: seen.append(one.source.generation()))
    until(lambda: one.held == [0, 1], one)
    two = Member(broker, f"{prefix}group", topic)
    until(lambda: len(one.held) == len(two.held) == 1, one, two)
    assert one.source.generation() == two.source.generation()
    two.source.close()
    until(lambda: one.held == [0, 1], one)
    assert len(seen) >= 3, "on a busy machine the group may assign once more, under another number"
    assert seen == sorted(set(seen))
    assert seen[0] > 0
    assert seen[-1] == one.source.generation()
    one.source.close()


def test_one_that_does_not_poll_loses_its_partitions_and_can_commit_nothing(broker: str, prefix: str) -> None:
    topic = make(broker, f"{prefix}lost", 2)
    slow = Member(broker, f"{prefix}group", topic, **{"max.poll.interval.ms": 6_000})
    until(lambda: slow.held == [0, 1], slow)
    other = Member(broker, f"{prefix}group", topic)
    until(lambda: other.held == [0, 1], other)
    with pytest.raises(CommitRejectedError):
        slow.source.commit({(topic, 0): (5, "")})
    assert other.source.committed([(topic, 0)]) == {(topic, 0): (NO_OFFSET, "")}
    # It heard of the rebalance, and then its time to poll was over.
    until(lambda: slow.told[1:2] == [("revoked", [0, 1])], slow, other)
    until(lambda: len(slow.held) == len(other.held) == 1, slow, other)
    slow.source.close()
    other.source.close()


def test_one_that_does_not_poll_is_told_that_it_has_lost_them(broker: str, prefix: str) -> None:
    topic = make(broker, f"{prefix}alone", 1)
    slow = Member(broker, f"{prefix}group", topic, **{"max.poll.interval.ms": 6_000})
    until(lambda: slow.held == [0], slow)
    time.sleep(7.5)
    # The group is empty, and takes positions from whoever never joined; not from one that it has thrown out.
    with pytest.raises(CommitRejectedError):
        slow.source.commit({(topic, 0): (5, "")})
    assert slow.source.committed([(topic, 0)]) == {(topic, 0): (NO_OFFSET, "")}
    until(lambda: slow.told[1:] == [("lost", [0]), ("assigned", [0])], slow)
    slow.source.close()


def test_who_is_told_where_to_go_on_reads_from_there_and_the_rest_from_what_is_committed(
    broker: str, prefix: str
) -> None:
    topic = make(broker, f"{prefix}going-on", 2)
    out = Producer(client_config(Settings(broker), None, "producer"))
    for number in range(2):
        out.send(topic, number, [b"%d%d" % (number, row) for row in range(4)])
    out.flush(20)
    one = Member(broker, f"{prefix}group", topic)
    until(lambda: len(one.values) == 8, one)
    one.source.commit({(topic, 0): (1, ""), (topic, 1): (2, "")})
    one.source.close()
    two = Member(broker, f"{prefix}group", topic)
    two.begin = Begin({TopicPartition(topic, 0): 3})
    until(lambda: len(two.values) >= 3, two)
    assert sorted(two.values, key=repr) == [b"03", b"12", b"13"]
    assert two.held == [0, 1]
    two.source.close()


def test_nothing_is_read_of_what_is_paused_as_it_is_assigned_until_it_is_resumed(broker: str, prefix: str) -> None:
    topic = make(broker, f"{prefix}later", 2)
    _send_to_each(broker, topic)
    one = Member(broker, f"{prefix}group", topic)
    one.begin = Begin(paused=[TopicPartition(topic, 1)])
    until(lambda: one.values == [b"0"], one)
    for _ in range(20):  # a second
        one.poll()
    assert one.values == [b"0"]
    assert one.held == [0, 1]
    one.source.resume([(topic, 1)])
    until(lambda: one.values == [b"0", b"1"], one)
    one.source.close()


def test_what_was_paused_when_it_was_given_up_is_read_when_it_is_assigned_again(broker: str, prefix: str) -> None:
    topic = make(broker, f"{prefix}resumed", 2)
    one = Member(broker, f"{prefix}group", topic)
    until(lambda: one.held == [0, 1], one)
    one.source.pause([(topic, 0), (topic, 1)])
    two = Member(broker, f"{prefix}group", topic)
    until(lambda: len(one.held) == len(two.held) == 1, one, two)
    _send_to_each(broker, topic)
    until(lambda: sorted(map(bytes, filter(None, one.values + two.values))) == [b"0", b"1"], one, two)
    one.source.close()
    two.source.close()


def test_what_was_paused_when_it_was_lost_is_read_when_it_is_assigned_again(broker: str, prefix: str) -> None:
    topic = make(broker, f"{prefix}regained", 2)
    slow = Member(broker, f"{prefix}group", topic, **{"max.poll.interval.ms": 6_000})
    until(lambda: slow.held == [0, 1], slow)
    slow.source.pause([(topic, 0), (topic, 1)])
    time.sleep(7.5)
    until(lambda: slow.told[1:] == [("lost", [0, 1]), ("assigned", [0, 1])], slow)
    _send_to_each(broker, topic)
    until(lambda: set(slow.values) == {b"0", b"1"}, slow)
    slow.source.close()


def _send_to_each(broker: str, topic: str) -> None:
    out = Producer(client_config(Settings(broker), None, "producer"))
    for number in (0, 1):
        out.send(topic, number, [str(number).encode()])
    out.flush(20)


def test_paused_partitions_give_nothing_and_then_everything_in_order(broker: str, prefix: str) -> None:
    topic = make(broker, f"{prefix}paused", 2)
    source = reader(broker)
    source.assign({(topic, 0): 0, (topic, 1): 0})
    source.pause([(topic, 0)])
    out = Producer(client_config(Settings(broker), None, "producer"))
    for number in (0, 1):
        out.send(topic, number, [f"{number}-{row}".encode() for row in range(30)])
    out.flush(20)
    found: list[bytes | None] = []
    deadline = deadline_in(WAIT_S)
    while len(found) < 30 and time.monotonic() < deadline:
        found += [value for batch in source.poll() for value in batch.values]
    found += [value for batch in source.poll(0.5) for value in batch.values]
    assert found == [f"1-{row}".encode() for row in range(30)]
    source.resume([(topic, 0)])
    while len(found) < 60 and time.monotonic() < deadline:
        found += [value for batch in source.poll() for value in batch.values]
    assert found[30:] == [f"0-{row}".encode() for row in range(30)]
    source.close()


def test_an_open_transaction_holds_back_those_who_read_what_is_committed(broker: str, prefix: str) -> None:
    topic = make(broker, f"{prefix}open", 1)
    writer, out = transactional(broker, topic), Producer(client_config(Settings(broker), None, "producer"))
    writer.begin_transaction()
    writer.produce(topic, b"in the transaction", partition=0)
    assert writer.flush(20) == 0
    out.send(topic, 0, [b"beside it"])
    out.flush(20)
    careful, careless = reader(broker), reader(broker, **{"isolation.level": "read_uncommitted"})
    assert careful.watermarks([(topic, 0)]) == {(topic, 0): (0, 0)}
    assert careless.watermarks([(topic, 0)]) == {(topic, 0): (0, 2)}
    values = [v for batch in careless.read_to_end({(topic, 0): 0}, {(topic, 0): 2}) for v in batch.values]
    assert values == [b"in the transaction", b"beside it"]
    careful.assign({(topic, 0): 0})
    assert careful.poll(0.5) == []
    writer.commit_transaction(20)
    found: list[bytes | None] = []
    deadline = deadline_in(WAIT_S)
    while len(found) < 2 and time.monotonic() < deadline:
        found += [value for batch in careful.poll() for value in batch.values]
    assert found == [b"in the transaction", b"beside it"]
    careful.close()
    careless.close()


@pytest.mark.parametrize("kind", [BatchConsumer, PackedReader])
def test_reading_to_the_end_waits_for_a_transaction_no_longer_than_one_may_be_open(
    broker: str, prefix: str, kind: type[BatchConsumer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(to_end, "SWEEP_S", 0.0)
    topic = make(broker, f"{prefix}overdue", 1)
    writer = transactional(broker, topic)
    writer.begin_transaction()
    writer.produce(topic, b"in the transaction", partition=0)
    assert writer.flush(20) == 0
    source, ends = reader(broker, kind), {(topic, 0): 1}
    with pytest.raises(HangingTransactionError, match=re.escape(f"{topic}[0]@0")):
        list(source.read_to_end({(topic, 0): 0}, ends, idle_timeout_s=2.0, transaction_s=3.0))
    fetches = source._fetches if isinstance(source, PackedReader) else None
    where, name = (source, "_promptly") if fetches is None else (fetches, "wait")
    look, still_open, began = getattr(where, name), [writer], time.monotonic()

    def with_a_late_commit(*wait_s: float) -> list[Any]:
        if still_open and time.monotonic() - began > 2.5:
            still_open.pop().commit_transaction(20)
        return cast("list[Any]", look(*wait_s))

    monkeypatch.setattr(where, name, with_a_late_commit)
    batches = source.read_to_end({(topic, 0): 0}, ends, idle_timeout_s=2.0, transaction_s=WAIT_S)
    assert [value for batch in batches for value in batch.values] == [b"in the transaction"]
    assert not still_open
    source.close()


def test_a_second_holder_of_a_transactional_id_fences_the_first(broker: str, prefix: str) -> None:
    topic = make(broker, f"{prefix}fenced", 1)
    former = transactional(broker, topic)
    former.begin_transaction()
    former.produce(topic, b"never", partition=0)
    assert former.flush(20) == 0
    latter = transactional(broker, topic)
    with pytest.raises(ck.KafkaException) as raised:
        former.commit_transaction(20)
    assert raised.value.args[0].fatal()
    latter.begin_transaction()
    latter.produce(topic, b"once", partition=0)
    latter.commit_transaction(20)
    source = reader(broker)
    until_offset = source.watermarks([(topic, 0)])[TopicPartition(topic, 0)][1]
    values = [v for batch in source.read_to_end({(topic, 0): 0}, {(topic, 0): until_offset}) for v in batch.values]
    assert values == [b"once"]
    source.close()


@pytest.mark.parametrize("commit", [True, False])
def test_positions_in_a_transaction_are_committed_with_it_or_not_at_all(broker: str, prefix: str, commit: bool) -> None:
    topic, group = make(broker, f"{prefix}offsets{commit}", 1), f"{prefix}group{commit}"
    raw = ck.Consumer({**client_config(Settings(broker), None, "consumer", group=group)})
    raw.subscribe([topic])
    deadline = deadline_in(WAIT_S)
    while not raw.assignment() and time.monotonic() < deadline:
        raw.consume(1, 0.1)
    writer = transactional(broker, f"{topic}-writer")
    writer.begin_transaction()
    writer.produce(topic, b"output", partition=0)
    positions = [ck.TopicPartition(topic, 0, 7, metadata="low")]
    writer.send_offsets_to_transaction(positions, raw.consumer_group_metadata(), 20)
    (writer.commit_transaction if commit else writer.abort_transaction)(20)
    (found,) = raw.committed([ck.TopicPartition(topic, 0)], timeout=PATIENCE * 20)
    assert (found.offset, found.metadata or "") == ((7, "low") if commit else (NO_OFFSET, ""))
    close(raw, 5.0)


def test_a_member_that_is_out_of_its_group_puts_no_position_into_a_transaction(broker: str, prefix: str) -> None:
    topic, group = make(broker, f"{prefix}zombie", 1), f"{prefix}group"
    config = client_config(Settings(broker), None, "consumer", group=group)
    raw = ck.Consumer({**config, "max.poll.interval.ms": 6_000})
    raw.subscribe([topic])
    deadline = deadline_in(WAIT_S)
    while not raw.assignment() and time.monotonic() < deadline:
        raw.consume(1, 0.1)
    metadata = raw.consumer_group_metadata()
    heir = Member(broker, group, topic)
    until(lambda: heir.held == [0], heir)
    writer = transactional(broker, f"{topic}-writer")
    writer.begin_transaction()
    writer.produce(topic, b"output", partition=0)
    with pytest.raises(ck.KafkaException) as raised:
        writer.send_offsets_to_transaction([ck.TopicPartition(topic, 0, 7)], metadata, 20)
    assert raised.value.args[0].txn_requires_abort()
    writer.abort_transaction(20)
    assert heir.source.committed([(topic, 0)]) == {(topic, 0): (NO_OFFSET, "")}
    # Out of its group it would join anew while it closes; handed its partitions then, librdkafka waits for itself for
    # ever, and Python for librdkafka (confluentinc/librdkafka#4884).
    raw.unsubscribe()
    close(raw, 5.0)
    heir.source.close()
