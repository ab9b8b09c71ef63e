"""What the promises are made for: processes killed, added and cut off from the broker while tasks flow.

Each test runs the pipeline as real processes on a real broker and holds everything against the audit: nothing lost,
nothing answered twice, history complete.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from console.local.broker import LocalBroker
from tests.support.console import topology_file
from tests.support.fleet import Fleet, Load, wait_for

pytestmark = [pytest.mark.broker, pytest.mark.slow, pytest.mark.timeout(240)]

TEXTS = [
    "What was the Q3 revenue for EMEA?",
    "Find the travel policy document",
    "Show me the account of customer C-1003",
    "Convert 5 km to miles",
    "How many errors are in the logs of the payments service?",
    "gross margin of the last quarter",
]
RATE = 400.0


@pytest.fixture
def fleet(broker: str, tmp_path: Path, repository: Path, prefix: str) -> Iterator[Fleet]:
    with Fleet(broker, tmp_path, topology_file(repository, tmp_path, prefix)) as fleet:
        yield fleet


def assert_sound(fleet: Fleet, count: int) -> None:
    report = fleet.report()
    assert report.findings() == []
    assert report.tasks.accepted == count
    assert report.tasks.results == count
    assert report.history_complete


def test_a_worker_killed_in_mid_flow_loses_and_repeats_nothing(fleet: Fleet) -> None:
    fleet.start("store", "host", "worker")
    load = Load(fleet, TEXTS, 4_000, RATE)
    load.start()
    for _ in range(2):
        time.sleep(2.5)
        fleet.kill("worker")
        fleet.start("worker")
    load.finish(60)
    assert_sound(fleet, 4_000)


def test_a_worker_that_stops_cleanly_has_nothing_to_recover(fleet: Fleet) -> None:
    fleet.start("store", "host", "worker")
    load = Load(fleet, TEXTS, 1_200, RATE)
    load.start()
    time.sleep(1.5)
    assert fleet.stop("worker"), "it ends by itself"
    fleet.start("worker")
    load.finish(30)
    assert_sound(fleet, 1_200)


def test_partitions_move_between_workers_while_tasks_flow(fleet: Fleet) -> None:
    fleet.start("store", "host", "worker-1", "worker-2")
    load = Load(fleet, TEXTS, 6_000, RATE)
    load.start()
    time.sleep(2.0)
    fleet.kill("worker-1")
    time.sleep(1.0)
    fleet.start("worker-3")
    wait_for(lambda: load.sent >= 4_800, 60, "most tasks to be sent")
    assert fleet.stop("worker-2"), "it ends by itself"
    load.finish(60)
    assert_sound(fleet, 6_000)


def test_a_host_killed_in_mid_flow_loses_and_repeats_nothing(fleet: Fleet) -> None:
    fleet.start("store", "host", "worker")
    load = Load(fleet, TEXTS, 2_400, RATE)
    load.start()
    time.sleep(2.0)
    fleet.kill("host")
    fleet.start("host")
    load.finish(60)
    assert_sound(fleet, 2_400)


def test_a_store_killed_in_mid_flow_keeps_the_history_whole(fleet: Fleet) -> None:
    fleet.start("store", "host", "worker")
    load = Load(fleet, TEXTS, 2_400, RATE)
    load.start()
    for _ in range(2):
        time.sleep(1.5)
        fleet.kill("store")
        fleet.start("store")
    load.finish(60)
    assert_sound(fleet, 2_400)


def test_everything_resumes_by_itself_after_the_broker_was_gone(tmp_path: Path, repository: Path) -> None:
    # A broker of its own: the session's must not go away under other tests.
    path = topology_file(repository, tmp_path, "outage.")
    with LocalBroker(tmp_path / "broker", heap_mib=512) as broker, Fleet(broker.address, tmp_path, path) as fleet:
        fleet.start("store", "host", "worker")
        load = Load(fleet, TEXTS, 4_000, RATE / 2)
        load.start()
        time.sleep(2.0)
        broker.stop()
        time.sleep(20.0)
        broker.start()
        load.finish(120)
        assert_sound(fleet, 4_000)
        assert all(child.running for child in fleet.children.values()), "nobody had to be started again"
