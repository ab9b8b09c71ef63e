"""A worker that is away for longer than all time-outs: an outage is no storm. Real processes and SIGKILL."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from tests.support.fleet import Fleet, Load, wait_for

pytestmark = [pytest.mark.broker, pytest.mark.slow, pytest.mark.timeout(300)]


def test_a_worker_that_is_away_for_longer_than_all_time_outs_hands_nothing_on(
    broker: str, tmp_path: Path, prefix: str
) -> None:
    """The hosts have answered meanwhile. What is read late was not late: no storm of cascades, no breaker trips."""
    sample = {"run": "tests.support.agents_sample:slow", "effect": "read", "timeout_ms": 5_000, "concurrency": 200}
    topology = {
        "prefix": prefix,
        "partitions": 2,
        # The intent is plain: one agent is asked.
        "bands": {"single_above": 0.01, "panel_above": 0.0},
        "agents": {name: {**sample, "options": {"log": name, "wait_ms": 1_000}} for name in ("first", "second")},
        "routes": {"all": {"agents": ["first", "second"], "phrases": ["ask"], "fallback": {"answer": "nobody"}}},
        "default_route": "all",
    }
    path = tmp_path / "topology.yaml"
    path.write_text(json.dumps(topology))
    with Fleet(broker, tmp_path, path) as fleet:
        fleet.start("host", "worker")
        load = Load(fleet, ["ask"], 200, 400.0)
        load.start()
        wait_for(lambda: len(fleet.log().dispatches) > 20, 30, "the first dispatches")
        fleet.kill("worker")
        load.finish(30)
        asked = len(fleet.log().dispatches)
        wait_for(lambda: len(fleet.log().outcomes) == asked, 30, "the hosts to answer")
        time.sleep(8.0)  # past every time-out and its grace
        fleet.start("worker")
        wait_for(lambda: len(fleet.log().results) >= 200, 60, "every task to have its result")
        log = fleet.log()
    assert {dispatch.agent_id for dispatch in log.dispatches} == {"first"}, "nothing was handed on"
    assert len(log.dispatches) == len(log.outcomes) == len(log.results) == 200
