"""PackedReader beside what it replaces, on a real broker and on the in-memory one: the same records, in their order."""

from __future__ import annotations

from collections.abc import Iterator

import confluent_kafka as ck
import pytest
from confluent_kafka.admin import AdminClient

from schemas.topics import TopicSpec
from streams.transport.admin import ensure_topics
from streams.transport.batch import TopicPartition
from streams.transport.clients import client_config
from streams.transport.consumer import BatchConsumer
from streams.transport.packed_reader import PackedReader, reader
from streams.transport.producer import Producer
from tests.support.brokers import BROKERS, Settings, either

Row = tuple[TopicPartition, int, bytes | None, bytes | None]
ROWS = 3_000


@pytest.fixture(params=BROKERS)
def broker(request: pytest.FixtureRequest) -> Iterator[str]:
    yield from either(request, __name__)


def made(broker: str, kafka: dict[str, str] | None = None, rows_max: int = 1000) -> BatchConsumer:
    config = client_config(Settings(broker, kafka or {}), None, "consumer", fetch="back")
    return reader(config, str, rows_max=rows_max, bytes_max=1 << 20, poll_s=0.05, with_headers=True)


def filled(broker: str, prefix: str) -> list[TopicPartition]:
    """Two topics of two partitions; a record with headers, one without a key and one without a value among them."""
    names = [f"{prefix}{name}" for name in ("one", "two")]
    ensure_topics(Settings(broker), [TopicSpec(name, None, 2, "delete", 3_600_000) for name in names])
    out = Producer(client_config(Settings(broker), None, "producer"))
    for name in names:
        for number in (0, 1):
            rows = [f"{name}-{number}-{row}".encode() for row in range(ROWS)]
            out.send(name, number, rows, [b"k" + row for row in rows])
    out.send(names[0], 0, [b"no key", None], [None, b"no value"])
    out.send_one(names[1], b"with headers", b"k", 1, [("why", b"so")])
    out.flush(20)
    return [TopicPartition(name, number) for name in names for number in (0, 1)]


def rows(source: BatchConsumer, starts: dict[TopicPartition, int], until: dict[TopicPartition, int]) -> list[Row]:
    found: list[Row] = []
    for batch in source.read_to_end(starts, until):
        assert set(batch.topics) == {batch.channel}
        tps = map(TopicPartition, batch.topics, batch.partitions.tolist())
        found += zip(tps, batch.offsets.tolist(), batch.keys, batch.values, strict=True)
    return [row for tp in sorted(starts) for row in found if row[0] == tp and row[1] < until[tp]]


def test_it_reads_what_librdkafka_reads_from_wherever_to_wherever(broker: str, prefix: str) -> None:
    tps = filled(broker, prefix)
    ours, theirs = made(broker), made(broker, {"fetch.message.max.bytes": "2000000"})
    assert (type(ours), type(theirs)) == (PackedReader, BatchConsumer)
    marks = ours.watermarks(tps)
    assert marks == theirs.watermarks(tps)
    for first, last in ((0, ROWS + 3), (ROWS // 2, ROWS - 10), (7, 8), (5, 5)):
        starts = {tp: min(first, high) for tp, (_, high) in marks.items()}
        until = {tp: min(last, high) for tp, (_, high) in marks.items()}
        found = rows(ours, starts, until)
        assert found == rows(theirs, starts, until)
        assert len(found) == sum(until[tp] - starts[tp] for tp in tps)
    ours.close()
    theirs.close()


def test_headers_come_along_and_batches_keep_their_bounds(broker: str, prefix: str) -> None:
    tps = filled(broker, prefix)
    source = made(broker, rows_max=100)
    marks = source.watermarks(tps)
    batches = list(source.read_to_end(dict.fromkeys(tps, 0), {tp: high for tp, (_, high) in marks.items()}))
    source.close()
    assert max(map(len, batches)) == 100
    headers = [each for batch in batches for each in batch.headers or [] if each]
    assert headers == [[("why", b"so")]]


def test_what_was_deleted_meanwhile_is_passed_over(broker: str, prefix: str) -> None:
    tps = filled(broker, prefix)
    admin = AdminClient({"bootstrap.servers": broker})
    for done in admin.delete_records([ck.TopicPartition(*tps[0], ROWS), ck.TopicPartition(*tps[2], 10)]).values():
        done.result(20)
    source = made(broker)
    until = dict.fromkeys(tps, ROWS)
    found = rows(source, dict.fromkeys(tps, 0), until)
    source.close()
    assert [sum(row[0] == tp for row in found) for tp in tps] == [0, ROWS, ROWS - 10, ROWS]
