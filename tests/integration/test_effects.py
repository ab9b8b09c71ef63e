"""An agent that writes, and processes that are killed at moments that a seed draws: nothing is written twice.

Real processes and SIGKILL; brokers that go away are the chaos run's part. The promise: docs/rules.md, R9; invariant E1.
"""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.support.agents_bench import Bench
from tests.support.fleet import Fleet, Load, wait_for

pytestmark = [pytest.mark.broker, pytest.mark.slow, pytest.mark.timeout(300)]

TASKS, RATE, SEED = 100, 20.0, 7


def written_topology(path: Path, prefix: str) -> Path:
    sample = {"run": "tests.support.agents_sample:slow", "effect": "write", "timeout_ms": 240_000, "concurrency": 8}
    topology = {
        "prefix": prefix,
        "partitions": 2,
        # The intent is plain: one agent is asked.
        "bands": {"single_above": 0.01, "panel_above": 0.0},
        # The broker's least: a member that was killed is missed sooner.
        "kafka": {"session.timeout.ms": 2_000, "heartbeat.interval.ms": 500},
        "defaults": {"deadline_ms": 300_000},
        "limits": {"commit_interval_ms": 200},
        "agents": {"writer": {**sample, "options": {"log": "writer", "wait_ms": 400}}},
        "routes": {"deeds": {"agents": ["writer"], "phrases": ["write"], "fallback": {"answer": "nobody"}}},
        "default_route": "deeds",
    }
    path.write_text(json.dumps(topology))
    return path


def test_whatever_is_killed_when_no_write_is_repeated_and_each_that_is_in_doubt_is_escalated(
    broker: str, tmp_path: Path, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng, calls = random.Random(SEED), tmp_path / "calls"
    monkeypatch.setenv("BENCH_CALLS", str(calls))
    path = written_topology(tmp_path / "topology.yaml", prefix)
    with Fleet(broker, tmp_path, path) as fleet:
        fleet.start("host", "worker")
        load = Load(fleet, ["write it down"], TASKS, RATE)
        load.start()
        victims = ["host", "worker", "host"]
        rng.shuffle(victims)
        for victim in victims:
            time.sleep(rng.uniform(0.3, 1.5))
            fleet.kill(victim)
            fleet.start(victim)
        load.finish(120)
        wait_for(lambda: len(fleet.log().results) >= TASKS, 120, "every task to have its result")
        with Bench(broker, fleet.topology) as bench:
            results = bench.read(bench.topics.results, lambda rows: len(rows) >= TASKS)
            events = bench.read(bench.topics.events("writer"), lambda rows: len(rows) > TASKS)
    called = Counter(calls.read_text("utf-8").split()[1::2])
    assert max(called.values()) == 1, "E1"
    assert len(results) == len({row["task_id"] for row in results}) == TASKS, "P1"
    statuses = {row["task_id"]: (row["status"], row["reason"]) for row in results}
    assert set(statuses.values()) == {("COMPLETED", "ANSWERED"), ("ESCALATED", "WRITE_UNCERTAIN")}
    doubtful = {row["task"]["task_id"] for row in events if row["error_class"] == "UNKNOWN_OUTCOME"}
    assert doubtful == {task for task, (status, _) in statuses.items() if status == "ESCALATED"}
    assert all(called[task] for task, (status, _) in statuses.items() if status == "COMPLETED")


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
