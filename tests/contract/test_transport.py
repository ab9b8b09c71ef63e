"""BatchConsumer, Producer and admin: one suite for the real broker and for the in-memory one of the simulation.

What the in-memory broker cannot do is a strict expected failure.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator

import confluent_kafka as ck
import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from console.local.broker import LocalBroker
from schemas.errors import ConfigurationError, DeliveryError, UnreachableError
from schemas.topics import TopicSpec
from streams.transport.admin import await_leaders, check_broker, ensure_topics
from streams.transport.batch import Batch
from streams.transport.clients import CommitRejectedError, TransportError, client_config
from streams.transport.consumer import BatchConsumer
from streams.transport.packed_reader import PackedReader
from streams.transport.producer import Producer
from streams.transport.requests import NO_OFFSET, lag
from tests.support.brokers import BROKERS, Settings, either
from tests.support.waiting import deadline_in, leaving


@pytest.fixture(params=BROKERS)
def broker(request: pytest.FixtureRequest) -> Iterator[str]:
    yield from either(request, __name__)


def topic(name: str, partitions: int = 2) -> TopicSpec:
    return TopicSpec(name, None, partitions, "delete", 3_600_000)


either_reader = pytest.mark.parametrize("kind", [BatchConsumer, PackedReader])


def consumer(
    broker: str,
    group: str | None = None,
    *,
    headers: bool = False,
    rows_max: int = 1000,
    kind: type[BatchConsumer] = BatchConsumer,
) -> BatchConsumer:
    config = client_config(Settings(broker), None, "consumer", group=group)
    return kind(
        config, lambda name: name.split("-")[0], rows_max=rows_max, bytes_max=1 << 20, poll_s=0.05, with_headers=headers
    )


def producer(broker: str) -> Producer:
    return Producer(client_config(Settings(broker), None, "producer"))


def read(source: BatchConsumer, rows: int, timeout_s: float = 20.0) -> list[Batch]:
    batches: list[Batch] = []
    deadline = deadline_in(timeout_s)
    while sum(map(len, batches)) < rows and time.monotonic() < deadline:
        batches += source.poll()
    return batches


def test_columns_come_back_as_they_were_sent(broker: str, prefix: str) -> None:
    name = f"{prefix}columns"
    ensure_topics(Settings(broker), [topic(name)])
    out = producer(broker)
    out.send(name, 0, [b"a", None, b""], [b"k1", None, b""])
    out.send(name, 1, [b"x"] * 5)
    out.send_one(name, b"h", b"k", 1, [("pointsman-reason", b"WHY"), ("none", None)])
    out.flush(10)
    source = consumer(broker, headers=True)
    source.assign({(name, 0): 0, (name, 1): 0})
    batches = read(source, 9)
    source.close()
    parts: dict[int, list[Batch]] = {}
    for batch in batches:
        for number, part in batch.by_partition().items():
            parts.setdefault(number, []).append(part)
    zero, one = parts[0], parts[1]
    assert [v for b in zero for v in b.values] == [b"a", None, b""]
    assert [k for b in zero for k in b.keys] == [b"k1", None, b""]
    assert [o for b in one for o in b.offsets] == list(range(6))
    assert one[-1].headers is not None
    assert one[-1].headers[-1] == [("pointsman-reason", b"WHY"), ("none", None)]
    assert one[-1].ends == {(name, 1): 5}
    assert abs(one[-1].timestamps_ms[-1] / 1000 - time.time()) < 60


def test_keys_go_where_javas_clients_put_them(broker: str, prefix: str) -> None:
    """murmur2 of Kafka's own UtilsTest: "foobar" hashes to -790332482, "21" to -973932308."""
    name = f"{prefix}keys"
    ensure_topics(Settings(broker), [topic(name, 4)])
    out = producer(broker)
    golden = {b"foobar": -790332482, b"21": -973932308, b"a-little-bit-long-string": -985981536}
    for key in golden:
        out.send_one(name, key, key)
    out.flush(10)
    source = consumer(broker)
    source.assign({(name, p): 0 for p in range(4)})
    found = {k: int(p) for b in read(source, 3) for k, p in zip(b.keys, b.partitions, strict=True)}
    source.close()
    assert found == {key: (hashed & 0x7FFFFFFF) % 4 for key, hashed in golden.items()}


