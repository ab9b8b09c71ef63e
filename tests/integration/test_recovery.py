"""What the promises are made for: processes killed, added and cut off from the broker while tasks flow.

Each test runs the pipeline as real processes on a real broker and holds everything against the audit: nothing lost,
nothing answered twice, history complete.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import confluent_kafka as ck
import pytest

from console.local.broker import LocalBroker
from loadtest.auditor import audit_tasks
from streams.history.queries import History
from tests.support.console import topology_file
from tests.support.fleet import TEXTS, Fleet, Load, wait_for
from tests.support.waiting import PATIENCE

pytestmark = [pytest.mark.broker, pytest.mark.slow, pytest.mark.timeout(240)]

RATE = 400.0
MODES = ["at_least_once", "exactly_once"]


@pytest.fixture
def fleet(
    broker: str, tmp_path: Path, repository: Path, prefix: str, request: pytest.FixtureRequest
) -> Iterator[Fleet]:
    """A test that is parametrised with it says in which delivery modes."""
    delivery = getattr(request, "param", "at_least_once")
    with Fleet(broker, tmp_path, topology_file(repository, tmp_path, prefix, delivery)) as fleet:
        yield fleet


def assert_sound(fleet: Fleet, count: int) -> None:
    report = fleet.report(120.0)
    assert report.findings() == []
    assert report.tasks.accepted == count
    assert report.tasks.results == count
    assert report.history_complete


def test_a_worker_killed_in_mid_flow_loses_and_repeats_nothing(fleet: Fleet) -> None:
    """With POINTSMAN_FULL_LOAD set: 2,000 tasks a second for 30 seconds, on a machine that does nothing else."""
    count, rate = (60_000, 2_000.0) if os.environ.get("POINTSMAN_FULL_LOAD") else (4_000, RATE)
    fleet.start("store", "host", "worker")
    load = Load(fleet, TEXTS, count, rate)
    load.start()
    for _ in range(2):
        time.sleep(count / rate / 4)
        fleet.kill("worker")
        fleet.start("worker")
    load.finish(90)
    assert_sound(fleet, count)


def test_a_worker_that_stops_cleanly_has_nothing_to_recover(fleet: Fleet) -> None:
    fleet.start("store", "host", "worker")
    load = Load(fleet, TEXTS, 1_200, RATE)
    load.start()
    time.sleep(1.5)
    assert fleet.stop("worker"), "it ends by itself"
    fleet.start("worker")
    load.finish(30)
    assert_sound(fleet, 1_200)


@pytest.mark.parametrize("fleet", MODES, indirect=True)
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


def test_what_is_read_again_is_known_however_long_ago_it_was_answered(fleet: Fleet, tmp_path: Path) -> None:
    """An outage that is longer than `duplicate_horizon_ms`, between an answer and the cut that would be behind it."""
    path, known = tmp_path / "topology.yaml", "duplicate_horizon_ms: 60000"
    text = path.read_text()
    assert known in text
    path.write_text(text.replace(known, "duplicate_horizon_ms: 500\n  commit_interval_ms: 60000"))
    fleet.start("store", "host", "worker")
    load = Load(fleet, TEXTS, 200, RATE)
    load.start()
    load.finish(60)
    wait_for(lambda: len(fleet.log().results) >= 200, 60, "all to be answered")
    fleet.kill("worker")
    time.sleep(2.0)
    fleet.start("worker")
    load = Load(fleet, TEXTS, 4, RATE, prefix="behind")  # all that is read again
    load.start()
    load.finish(60)
    assert_sound(fleet, 204)


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


def test_tasks_of_an_agent_that_left_the_topology_go_to_the_next(
    broker: str, tmp_path: Path, repository: Path, prefix: str
) -> None:
    path = topology_file(repository, tmp_path, prefix)
    shipped = path.read_text()
    path.write_text(
        shipped.replace("finance:revenue\n", "finance:revenue\n    options: {slow_ms: 60000}\n    timeout_ms: 7000\n")
    )
    with Fleet(broker, tmp_path, path) as fleet:
        fleet.start("host", "worker")
        load = Load(fleet, TEXTS[:1], 60, 200)
        load.start()
        load.finish(30)
        wait_for(lambda: len(fleet.log().dispatches) == 60, 20, "all tasks to be with the agent")
        fleet.kill("worker")
        fleet.kill("host")
    without = re.sub(r"  revenue_agent:\n(    .*\n)+", "", shipped).replace("revenue_agent, ", "")
    assert "revenue_agent" not in re.sub(r"#.*", "", without)
    path.write_text(without)
    with Fleet(broker, tmp_path, path) as fleet:
        fleet.start("host", "worker")
        wait_for(lambda: len(fleet.log().results) >= 60, 60, "all tasks to be answered")
        log = fleet.log()
        assert audit_tasks(log.submissions, log.dispatches, log.outcomes, log.results).breaches == {}
        assert {dispatch.agent_id for dispatch in log.dispatches} == {"revenue_agent", "sql_agent"}
        assert {outcome.agent_id for outcome in log.outcomes} == {"sql_agent"}


def test_records_of_any_size_that_the_broker_takes_are_put_away(fleet: Fleet) -> None:
    fleet.start("store", "host", "worker")
    submitted = fleet.topology.topics().submitted
    producer = ck.Producer(
        {"bootstrap.servers": fleet.settings.broker, "message.max.bytes": 50_000_000, "compression.type": "zstd"}
    )
    for value, key in ((os.urandom(1_040_000), b"noise"), (b"0" * 20_000_000, b"air"), (b"0", b"k" * 200_000)):
        producer.produce(submitted, value=value, key=key, partition=1)
        assert producer.flush(30) == 0
    load = Load(fleet, TEXTS, 60, 200)
    load.start()
    load.finish(30)
    report = fleet.report()
    assert report.findings() == []
    assert (report.tasks.results, report.dead) == (60, 3)
    with closing(History(fleet.clickhouse)) as history:
        rows = history.query("SELECT reason, detail, size, key FROM dead ORDER BY origin_offset").rows
    assert [reason for reason, *_ in rows] == ["OVERSIZED", "OVERSIZED", "UNFRAMED"]
    assert ["left at its origin" in detail for _, detail, *_ in rows] == [True, True, True]
    assert [key for *_, key in rows] == ["noise", "air", None]


@pytest.mark.parametrize(("delivery", "outage_s"), [("at_least_once", 20.0), ("exactly_once", 12.0)])
def test_everything_resumes_by_itself_after_the_broker_was_gone(
    tmp_path: Path, repository: Path, delivery: str, outage_s: float
) -> None:
    # A broker of its own: the session's must not go away under other tests.
    path = topology_file(repository, tmp_path, "outage.", delivery)
    with LocalBroker(tmp_path / "broker", heap_mib=512) as broker, Fleet(broker.address, tmp_path, path) as fleet:
        fleet.start("store", "host", "worker")
        load = Load(fleet, TEXTS, 2_400, RATE / 2)
        load.start()
        time.sleep(2.0)
        if delivery == "exactly_once":
            broker.kill()  # one that stops may end a transaction without a marker, for good (KAFKA-20734)
        else:
            broker.stop()
        time.sleep(outage_s)
        broker.start(PATIENCE * 60.0)
        load.finish(120)
        assert_sound(fleet, 2_400)
        assert all(child.running for child in fleet.children.values()), "nobody had to be started again"
