"""Records at known places are read again, whoever fetches them."""

from __future__ import annotations

import uuid

import confluent_kafka as ck
import numpy as np
import pytest
from confluent_kafka.admin import AdminClient

from loadtest import places
from loadtest.places import read_places
from schemas.settings import Settings
from schemas.topics import TopicSpec
from schemas.topology import Topology
from streams.transport.admin import ensure_topics
from streams.transport.batch import Batch
from streams.transport.clients import TransportError, client_config
from tests.support import scenes

pytestmark = pytest.mark.broker

ROWS = 3_000
TOPOLOGY: Topology = scenes.topology()


@pytest.fixture
def topic(broker: str) -> str:
    """One of two partitions, with so many records in each."""
    name = f"places-{uuid.uuid4().hex[:8]}"
    settings = Settings.resolve({"broker": broker}, {})
    ensure_topics(settings, [TopicSpec(name, None, 2, "delete", 3_600_000)])
    producer = ck.Producer(client_config(settings, None, "producer"))
    for number in range(ROWS):
        for partition in range(2):
            producer.produce(name, b"%d-%d" % (partition, number), b"k%d" % number, partition=partition)
        producer.poll(0)
        if number % 100 == 0:
            producer.flush(30)
    assert producer.flush(30) == 0
    return name


@pytest.mark.parametrize("jump", [50_000, 300])
@pytest.mark.parametrize("by", ["batches", "records"])
def test_just_these_records_are_read(
    by: str, jump: int, topic: str, broker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "JUMP", jump)
    if by == "records":
        monkeypatch.setattr(places, "can_fetch", lambda _config: False)
    wanted = {(topic, 0): np.array([0, 1, 7, 1_500, 2_999]), (topic, 1): np.array([2_000])}
    found: list[tuple[int, int, bytes | None, bytes | None]] = []

    def take(batch: Batch) -> None:
        rows = zip(batch.partitions.tolist(), batch.offsets.tolist(), batch.keys, batch.values, strict=True)
        found.extend(rows)

    read_places(Settings.resolve({"broker": broker}, {}), TOPOLOGY, wanted, take)
    assert sorted(found) == [
        (number, offset, b"k%d" % offset, b"%d-%d" % (number, offset))
        for (_, number), offsets in wanted.items()
        for offset in offsets.tolist()
    ]


def test_a_place_that_is_gone_is_told(topic: str, broker: str) -> None:
    settings = Settings.resolve({"broker": broker}, {})
    admin = AdminClient(client_config(settings, None, "admin"))
    for each in admin.delete_records([ck.TopicPartition(topic, 0, 2_000)]).values():
        each.result(30)
    with pytest.raises(TransportError, match="gone"):
        read_places(settings, TOPOLOGY, {(topic, 0): np.array([5])}, lambda _batch: None)