def test_a_channel_gathers_its_topics_within_rows_and_bytes(broker: str, prefix: str) -> None:
    names = [f"{prefix}one-a", f"{prefix}one-b", f"{prefix}two-a"]
    ensure_topics(Settings(broker), [topic(n, 1) for n in names])
    out = producer(broker)
    for name in names:
        out.send(name, 0, [b"x" * 100] * 50)
    out.flush(10)
    config = client_config(Settings(broker), None, "consumer")
    source = BatchConsumer(config, lambda n: n.rsplit("-", 1)[0], rows_max=1000, bytes_max=3000, poll_s=0.3)
    source.assign(dict.fromkeys([(n, 0) for n in names], 0))
    batches = read(source, 150)
    source.close()
    assert {b.channel for b in batches} == {f"{prefix}one", f"{prefix}two"}
    assert max(map(len, batches)) <= 30
    assert sum(map(len, batches)) == 150
    assert any(len(set(b.topics)) == 2 for b in batches)


@either_reader
def test_reads_to_the_end_and_stops_although_more_arrives(broker: str, prefix: str, kind: type[BatchConsumer]) -> None:
    name = f"{prefix}end"
    ensure_topics(Settings(broker), [topic(name)])
    out = producer(broker)
    out.send(name, 0, [str(i).encode() for i in range(2500)])
    out.flush(10)
    source = consumer(broker, kind=kind)
    tps = source.partitions_of([name])
    marks = source.watermarks(tps)
    assert marks == {(name, 0): (0, 2500), (name, 1): (0, 0)}
    until = {tp: high for tp, (_, high) in marks.items()}
    values = [v for b in source.read_to_end({(name, 0): 500, (name, 1): 0}, until) for v in b.values]
    source.close()
    assert values == [str(i).encode() for i in range(500, 2500)]


@either_reader
def test_who_reads_to_the_end_does_not_wait_for_full_batches(
    broker: str, prefix: str, kind: type[BatchConsumer]
) -> None:
    name, patience_s = f"{prefix}prompt", 60.0
    ensure_topics(Settings(broker), [topic(name)])
    out = producer(broker)
    out.send(name, 0, [b"x"] * 10)
    out.flush(10)
    config, began = client_config(Settings(broker), None, "consumer"), time.monotonic()
    source = kind(config, str, rows_max=1000, bytes_max=1 << 20, poll_s=patience_s)
    read = [
        v for b in source.read_to_end({(name, 0): 0, (name, 1): 0}, {(name, 0): 10, (name, 1): 0}) for v in b.values
    ]
    source.close()
    assert len(read) == 10
    assert time.monotonic() - began < patience_s, "one poll of 1,000 records would have waited for as long"


def test_lag_is_what_is_fetched_and_not_read(broker: str, prefix: str) -> None:
    name = f"{prefix}lag"
    ensure_topics(Settings(broker), [topic(name)])
    out = producer(broker)
    out.send(name, 0, [b"x"] * 100)
    out.flush(10)
    config = client_config(Settings(broker), None, "consumer")
    with leaving(ck.Consumer({**config, "enable.partition.eof": False})) as raw:
        raw.assign([ck.TopicPartition(name, 0, 0), ck.TopicPartition(name, 1, 0)])
        assert lag(raw) == {}, "nothing was read yet"
        assert len(raw.consume(30, 10.0)) == 30
        assert lag(raw) == {(name, 0): 70}
        assert len(raw.consume(70, 10.0)) == 70
        assert lag(raw) == {(name, 0): 0}


