"""Lives of tasks as their topics would hold them, played by the oracle: for tests of who judges them.

I/O: none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from random import Random
from typing import Any

from loadtest.judge import Facts
from loadtest.oracle import Action, Dispatch, Note, Oracle, Result
from schemas.ids import agent_event_id
from schemas.records import record
from schemas.topology import Topology
from tests.support.scenes import T0_MS

TEXTS = ("revenue of May", "our margin", "the contract", "file an incident", "chat", "by the way", "hello")


def life(topology: Topology, seed: int, task_id: str = "t") -> Facts:
    """What becomes of a random task: agents that answer, fail, refuse, are silent or late."""
    draw, oracle = Random(seed), Oracle(topology)
    task = submission(
        task_id,
        text=draw.choice(TEXTS),
        confidence=draw.choice([None, 0.3, 0.65, 0.95]),
        value_tier=draw.choice(["UNKNOWN", "LOW", "MEDIUM", "HIGH"]),
        conversation_id=draw.choice([None, "c"]),
    )
    facts: dict[str, list[Any]] = {name: [] for name in ("dispatches", "events", "notes", "results")}
    now_ms, waiting = T0_MS, list[tuple[int, dict[str, Any]]]()

    def take(actions: list[Action]) -> None:
        for action in actions:
            keep(facts, task, action, now_ms)
            if isinstance(action, Dispatch) and draw.random() > 0.2:
                due_ms = now_ms + draw.choice([3, 40, 40, 200, action.timeout_ms + 5_000])
                waiting.append((due_ms, outcome(draw, task, facts["dispatches"][-1])))

    take(oracle.submit(task, now_ms))
    while waiting or oracle.in_flight:
        waiting.sort(key=lambda each: each[0])
        now_ms += 100 if not waiting else max(0, min(100, waiting[0][0] - now_ms))
        take(oracle.tick(now_ms))
        if waiting and waiting[0][0] <= now_ms:
            _, event = waiting.pop(0)
            event["finished_at"] = now_ms * 1000
            facts["events"].append(event)
            take(oracle.outcome(event, now_ms))
    return Facts([task], **facts)


def submission(task_id: str, **fields: Any) -> dict[str, Any]:
    """A whole TaskSubmitted."""
    schema = record("TaskSubmitted")
    return {**{name: schema.defaults.get(name) for name in schema.arrow.names}, "task_id": task_id, **fields}


def outcome(draw: Random, task: Mapping[str, Any], dispatch: Mapping[str, Any]) -> dict[str, Any]:
    """An agent's answer, or what kept it from one."""
    slip = dispatch["slip"]
    kind = draw.choice(["COMPLETED"] * 5 + ["FAILED", "FAILED", "REFUSED"])
    answered = kind == "COMPLETED"
    return {
        "event_id": agent_event_id(
            task["tenant"], task["task_id"], slip["agent_id"], slip["attempt"], slip["stage"], kind, 0
        ),
        "kind": kind,
        "slip": slip,
        "task": {name: task[name] for name in ("task_id", "tenant")},
        "answer": draw.choice(["yes", "Yes", "no", "maybe"]) if answered else None,
        "vote_key": None,
        "payload": None,
        "confidence": draw.choice([None, 0.9, 0.75, 0.5]) if answered else None,
        "citations": draw.choice([[], ["page 2"]]) if answered else [],
        "error_class": draw.choice(["INTERNAL", "OVERLOADED", "WRONG_INPUT", "TIMEOUT"]) if kind == "FAILED" else None,
        "tokens_in": 3,
        "tokens_out": 2,
        "cost_microusd": 7,
    }


def keep(facts: dict[str, list[Any]], task: Mapping[str, Any], action: Action, now_ms: int) -> None:
    """The record of an action, in its place among the facts."""
    if isinstance(action, Dispatch):
        slip = {
            **asdict(action),
            "panel": list(action.panel),
            "chain": list(action.chain),
            "routed_at": now_ms * 1000,
            "deadline_default_ms": action.deadline_ms,
            "attempts": action.attempt,
        }
        facts["dispatches"].append({"slip": slip, "task": task})
    elif isinstance(action, Note):
        said = {"event_id": f"n{len(facts['notes'])}", "at": now_ms * 1000, "agent_id": action.agent_id}
        facts["notes"].append({**said, "kind": action.kind, "reason": action.reason})
    else:
        assert isinstance(action, Result)
        whole = asdict(action) | {"labels": task["labels"], "decided_at": now_ms * 1000}
        whole["votes"] = [{**vote, "vote": vote["key"]} for vote in whole["votes"]]
        facts["results"].append(whole)
