"""A process that ends cleanly leaves its slot, and the others have its partitions at once; on a real broker."""

from __future__ import annotations

import time
from contextlib import closing
from typing import Any

import pytest

from console.local.broker import LocalBroker
from schemas.topics import TopicSpec
from streams.transport.admin import ensure_topics
from streams.transport.batch import TopicPartition
from streams.transport.clients import client_config
from streams.transport.consumer import BatchConsumer
from streams.transport.slots import instance_of
from streams.transport.vacating import vacate
from tests.support.brokers import Settings
from tests.support.waiting import PATIENCE, deadline_in

pytestmark = [pytest.mark.broker, pytest.mark.timeout(PATIENCE * 90)]

SESSION_S = 60.0


def test_its_partitions_go_to_the_others_long_before_its_session_is_over(
    local_broker: LocalBroker, prefix: str
) -> None:
    topic, settings = f"{prefix}slots", Settings(local_broker.address)
    ensure_topics(settings, [TopicSpec(topic, None, 2, "delete", 3_600_000)])
    configs = [_member(settings, f"{prefix}group", slot, topic) for slot in ("a", "b")]
    with closing(_reader(configs[0])) as gone, closing(_reader(configs[1])) as left:
        gone.subscribe([topic])
        left.subscribe([topic])
        _poll_until(lambda: len(gone.assignment()) == len(left.assignment()) == 1, gone, left)
        gone.close()
        began = time.monotonic()
        vacate(configs[0], SESSION_S / 2)
        _poll_until(lambda: set(left.assignment()) == {TopicPartition(topic, 0), TopicPartition(topic, 1)}, left)
        assert time.monotonic() - began < SESSION_S, "a session of its former self later they come by themselves"


def test_who_has_no_slot_or_no_broker_is_done_at_once() -> None:
    nowhere = Settings("127.0.0.1:1")
    vacate(client_config(nowhere, None, "consumer", group="g", name="test"))
    vacate(_member(nowhere, "g", "a", "t"), 0.5)


def _member(settings: Settings, group: str, slot: str, topic: str) -> dict[str, Any]:
    config = client_config(settings, None, "consumer", group=group, instance=instance_of(slot, [topic]), name="test")
    return {**config, "session.timeout.ms": int(SESSION_S * 1000)}


def _reader(config: dict[str, Any]) -> BatchConsumer:
    return BatchConsumer(config, str, rows_max=10, bytes_max=1 << 20, poll_s=0.05)


def _poll_until(holds: Any, *readers: BatchConsumer) -> None:
    deadline = deadline_in(12)
    while not holds():
        assert time.monotonic() < deadline, "they did not come"
        for reader in readers:
            reader.poll()