@either_reader
def test_reads_to_the_end_over_transaction_markers_and_aborted_records(
    broker: str, prefix: str, kind: type[BatchConsumer]
) -> None:
    name = f"{prefix}transactions"
    ensure_topics(Settings(broker), [topic(name, 1)])
    writer = ck.Producer({"bootstrap.servers": broker, "transactional.id": name})
    writer.init_transactions(20)
    for value, commit in ((b"kept", True), (b"aborted", False)):
        writer.begin_transaction()
        writer.produce(name, value)
        writer.flush(10)
        (writer.commit_transaction if commit else writer.abort_transaction)(20)
    source = consumer(broker, kind=kind)
    until = {tp: high for tp, (_, high) in source.watermarks([(name, 0)]).items()}
    assert until == {(name, 0): 4}
    values = [v for b in source.read_to_end({(name, 0): 0}, until, idle_timeout_s=10) for v in b.values]
    source.close()
    assert values == [b"kept"]


def test_positions_and_metadata_are_committed_and_found(broker: str, prefix: str) -> None:
    name = f"{prefix}positions"
    ensure_topics(Settings(broker), [topic(name)])
    source = consumer(broker, group=f"{prefix}group")
    assert source.committed([(name, 0)]) == {(name, 0): (NO_OFFSET, "")}
    source.commit({(name, 0): (7, "low=123"), (name, 1): (0, "")})
    assert source.committed([(name, 0), (name, 1)]) == {(name, 0): (7, "low=123"), (name, 1): (0, "")}
    source.close()


def test_offsets_by_append_time_and_the_end_where_nothing_is_later(broker: str, prefix: str) -> None:
    name = f"{prefix}times"
    ensure_topics(Settings(broker), [topic(name)])
    out = producer(broker)
    out.send(name, 0, [b"early"])
    out.flush(10)
    time.sleep(0.05)
    between = int(time.time() * 1000)
    time.sleep(0.05)
    out.send(name, 0, [b"late"])
    out.flush(10)
    source = consumer(broker)
    assert source.offsets_for_times({(name, 0): between, (name, 1): between}) == {(name, 0): 1, (name, 1): 0}
    assert source.offsets_for_times({(name, 0): between + 3_600_000}) == {(name, 0): 2}
    source.close()


def test_a_commit_of_a_member_that_is_out_of_the_group_is_rejected(broker: str, prefix: str) -> None:
    name, group = f"{prefix}zombie", f"{prefix}zombies"
    ensure_topics(Settings(broker), [topic(name)])
    config = client_config(Settings(broker), None, "consumer", group=group)
    config |= {"max.poll.interval.ms": 6000}
    zombie = BatchConsumer(config, str, rows_max=10, bytes_max=1000, poll_s=0.1)
    zombie.subscribe([name])
    deadline = deadline_in(15)
    while not zombie.assignment() and time.monotonic() < deadline:
        zombie.poll()
    time.sleep(7)
    with pytest.raises(CommitRejectedError):
        zombie.commit({(name, 0): (1, "")})
    zombie.close()


def test_a_position_that_is_gone_is_an_error_and_not_a_jump(broker: str, prefix: str) -> None:
    name = f"{prefix}gone"
    ensure_topics(Settings(broker), [topic(name)])
    config = client_config(Settings(broker), None, "consumer", reset="error")
    source = BatchConsumer(config, str, rows_max=10, bytes_max=1000, poll_s=0.2)
    source.assign({(name, 0): 12345})
    with pytest.raises(TransportError, match="cannot go on"):
        read(source, 1)
    source.close()


def test_a_record_too_large_is_refused_loudly(broker: str, prefix: str) -> None:
    name = f"{prefix}large"
    ensure_topics(Settings(broker), [topic(name)])
    out = producer(broker)
    with pytest.raises(DeliveryError, match="too large"):
        out.send(name, 0, [b"x" * 2_000_000])
    with pytest.raises(DeliveryError, match="too large"):
        out.send_one(name, b"x" * 2_000_000)


def test_a_delivery_that_fails_later_is_raised_by_the_next_call(broker: str, prefix: str) -> None:
    heard: list[DeliveryError] = []
    config = client_config(Settings(broker), None, "producer") | {"topic.metadata.propagation.max.ms": 1000}
    out = Producer(config, heard.append)
    out.send(f"{prefix}nowhere", 0, [b"a", b"b"])
    with pytest.raises(DeliveryError) as raised:
        out.flush(60)
    assert raised.value.topic == f"{prefix}nowhere"
    assert len(heard) == 1
    with pytest.raises(DeliveryError):
        out.send(f"{prefix}nowhere", 0, [b"c"])


