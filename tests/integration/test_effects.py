"""What agents do while processes are killed and stopped: nothing is written twice, and an outage is no storm.

Real processes, SIGKILL and SIGSTOP; brokers that go away are the chaos run's part. The promise: docs/rules.md, R9;
invariant E1.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.support.agents_bench import Bench
from tests.support.fleet import Fleet, Load, wait_for

pytestmark = [pytest.mark.broker, pytest.mark.slow, pytest.mark.timeout(300)]


SEEDS = int(os.environ.get("POINTSMAN_EFFECT_SEEDS", "1"))
RATE = 15.0
ONE_CALL_S = 0.3
STOPPED_S = 3.0
"""Longer than a session."""


def plain(path: Path, prefix: str, agents: dict[str, Any], **more: Any) -> Path:
    """A topology of one route over these agents. The intent is plain: one agent is asked."""
    topology = {
        "prefix": prefix,
        "partitions": 2,
        "bands": {"single_above": 0.01, "panel_above": 0.0},
        "agents": agents,
        "routes": {"all": {"agents": list(agents), "phrases": ["ask"], "fallback": {"answer": "nobody"}}},
        "default_route": "all",
        **more,
    }
    path.write_text(json.dumps(topology))
    return path


def calls_in(path: Path) -> list[str]:
    """The tasks for which an agent was called, in the order of the calls."""
    return path.read_text("utf-8").split()[1::2] if path.exists() else []


def doubtful_in(events: list[dict[str, Any]]) -> set[str]:
    """The tasks of which a host said that it does not know what came of them."""
    return {row["task"]["task_id"] for row in events if row["error_class"] == "UNKNOWN_OUTCOME"}


def strike(fleet: Fleet, rng: random.Random, hosts: list[str], calls: Path) -> None:
    """Kills and stops in the order that the seed draws, each as writes are under way; all serve when it returns."""
    moments = [("kill", hosts[-1]), ("kill", "worker"), ("kill", hosts[0]), ("stop", hosts[0])]
    rng.shuffle(moments)
    for how, name in moments:
        known = len(calls_in(calls))
        wait_for(lambda known=known: len(calls_in(calls)) > known, 60, "another write to begin")  # type: ignore[misc]
        time.sleep(rng.uniform(0.0, ONE_CALL_S))
        if how == "kill":
            fleet.kill(name)
            fleet.start(name)
        else:
            fleet.pause(name)
            time.sleep(STOPPED_S)
            fleet.go_on(name)


@pytest.mark.parametrize("seed", range(1, SEEDS + 1))
def test_whatever_is_killed_when_no_write_is_repeated_and_each_that_is_in_doubt_is_escalated(
    broker: str, tmp_path: Path, prefix: str, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """One host and two, in both delivery modes. With POINTSMAN_EFFECT_SEEDS=40: so many seeds."""
    rng, calls = random.Random(seed), tmp_path / "calls"
    monkeypatch.setenv("BENCH_CALLS", str(calls))
    sample = {"run": "tests.support.agents_sample:slow", "effect": "write", "timeout_ms": 240_000, "concurrency": 8}
    path = plain(
        tmp_path / "topology.yaml",
        prefix,
        {"writer": {**sample, "options": {"log": "writer", "wait_ms": ONE_CALL_S * 1000}}},
        delivery=("at_least_once", "exactly_once")[seed % 2],
        # The broker's least: a member that was killed is missed sooner.
        kafka={"session.timeout.ms": 2_000, "heartbeat.interval.ms": 500},
        defaults={"deadline_ms": 300_000},
        limits={"commit_interval_ms": 200, "transaction_timeout_ms": 5_000},
        # Writes in doubt count against their agent: its breaker is not what is tried here.
        breaker={"consecutive_failures": 10_000, "volume_min": 10_000},
    )
    hosts = ["host-1", "host-2"][: 1 + seed // 2 % 2]
    with Fleet(broker, tmp_path, path) as fleet:
        fleet.start(*hosts, "worker")
        load = Load(fleet, ["ask it to write"], 1_000_000, RATE)
        load.start()
        strike(fleet, rng, hosts, calls)
        load.enough()
        load.finish(120)
        wait_for(lambda: len(fleet.log().results) >= load.sent, 120, "every task to have its result")
        with Bench(broker, fleet.topology) as bench:
            results = bench.read(bench.topics.results, lambda rows: len(rows) >= load.sent)
            escalated = {row["task_id"] for row in results if row["status"] == "ESCALATED"}
            bench.read(bench.topics.events("writer"), lambda rows: escalated <= doubtful_in(rows))
            events = bench.events("writer", load.sent)
    called = Counter(calls_in(calls))
    assert max(called.values()) == 1, "E1"
    assert len(results) == len({row["task_id"] for row in results}) == load.sent, "P1"
    statuses = {row["task_id"]: (row["status"], row["reason"]) for row in results}
    assert set(statuses.values()) == {("COMPLETED", "ANSWERED"), ("ESCALATED", "WRITE_UNCERTAIN")}
    assert doubtful_in(events) <= escalated
    assert all(called[task] for task, (status, _) in statuses.items() if status == "COMPLETED")


def test_a_worker_that_is_away_for_longer_than_all_time_outs_hands_nothing_on(
    broker: str, tmp_path: Path, prefix: str
) -> None:
    """The hosts have answered meanwhile. What is read late was not late: no storm of cascades, no breaker trips."""
    sample = {"run": "tests.support.agents_sample:slow", "effect": "read", "timeout_ms": 5_000, "concurrency": 200}
    agents = {name: {**sample, "options": {"log": name, "wait_ms": 1_000}} for name in ("first", "second")}
    path = plain(tmp_path / "topology.yaml", prefix, agents)
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
