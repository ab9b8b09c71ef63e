"""What agents are shown, on the real broker: the same after a crash as before it, and nothing of anybody else's."""

from __future__ import annotations

import json
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from agents.directives import instruction, pinning, publish, resolved, revocation
from agents.memory.canonical import window_hash
from agents.memory.fold import refold
from agents.memory.model import Fact, Key
from agents.memory.window import window
from schemas.records import record
from tests.support.agents_bench import Bench, make_topology, until
from tests.support.memory_logs import logged, remembered

pytestmark = pytest.mark.broker

SAMPLE = "tests.support.agents_sample"
REMEMBERS = {"run": f"{SAMPLE}:remembering", "timeout_ms": 60_000}
QUICK = {"session.timeout.ms": 2000, "heartbeat.interval.ms": 500}


def shown_to(events: list[dict[str, Any]]) -> dict[tuple[str, str], Mapping[str, Any]]:
    return {(each["task"]["tenant"], each["task"]["task_id"]): json.loads(each["payload"]) for each in events}


def test_a_context_after_a_crash_is_what_it_would_have_been_without(broker: str, prefix: str, tmp_path: Path) -> None:
    told = instruction("mind", "Never name a price.", at=1, by="ada")
    mind = {**REMEMBERS, "summary": {"run": "agents.builtin.brief:brief"}}
    topology = make_topology(prefix, {"mind": mind}, kafka=QUICK, limits={"commit_interval_ms": 300})
    keys = [Key("acme", "mind", "c"), Key("default", "mind", "c")]
    with Bench(broker, topology) as bench:
        publish(bench.producer, bench.codec, bench.topics.memory, [told])
        host = bench.process(tmp_path)
        asked = 0
        for round_ in range(3):
            for _ in range(13):
                for key in keys:
                    task = {"task_id": f"t{asked}", "tenant": key.tenant, "conversation_id": "c"}
                    bench.dispatch("mind", {**task, "text": f"question of {key.tenant} {asked}"})
                asked += 1
            bench.events("mind", 26 * round_ + 7)
            if round_ < 2:
                host.signal(signal.SIGKILL)
                host.kill()
                host = bench.process(tmp_path)
        events = bench.events("mind", 78)
        host.kill()
        shown = shown_to(events)
        for key in keys:
            interactions, models = logged(bench, key), remembered(bench, key).models
            assert [each.ordinal for each in interactions] == list(range(1, 40))
            assert {each.first for each in models} >= {1, 11}, "what a host had no time for, the next one had made"
            assert len({each.epoch for each in interactions}) > 1, "several hosts took part"
            for number, each in enumerate(interactions):
                state = refold(key, interactions[:number], models=models)
                expected = window(state, directives=resolved([told]))
                assert shown[key.tenant, each.task_id]["hash"] == window_hash(expected)
            last = shown[key.tenant, interactions[-1].task_id]
            assert "Never name a price." in last["text"]
            assert "In short: question" in last["text"]
            other = next(each for each in keys if each != key)
            assert f"question of {other.tenant} " not in json.dumps(shown[key.tenant, interactions[-1].task_id])


def test_people_pin_unpin_and_revoke_while_the_agent_serves(broker: str, prefix: str) -> None:
    with Bench(broker, make_topology(prefix, {"mind": REMEMBERS})) as bench:
        bench.host()
        key = Key("default", "mind", "c")

        def ask(number: int) -> Mapping[str, Any]:
            task = {"task_id": f"t{number}", "conversation_id": "c", "text": f"matter {number}"}
            bench.dispatch("mind", task)
            return shown_to(bench.events("mind", number + 1))["default", f"t{number}"]

        ask(0)
        assert ask(1)["facts"] == ["matter 0 is settled."]
        poisoned = logged(bench, key)[0]
        own = Fact.of(key, "pinned by hand")
        words = [
            pinning(key, own, at=1, by="ada", pinned=True),
            pinning(Key("other", "mind", "c"), own, at=1, by="ada", pinned=True),
            revocation(key, [poisoned.id], reason="wrong", at=2, by="ada"),
        ]
        publish(bench.producer, bench.codec, bench.topics.memory, words)
        number = 1

        def is_heard() -> bool:
            nonlocal number
            number += 1
            return "pinned by hand" in ask(number)["facts"]

        until(is_heard)
        seen = ask(number + 1)
        assert "matter 0" not in json.dumps(seen)
        assert "pinned by hand" in seen["text"]
        publish(bench.producer, bench.codec, bench.topics.memory, [pinning(key, own, at=3, by="ada", pinned=False)])
        number += 1
        until(lambda: not is_heard())


