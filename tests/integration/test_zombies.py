"""A worker that is paused past its session and comes back while another has its partitions: what it can still do.

Real processes, stopped and continued by signals. Source of the mode's promise: docs/architecture.md, "Delivery".
"""

from __future__ import annotations

import os
import time
from contextlib import closing
from pathlib import Path

import pytest

from loadtest.auditor import audit_tasks
from streams.history.queries import History
from tests.support.console import topology_file
from tests.support.fleet import TEXTS, Fleet, Load, wait_for

pytestmark = [pytest.mark.broker, pytest.mark.slow, pytest.mark.timeout(240)]

RATE = 400.0
ON_REQUEST = pytest.mark.skipif("POINTSMAN_FULL_LOAD" not in os.environ, reason="with POINTSMAN_FULL_LOAD set")
MODES = ["exactly_once", pytest.param("at_least_once", marks=ON_REQUEST)]


@pytest.mark.parametrize("delivery", MODES)
def test_a_worker_that_was_paused_past_its_session_has_nothing_applied(
    broker: str, tmp_path: Path, repository: Path, prefix: str, delivery: str
) -> None:
    path = topology_file(repository, tmp_path, prefix, delivery)
    with Fleet(broker, tmp_path, path) as fleet:
        fleet.start("store", "host", "worker-1", "worker-2")
        load = Load(fleet, TEXTS, 100_000, RATE)
        load.start()
        time.sleep(2.0)
        before = lives(fleet, "worker-2")
        fleet.pause("worker-1")
        wait_for(lambda: lives(fleet, "worker-2") > before, 30, "the other one to take over")
        time.sleep(1.0)
        fleet.go_on("worker-1")
        wait_for(lambda: lives(fleet, "worker-2") > before + 1, 60, "both to be back in the group")
        load.enough()
        load.finish(60)
        assert all(child.running for child in fleet.children.values()), "nobody had to be started again"
        if delivery == "exactly_once":
            report = fleet.report(120.0)
            assert report.findings() == []
            assert (report.tasks.accepted, report.tasks.results) == (load.sent, load.sent)
            assert report.history_complete
            assert "a transaction was lost" in fleet.said("worker-1")
            return
        # A second result may be written, and a second dispatch: the same task, so history and subscribers fold them.
        wait_for(lambda: len({each[:2] for each in fleet.log().results}) == load.sent, 60, "every task's result")
        log = fleet.log()
        audit = audit_tasks(log.submissions, log.dispatches, log.outcomes, log.results)
        assert set(audit.breaches) <= {"duplicated", "asked_twice", "out_of_order"}
        with closing(History(fleet.clickhouse)) as history:
            counted = "SELECT count(), uniqExact(tenant, task_id) FROM results"
            wait_for(lambda: list(history.query(counted).rows[0]) == [load.sent] * 2, 60, "the history to hold them")


def lives(fleet: Fleet, name: str) -> int:
    """How often a worker went live."""
    return fleet.said(name).count('"event": "live"')
