"""Producers with a registry of their own, on the whole pipeline in real processes: its ids, and its absence."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import confluent_kafka as ck
import pytest

from loadtest.audit import audit
from loadtest.audit_log import Log, read_log
from schemas.access import group_of
from schemas.registry import FileRegistry, JoinedRegistry
from streams.history.queries import History
from tests.support.console import topology_file
from tests.support.fleet import Fleet, wait_for
from tests.support.foreign_registry import ForeignRegistry
from tests.support.waiting import leaving
from tests.support.wire import definition, encode, frame, task, with_field

pytestmark = [pytest.mark.broker, pytest.mark.slow, pytest.mark.timeout(240)]

TASK = definition("TaskSubmitted")
GROWN = with_field(TASK, {"name": "mood", "type": ["null", "string"], "default": None})
ANSWERED_S = 60.0


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[ForeignRegistry]:
    """Its ids are the file's ids of other records."""
    registry = ForeignRegistry(first_id=2, user="me", password="secret")
    monkeypatch.setenv("POINTSMAN_SCHEMA_REGISTRY", registry.url)
    monkeypatch.setenv("POINTSMAN_SCHEMA_REGISTRY_USER", "me")
    monkeypatch.setenv("POINTSMAN_SCHEMA_REGISTRY_PASSWORD", "secret")
    yield registry
    registry.close()


@pytest.fixture
def fleet(registry: ForeignRegistry, broker: str, tmp_path: Path, repository: Path, prefix: str) -> Iterator[Fleet]:
    with Fleet(broker, tmp_path, topology_file(repository, tmp_path, prefix)) as fleet:
        yield fleet


class Producer:
    """Sends tasks to a partition of the test's choice, which the key does not have to agree with."""

    def __init__(self, fleet: Fleet) -> None:
        self._topic = fleet.topology.topics().submitted
        self._producer = ck.Producer({"bootstrap.servers": fleet.settings.broker})

    def send(self, task_id: str, schema_id: int, partition: int, schema: object = TASK) -> None:
        value = {
            **task(task_id=task_id, text="Convert 5 km to miles", submitted_at=time.time_ns() // 1000),
            "mood": "x",
        }
        self._producer.produce(self._topic, frame(schema_id) + encode(schema, value), task_id, partition)
        assert self._producer.flush(30) == 0


def log_of(fleet: Fleet, registry: ForeignRegistry) -> Log:
    return read_log(fleet.settings, fleet.topology, JoinedRegistry(FileRegistry.load(), registry.texts.get))


def committed(fleet: Fleet, partition: int) -> int:
    """Where the workers' group would go on in a partition of the submitted tasks."""
    group = group_of("worker", fleet.topology.prefix)
    consumer = ck.Consumer({"bootstrap.servers": fleet.settings.broker, "group.id": group})
    with leaving(consumer):
        (found,) = consumer.committed([ck.TopicPartition(fleet.topology.topics().submitted, partition)], 10)
    return int(found.offset)


def answered(fleet: Fleet, registry: ForeignRegistry) -> list[str]:
    return sorted(each.task_id for each in log_of(fleet, registry).results)


def test_ids_of_the_producers_registry_are_read_and_its_absence_costs_nothing(
    fleet: Fleet, registry: ForeignRegistry
) -> None:
    submitted = f"{fleet.topology.topics().submitted}-value"
    known = registry.add(submitted, json.dumps(TASK | {"doc": "as a producer has it"}))
    fleet.start("store", "host", "worker-1")
    producer = Producer(fleet)
    producer.send("known", known, 0)
    producer.send("ours", 11, 1)
    new = registry.add(submitted, GROWN)
    producer.send("new", new, 2, GROWN)
    producer.send("garbage", 2**32 - 1, 3)
    wait_for(lambda: answered(fleet, registry) == ["known", "new", "ours"], ANSWERED_S, "the first results")
    # Which of the partitions is read first is nobody's promise: what is put away is asked for before it goes down, too.
    wait_for(lambda: len(log_of(fleet, registry).dead) == 1, ANSWERED_S, "the id that nobody has, put away")

    registry.is_down = True
    newer = registry.add(submitted, json.dumps(GROWN | {"doc": "newer"}))
    producer.send("newer", newer, 0, GROWN)
    producer.send("behind", known, 0)
    producer.send("beside", known, 1)
    wait_for(lambda: "beside" in answered(fleet, registry), ANSWERED_S, "what is known to go on")
    # Who starts without the registry knows no id of it: what it would have to read again, it would have to hold.
    wait_for(lambda: committed(fleet, 1) == 2, ANSWERED_S, "the answered to be done with")
    fleet.kill("worker-1")  # while it holds two records
    fleet.start("worker-2")
    producer.send("later", 11, 1)
    wait_for(lambda: "later" in answered(fleet, registry), ANSWERED_S, "a worker that starts without the registry")
    assert {"newer", "behind"}.isdisjoint(answered(fleet, registry))
    assert len(log_of(fleet, registry).dead) == 1

    registry.is_down = False
    every = sorted(["known", "new", "ours", "newer", "behind", "beside", "later"])
    wait_for(lambda: answered(fleet, registry) == every, ANSWERED_S, "what was held")
    assert len(log_of(fleet, registry).dead) == 1
    with closing(History(fleet.clickhouse)) as history:
        wait_for(lambda: audit(log_of(fleet, registry), history.facts).sound, 30, "the history to hold it all")
    assert fleet.stop("worker-2")
    assert fleet.stop("store")
