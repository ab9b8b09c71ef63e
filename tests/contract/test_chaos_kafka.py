"""What a chaos run does to a real broker: records that are none, and members that come and go."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from console.chaos.corrupt import Corrupter
from console.chaos.members import Storm, read_by
from loadtest.audit_log import read_log
from schemas.access import group_of
from schemas.settings import Settings
from schemas.topology import Topology, load_topology
from streams.client import Client
from streams.transport.admin import ensure_topics
from streams.transport.clients import client_config
from streams.transport.consumer import BatchConsumer

pytestmark = pytest.mark.broker
PATIENCE_S = 120.0


@pytest.fixture
def settings(broker: str) -> Settings:
    return Settings.resolve({"broker": broker}, {})


@pytest.fixture
def topology(settings: Settings, repository: Path, prefix: str) -> Topology:
    found = load_topology(repository / "topology.yaml").model_copy(update={"prefix": prefix})
    ensure_topics(settings, found.topics().specs())
    return found


def test_every_topic_gets_records_that_are_none_and_nobody_takes_one_of_them_for_a_task(
    settings: Settings, topology: Topology
) -> None:
    with Client.of(settings, topology) as client:
        client.submit_many([{"task_id": f"t{number}", "text": "convert 5 km"} for number in range(20)])
    corrupter = Corrupter(settings, topology)
    corrupter.send(3, random.Random(1))
    assert corrupter.finish(PATIENCE_S) == 0
    carrying = {spec.name for spec in topology.topics().specs() if spec.record is not None and spec.kind != "spilled"}
    assert {topic for topic, _, _ in corrupter.places} == carrying
    assert len(corrupter.places) == 3 * len(carrying)
    log = read_log(settings, topology)
    audited = {each for each in corrupter.places if not each[0].startswith(f"{topology.prefix}control.")}
    assert log.invalid == audited
    assert {each.task_id for each in log.submissions} == {f"t{number}" for number in range(20)}
    decided = (log.dispatches, log.outcomes, log.results, log.event_ids, log.orchestrator_event_ids)
    assert [each for each in decided if each] == []


def test_members_take_partitions_from_who_is_there_commit_nothing_and_leave(
    settings: Settings, topology: Topology
) -> None:
    group, topics = group_of("host", topology.prefix), read_by("host", topology.topics())
    config = client_config(settings, topology, "consumer", group=group)
    consumer = BatchConsumer(config, str, rows_max=10, bytes_max=1024, poll_s=0.05)
    seen: list[int] = []
    consumer.subscribe(topics, on_assign=lambda tps: seen.append(len(tps)))
    storm = Storm(settings, topology, "host", every_s=1.0)
    whole = len(consumer.partitions_of(topics))
    try:
        turn_until(consumer, lambda: whole in seen)
        storm.begin()
        turn_until(consumer, lambda: storm.joined > 0 and any(0 < count < whole for count in seen))
        threading.Thread(target=storm.end).start()  # who leaves waits for those who stay
        turn_until(consumer, lambda: seen[-1] == whole)
        assert {offset for offset, _ in consumer.committed(consumer.partitions_of(topics)).values()} == {-1001}
    finally:
        storm.end()
        consumer.close()


def turn_until(consumer: BatchConsumer, condition: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < until
        consumer.poll()
