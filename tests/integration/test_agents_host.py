"""The host on the real broker: what is dispatched is answered in the agent's log, once, in order and in time."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

import pytest

from schemas import deadletter
from schemas.ids import agent_event_id
from tests.support.agents_bench import Bench, make_topology, now_ms, until
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
    one, two = sorted(bench.events("moody", 2), key=lambda event: str(event["task"]["task_id"]))
    assert one["_partition"] == 1
    assert one["_key"] == b"c1"
    assert one["event_id"] == agent_event_id("acme", "t1", "moody", 3, "REGROUND", "COMPLETED", one["epoch"])
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
    assert (one["tokens_in"], one["tokens_out"], one["cost_microusd"]) == (3, 4, 5)
    assert one["agent_version"].startswith("7+")
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


def outcome(bench: Bench, agent_id: str, *tasks: dict[str, Any]) -> dict[str, tuple[str, str | None]]:
    """Kind and error class by task, once each of these dispatches has its outcome."""
    bench.dispatch(agent_id, *tasks)
    return {e["task"]["task_id"]: (e["kind"], e["error_class"]) for e in bench.events(agent_id, len(tasks))}


def test_whatever_an_agent_does_becomes_an_outcome(bench: Bench) -> None:
    bench.host()
    expected: dict[str, tuple[str, str | None]] = {
        "fail": ("FAILED", "UNREACHABLE"),
        "overloaded": ("FAILED", "OVERLOADED"),
        "wrong": ("FAILED", "WRONG_INPUT"),
        "refuse": ("REFUSED", None),
        **dict.fromkeys(("bug", "exit", "cancel", "number", "sure", "surrogate"), ("FAILED", "INTERNAL")),
        **dict.fromkeys(("nothing", "huge", "surrogate error"), ("FAILED", "INTERNAL")),
        "nan": ("COMPLETED", None),
        "fine": ("COMPLETED", None),
    }
    tasks = [{"task_id": text, "text": text} for text in expected]
    bad_payload: dict[str, Any] = {"task_id": "payload", "text": "fine", "payload": "{"}
    expected["payload"] = ("FAILED", "WRONG_INPUT")
    assert outcome(bench, "moody", *tasks, bad_payload) == expected
    said = {e["task"]["task_id"]: e for e in bench.events("moody", len(expected))}
    assert math.isnan(said["nan"]["confidence"])
    assert said["bug"]["error"] == "KeyError: 'missing'"
    assert said["surrogate error"]["error"].startswith("ValueError: ???")
    assert len(said["surrogate error"]["error"]) == 500
    assert "are allowed" in said["huge"]["error"]
    assert said["number"]["error"] == "text is int, not str"


def test_plain_functions_run_side_by_side_in_threads_within_the_bound(bench: Bench, log: str) -> None:
    bench.host()
    bench.dispatch("plain", *({"task_id": f"t{i}"} for i in range(12)))
    bench.events("plain", 12)
    assert max(RUNNING[f"{log}p"]) == 4


def test_an_attempt_ends_in_time_whatever_its_agent_does(bench: Bench, log: str) -> None:
    bench.host()
    timed_out = ("FAILED", "TIMEOUT")
    patient = {"task_id": "deadline", "deadline_ms": now_ms() + 2_000, "slip": {"timeout_ms": 60_000}}
    assert outcome(bench, "stubborn", {"task_id": "timeout"}, patient) == dict.fromkeys(
        ("timeout", "deadline"), timed_out
    )
    late = {"task_id": "late", "slip": {"routed_at": now_ms() * 1000 - 60_000_000}}
    due = {"task_id": "due", "deadline_ms": now_ms() - 1}
    short = {"task_id": "short", "slip": {"timeout_ms": 30}}
    found = outcome(bench, "slow", late, due, short, {"task_id": "in time"})
    assert found == {
        **dict.fromkeys(("late", "due"), ("FAILED", "OVERLOADED")),
        "short": timed_out,
        "in time": ("COMPLETED", None),
    }
    assert not {"late", "due"} & set(CALLS[log]), "what is over is not begun"


def test_start_is_in_the_log_before_a_write_agent_is_called(broker: str, prefix: str) -> None:
    topology = make_topology(
        prefix,
        {
            "writer": {
                "run": f"{SAMPLE}:witness",
                "effect": "write",
                "options": {"broker": broker, "topic": f"{prefix}agents.writer.events.v1"},
            }
        },
    )
    with Bench(broker, topology) as bench:
        bench.host()
        bench.dispatch("writer", {"task_id": "w"})
        started, completed = bench.events("writer", 1)
    assert (started["kind"], completed["kind"]) == ("STARTED", "COMPLETED")
    assert completed["answer"] == "2", "the agent found its owner's claim and its STARTED in the log"
    assert started["event_id"] == agent_event_id("default", "w", "writer", 1, "WORK", "STARTED", started["epoch"])
    assert started["started_at"] <= completed["started_at"]


def test_a_write_agent_whose_end_is_unclear_says_so(broker: str, prefix: str) -> None:
    topology = make_topology(prefix, {"writer": {"run": f"{SAMPLE}:moody", "effect": "write"}})
    with Bench(broker, topology) as bench:
        bench.host()
        texts = ("bug", "number", "huge", "fail", "refuse")
        found = outcome(bench, "writer", *({"task_id": text, "text": text} for text in texts))
    unclear = ("FAILED", "UNKNOWN_OUTCOME")
    assert found == {
        **dict.fromkeys(("bug", "number", "huge"), unclear),
        "fail": ("FAILED", "UNREACHABLE"),
        "refuse": ("REFUSED", None),
    }


def test_a_dispatch_that_comes_again_is_not_run_again(bench: Bench, log: str) -> None:
    bench.host()
    task = {"task_id": "again", "conversation_id": "c"}
    bench.dispatch("slow", task, task, {"task_id": "other"})
    bench.events("slow", 2)
    bench.dispatch("slow", task, {**task, "slip": {"attempt": 2}}, {**task, "slip": {"stage": "REGROUND"}})
    events = bench.events("slow", 4)
    assert sorted(CALLS[log][:2]) == ["again", "other"]
    assert CALLS[log][2:] == ["again", "again"]
    assert len({event["event_id"] for event in events}) == len(events) == 4


def test_ten_interactions_are_shown_and_nobody_elses_also_after_a_restart(broker: str, prefix: str) -> None:
    with Bench(broker, make_topology(prefix, {"echo": {}, "other": {}})) as bench:
        host = bench.host()
        bench.dispatch("other", {"task_id": "x", "conversation_id": "c", "text": "to another agent"})
        bench.dispatch("echo", {"task_id": "y", "tenant": "b", "conversation_id": "c", "text": "another tenant's"})
        asked = [f"question {i}" for i in range(15)]
        one_by_one = [{"task_id": f"t{i}", "conversation_id": "c", "text": text} for i, text in enumerate(asked)]
        bench.dispatch("echo", *one_by_one[:13])
        bench.events("echo", 14)
        host.stop()
        bench.host()
        bench.dispatch("echo", *one_by_one[13:])
        events = bench.events("echo", 16)
        said = {e["answer"]: json.loads(e["payload"])["earlier"] for e in events}
    for i in range(15):
        assert said[f"question {i}"] == asked[max(0, i - 10) : i]
    assert said["another tenant's"] == []


def test_what_is_no_dispatch_is_dead_lettered_and_costs_its_neighbours_nothing(bench: Bench) -> None:
    bench.host()
    good, other = bench.dispatches("echo", [{"task_id": "a"}, {"task_id": "b"}])
    bench.send("echo", [good, b"\x00\x00\x00\x00\x05junk", good[:20], other], [b"a", b"k1", b"k2", b"b"], partition=1)
    assert [e["task"]["task_id"] for e in bench.events("echo", 2)] == ["a", "b"]
    letters = bench.read(bench.topics.dead, lambda rows: len(rows) >= 2)
    assert [(row["_key"], row["_value"]) for row in letters] == [
        (b"k1", b"\x00\x00\x00\x00\x05junk"),
        (b"k2", good[:20]),
    ]
    read = [deadletter.parse(row["_headers"]) for row in letters]
    origins = [each.origin for each in read if each.origin]
    assert [(o.topic, o.partition, o.offset) for o in origins] == [(bench.topics.inbox("echo"), 1, i) for i in (1, 2)]
    assert {each.component for each in read} == {"host"}
    until(lambda: bench.committed().get((bench.topics.inbox("echo"), 1)) == 4)


def test_a_batch_agent_is_called_with_what_a_poll_brought(bench: Bench, log: str) -> None:
    bench.host()
    texts = ["a", "fail", "refuse", "silent", "b"] + ["more"] * 45
    late = {"task_id": "late", "slip": {"routed_at": 1}}
    found = outcome(bench, "rows", *({"task_id": f"{i}", "text": text} for i, text in enumerate(texts)), late)
    assert [found[str(i)] for i in range(5)] == [
        ("COMPLETED", None),
        ("FAILED", "QUOTA"),
        ("REFUSED", None),
        ("FAILED", "INTERNAL"),
        ("COMPLETED", None),
    ]
    assert found["late"] == ("FAILED", "OVERLOADED"), "it was read too late: that blames no agent"
    events = bench.events("rows", 51)
    assert [e["answer"] for e in events if e["task"]["task_id"] in {"0", "4"}] == ["A", "B"]
    assert sum(map(int, CALLS[f"{log}b rows"])) == 50
    assert len(CALLS[f"{log}b rows"]) < 10, "rows are not sent one by one"


def test_a_batch_that_crashes_fails_its_rows_and_no_others(bench: Bench) -> None:
    bench.host()
    found = outcome(bench, "rows", {"task_id": "1", "text": "crash"}, {"task_id": "2", "text": "x"})
    assert found["1"] == ("FAILED", "INTERNAL")
    bench.dispatch("rows", {"task_id": "3", "text": "y"})
    assert bench.events("rows", 3)[-1]["answer"] == "Y"


def test_a_clean_end_is_quick_and_leaves_nothing_to_do_twice(bench: Bench, log: str) -> None:
    host = bench.host()
    assert host.ready == {"agents": 7, "inboxes": 14}
    bench.dispatch("slow", *({"task_id": f"t{i}"} for i in range(9)))
    until(lambda: len(CALLS[log]) >= 4)
    assert host.stop() < 4
    called = len(CALLS[log])
    assert {e["task"]["task_id"] for e in bench.events("slow", called)} == set(CALLS[log]), "what ran has ended"
    assert called < 9, "what waited was not begun"
    bench.host()
    bench.events("slow", 9)
    assert sorted(CALLS[log]) == sorted({f"t{i}" for i in range(9)}), "each was called once"


def test_cards_say_who_serves_what(bench: Bench) -> None:
    bench.host()
    cards = {row["agent_id"]: row for row in bench.read_cards(7)}
    assert set(cards) == set(bench.topology.agents)
    assert (cards["moody"]["version"][:2], cards["writer"]["effect"], cards["rows"]["kind"]) == ("7+", "write", "batch")