def test_what_is_abandoned_is_not_sent_and_no_failure(broker: str, prefix: str) -> None:
    name = f"{prefix}abandoned"
    ensure_topics(Settings(broker), [topic(name)])
    out = Producer(client_config(Settings(broker), None, "producer") | {"linger.ms": 60_000})
    out.send(name, 0, [b"never"] * 5)
    out.send(name, 1, [b"nor this"])
    out.abandon()
    assert len(out) == 0
    out.send(name, 1, [b"nor that"] * 2)
    assert out.withdraw() == 2
    assert out.withdraw() == 0
    out.send(name, 0, [b"this"])
    out.flush(20)
    source = consumer(broker)
    source.assign({(name, 0): 0, (name, 1): 0})
    batches = read(source, 1) + read(source, 1, timeout_s=1.0)
    assert [value for batch in batches for value in batch.values] == [b"this"]
    source.close()


@pytest.mark.broker
def test_what_is_on_its_way_to_a_slow_broker_is_waited_for_before_it_is_given_up(
    local_broker: LocalBroker, prefix: str
) -> None:
    """The broker is stopped, as by SIGSTOP, while it has a request before it, and goes on."""
    name = f"{prefix}slow"
    ensure_topics(Settings(local_broker.address), [topic(name)])
    out = producer(local_broker.address)
    out.send(name, 0, [b"before"])
    out.flush(20)
    pid = local_broker.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        out.send(name, 0, [b"on its way"] * 3)
        time.sleep(2.0)  # by now it is on the wire, on a busy machine, too
        threading.Timer(0.3, os.kill, (pid, signal.SIGCONT)).start()
        assert out.withdraw(20) == 0
    finally:
        os.kill(pid, signal.SIGCONT)
    source = consumer(local_broker.address)
    source.assign({(name, 0): 0})
    assert [value for batch in read(source, 4) for value in batch.values] == [b"before", *[b"on its way"] * 3]
    source.close()


def test_a_small_local_queue_loses_nothing_and_keeps_the_order(broker: str, prefix: str) -> None:
    name = f"{prefix}queue"
    ensure_topics(Settings(broker), [topic(name)])
    config = client_config(Settings(broker), None, "producer") | {"queue.buffering.max.messages": 100}
    out = Producer(config)
    values = [str(i).encode() for i in range(5000)]
    out.send(name, 1, values, values)
    out.flush(20)
    source = consumer(broker)
    source.assign({(name, 1): 0})
    assert [v for b in read(source, 5000) for v in b.values] == values
    source.close()


def test_topics_are_created_once_and_differences_refused(broker: str, prefix: str) -> None:
    spec = topic(f"{prefix}spec", 3)
    assert ensure_topics(Settings(broker), [spec]) == [spec.name]
    assert ensure_topics(Settings(broker), [spec]) == []
    with pytest.raises(ConfigurationError, match="has 3 partitions, topology says 5"):
        ensure_topics(Settings(broker), [topic(spec.name, 5)])


def test_topics_that_keep_producer_time_are_refused(broker: str, prefix: str) -> None:
    name = f"{prefix}created"
    admin = AdminClient({"bootstrap.servers": broker})
    new = NewTopic(name, 1, 1, config={"message.timestamp.type": "CreateTime"})
    admin.create_topics([new])[name].result()
    await_leaders(Settings(broker), [topic(name, 1)])
    with pytest.raises(ConfigurationError, match="LogAppendTime"):
        ensure_topics(Settings(broker), [topic(name, 1)])


def test_no_broker_is_said_within_seconds(capfd: pytest.CaptureFixture[str]) -> None:
    began = time.monotonic()
    with pytest.raises(UnreachableError, match=r"127\.0\.0\.1:1 "):
        check_broker(Settings("127.0.0.1:1"))
    assert time.monotonic() - began < 6
    assert capfd.readouterr().err == ""
