"""How soon a new client has its first answer: a process that starts makes half a dozen, one after the other."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from statistics import median
from typing import Any

import confluent_kafka as ck
import pytest
from confluent_kafka.admin import AdminClient

from schemas.topics import TopicSpec
from streams.transport.admin import ensure_topics
from streams.transport.clients import ConnectionWatch, client_config, opened
from streams.transport.consumer import BatchConsumer
from streams.transport.requests import listed
from streams.transport.topic_admin import admin_client
from tests.support.brokers import Settings
from tests.support.waiting import until

pytestmark = pytest.mark.broker

TIMES = 5
# librdkafka waits half of it before it connects for nothing in particular, a second at most.
SLOWLY = {"reconnect.backoff.ms": "10000", "reconnect.backoff.max.ms": "10000"}


def _took(open_client: Callable[[], Any], first: Callable[[Any], object], close: Callable[[Any], object]) -> float:
    """Seconds to open a client and have its first answer. The median of a few: librdkafka is quick now and then, and a
    machine slow."""
    found = []
    for _ in range(TIMES):
        began = time.monotonic()
        client = open_client()
        first(client)
        found.append(time.monotonic() - began)
        close(client)
    return median(found)


def test_who_lists_topics_does_not_wait_for_librdkafka_to_connect(broker: str, prefix: str) -> None:
    name = f"{prefix}listed"
    ensure_topics(Settings(broker), [TopicSpec(name, None, 1, "delete", 3_600_000)])
    config = client_config(Settings(broker, SLOWLY), None, "consumer")

    def new() -> ck.Consumer:
        return opened(ck.Consumer, config, ConnectionWatch("new"))

    by_itself = _took(new, lambda consumer: consumer.list_topics(timeout=30), ck.Consumer.close)
    ours = _took(new, lambda consumer: listed(consumer, name), ck.Consumer.close)
    assert ours < by_itself / 2


def test_nor_does_who_joins_a_group(broker: str, prefix: str) -> None:
    name = f"{prefix}joined"
    ensure_topics(Settings(broker), [TopicSpec(name, None, 1, "delete", 3_600_000)])
    groups = iter(range(100))

    def new() -> BatchConsumer:
        config = client_config(Settings(broker, SLOWLY), None, "consumer", group=f"{prefix}{next(groups)}")
        return BatchConsumer(config, str, rows_max=1, bytes_max=1, poll_s=0.01)

    def joined(consumer: BatchConsumer, member: Any) -> None:
        member.subscribe([name])
        until(lambda: not consumer.poll() and bool(consumer.assignment()), 30)

    by_itself = _took(new, lambda consumer: joined(consumer, consumer._consumer), BatchConsumer.close)
    ours = _took(new, lambda consumer: joined(consumer, consumer), BatchConsumer.close)
    assert ours < by_itself / 2


def test_nor_does_an_admin(broker: str) -> None:
    settings = Settings(broker, SLOWLY)

    def by_itself() -> AdminClient:
        return opened(AdminClient, client_config(settings, None, "admin"), ConnectionWatch("admin"))

    def ours() -> AdminClient:
        return admin_client(settings, None, ConnectionWatch("admin"))

    def first(client: AdminClient) -> None:
        client.list_topics(timeout=30)

    assert _took(ours, first, id) < _took(by_itself, first, id) / 2


def test_a_topic_that_is_not_there_is_no_failure(broker: str, prefix: str) -> None:
    config = client_config(Settings(broker), None, "consumer")
    with closing(opened(ck.Consumer, config, ConnectionWatch("new"))) as consumer:
        assert f"{prefix}none" not in listed(consumer, f"{prefix}none")
