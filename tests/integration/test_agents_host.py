"""The host on the real broker: what is dispatched is answered in the agent's log, once, in order and in time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from schemas.ids import agent_event_id
from tests.support.agents_bench import Bench, make_topology
from tests.support.agents_sample import CALLS, RUNNING

pytestmark = pytest.mark.broker

SAMPLE = "tests.support.agents_sample"


@pytest.fixture
def log(prefix: str) -> str:
    """Where this test's agents write down their calls."""
    return prefix


@pytest.fixture
def bench(broker: str, prefix: str, log: str) -> Iterator[Bench]:
    """One agent of each sort."""
    agents: dict[str, dict[str, Any]] = {
        "echo": {},
        "slow": {"run": f"{SAMPLE}:slow", "options": {"log": log, "wait_ms": 50}, "concurrency": 3},
        "moody": {"run": f"{SAMPLE}:moody", "version": "7"},
        "writer": {"run": f"{SAMPLE}:slow", "effect": "write", "options": {"log": f"{log}w"}},
        "rows": {"run": f"{SAMPLE}:upper", "kind": "batch", "options": {"log": f"{log}b"}},
        "plain": {"run": f"{SAMPLE}:slow_plain", "options": {"log": f"{log}p", "wait_ms": 50}, "concurrency": 4},
        "stubborn": {"run": f"{SAMPLE}:stubborn", "timeout_ms": 200},
    }
    with Bench(broker, make_topology(prefix, agents)) as bench:
        yield bench


def test_an_event_echoes_slip_and_task_and_goes_where_the_dispatch_came_from(bench: Bench) -> None:
    bench.host()
    task = {
        "task_id": "t1",
        "tenant": "acme",
        "conversation_id": "c1",
        "labels": {"a": "b"},
        "root_id": "r",
        "depth": 2,
        "deadline_ms": 99_999_999_999_999,
        "slip": {"attempt": 3, "stage": "REGROUND"},
    }
    bench.dispatch("moody", task, {"task_id": "t2"}, partition=1)
    one, two = bench.events("moody", 2)
    assert one["_partition"] == 1
    assert one["_key"] == b"c1"
    assert one["event_id"] == agent_event_id("acme", "t1", "moody", 3, "REGROUND", "COMPLETED")
    assert (one["slip"]["attempt"], one["slip"]["stage"], one["slip"]["agent_id"]) == (3, "REGROUND", "moody")
    identity = {name: one["task"][name] for name in ("task_id", "tenant", "conversation_id", "root_id", "depth")}
    assert identity == {"task_id": "t1", "tenant": "acme", "conversation_id": "c1", "root_id": "r", "depth": 2}
    assert one["task"]["labels"] == [("a", "b")]
    assert one["task"]["deadline_ms"] == 99_999_999_999_999
    assert two["task"]["deadline_ms"] == two["slip"]["deadline_default_ms"]
    said = {name: one[name] for name in ("answer", "confidence", "vote_key", "payload", "citations", "facts")}
    assert said == {
        "answer": "fine",
        "confidence": 0.8,
        "vote_key": "key",
        "payload": '{"n":1}',
        "citations": ["a", "b"],
        "facts": ["f"],
    }
    assert (one["tokens_in"], one["tokens_out"], one["cost_microusd"], one["agent_version"]) == (3, 4, 5, "7")
    assert one["slip"]["routed_at"] <= one["started_at"] <= one["finished_at"]


def test_one_conversation_is_served_in_order_and_others_beside_it_within_the_bound(bench: Bench, log: str) -> None:
    bench.host()
    tasks = [{"task_id": f"{c}{i}", "conversation_id": c} for i in range(5) for c in ("a", "b", "c", "d")]
    bench.dispatch("slow", *tasks)
    events = bench.events("slow", 20)
    for conversation in "abcd":
        expected = [f"{conversation}{i}" for i in range(5)]
        assert [task for task in CALLS[log] if task[0] == conversation] == expected
        assert [e["task"]["task_id"] for e in events if e["task"]["conversation_id"] == conversation] == expected
    assert max(RUNNING[log]) == 3, "three at once, and no more"