def test_a_batch_agent_that_asks_for_it_is_shown_the_context_of_each_row(broker: str, prefix: str) -> None:
    rows = {"run": f"{SAMPLE}:remembering_rows", "kind": "batch", "context": True}
    with Bench(broker, make_topology(prefix, {"rows": rows, "mind": REMEMBERS})) as bench:
        bench.host()
        for number in range(3):
            tasks = [
                {"task_id": f"t{number}", "tenant": tenant, "conversation_id": "c", "text": f"{tenant} says {number}"}
                for tenant in ("a", "ab")
            ]
            bench.dispatch("rows", *tasks, {"task_id": f"alone{number}", "text": "nobody's"})
            bench.dispatch("mind", *({**task, "text": f"to mind {number}"} for task in tasks))
            events = bench.events("rows", 3 * (number + 1))
            bench.events("mind", 2 * (number + 1))
    shown = {place: json.loads(seen) if isinstance(seen, str) else seen for place, seen in shown_to(events).items()}
    for tenant, other in (("a", "ab"), ("ab", "a")):
        last = shown[tenant, "t2"]
        assert [each["asked"] for each in last["interactions"]] == [f"{tenant} says 0", f"{tenant} says 1"]
        assert f"{other} says" not in last["text"].replace(f"{tenant} says", "")
        assert "to mind" not in json.dumps(last)
    assert shown["default", "alone2"]["text"] == ""


def test_words_of_another_agent_are_shown_as_such(broker: str, prefix: str) -> None:
    with Bench(broker, make_topology(prefix, {"mind": REMEMBERS})) as bench:
        bench.host()
        handed = {"task_id": "t0", "text": "sales fell", "cause_id": "root", "labels": {"from_agent": "searcher"}}
        bench.dispatch("mind", {**handed, "conversation_id": "c"})
        bench.events("mind", 1)
        bench.dispatch("mind", {"task_id": "t1", "text": "and now?", "conversation_id": "c"})
        shown = shown_to(bench.events("mind", 2))["default", "t1"]
    assert "asked: [from agent searcher, task root] sales fell" in shown["text"]


def test_what_is_written_behind_a_claim_is_no_memory(broker: str, prefix: str) -> None:
    """A zombie's outcomes are in the log, and in nobody's window."""
    with Bench(broker, make_topology(prefix, {"mind": REMEMBERS})) as bench:
        host = bench.host()
        bench.dispatch("mind", {"task_id": "t0", "text": "matter 0", "conversation_id": "c"})
        bench.events("mind", 1)
        host.stop()
        bench.host()
        bench.dispatch("mind", {"task_id": "t1", "text": "matter 1", "conversation_id": "c"})
        before = bench.events("mind", 2)
        stale = {**{name: value for name, value in before[1].items() if name[0] != "_"}, "epoch": before[0]["epoch"]}
        stale |= {"event_id": "stale", "ordinal": 3, "answer": "zombie"}
        row = pa.RecordBatch.from_pylist([stale], schema=record("AgentEvent").arrow)
        bench.producer.send(bench.topics.events("mind"), 0, bench.codec.encode(row, "AgentEvent"), [b"c"])
        bench.producer.flush(10)
        found = logged(bench, Key("default", "mind", "c"))
    assert [each.answer for each in found] == ["Noted: matter 0.", "Noted: matter 1."]
