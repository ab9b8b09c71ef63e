"""Small worlds for the cell and its judge: a topology with every kind of route, and records in both their shapes.

I/O: none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from schemas.ids import agent_event_id
from schemas.records import record, table
from schemas.topology import Topology
from streams.core.columns import Dispatches, Events, Submissions
from streams.core.effects import Dispatch, Note, Result
from streams.core.task import Slip

T0_MS = 1_700_000_000_000

AGENTS: dict[str, dict[str, Any]] = {
    "alpha": {"effect": "read", "timeout_ms": 2_000},
    "beta": {"effect": "read", "timeout_ms": 3_000, "accuracy": 0.9},
    "gamma": {"effect": "idempotent", "timeout_ms": 1_000, "grounded": True},
    "delta": {"effect": "write", "timeout_ms": 2_000},
    "omega": {"effect": "read", "timeout_ms": 4_000, "confidence_when_unstated": 0.6},
}
ROUTES: dict[str, dict[str, Any]] = {
    "money": {
        "agents": ["alpha", "beta", "gamma"],
        "phrases": ["revenue", {"phrase": "margin", "confidence": 0.6}],
        "fallback": {"agent": "omega", "answer": "nobody knows"},
        "low_value_answer": "a rule says {intent}",
        "deadline_ms": 8_000,
    },
    "papers": {"agents": ["beta", "delta"], "phrases": ["contract"], "fallback": {"answer": "read it yourself"}},
    "deeds": {"agents": ["delta", "alpha"], "phrases": ["file an incident"], "fallback": {"agent": "omega"}},
    "talk": {
        "agents": ["gamma", "alpha", "beta"],
        "panel": ["alpha", "gamma"],
        "phrases": ["chat"],
        "fallback": {"agent": "beta"},
    },
    # Its fallback agent is outside of the chain, and may sit in its panels.
    "asides": {
        "agents": ["alpha", "beta"],
        "panel": ["alpha", "beta", "omega"],
        "phrases": ["by the way"],
        "fallback": {"agent": "omega", "answer": "never mind"},
    },
}


# "acme" differs from everyone, "corner" in one thing, "same" in nothing; others are not named.
TENANTS: dict[str, dict[str, Any]] = {
    "acme": {"value_tier": "HIGH", "deadline_ms": 6_000},
    "corner": {"value_tier": "LOW"},
    "same": {},
}


def topology(**changes: Any) -> Topology:
    agents = {name: {"run": "agents.builtin.echo:reply", **agent} for name, agent in AGENTS.items()}
    return Topology.model_validate(
        {"agents": agents, "routes": ROUTES, "tenants": TENANTS, "default_route": "money", **changes}
    )


def submissions(tasks: Sequence[Mapping[str, Any]], first_offset: int = 0) -> Submissions:
    """Column form of TaskSubmitted records in the shape of dicts; the datum of a task names it, for recognition."""
    defaults = record("TaskSubmitted").defaults
    names = record("TaskSubmitted").arrow.names
    columns = {name: [task.get(name, defaults.get(name)) for task in tasks] for name in names}
    columns["labels"] = [list((task.get("labels") or {}).items()) for task in tasks]
    ids = [str(task["task_id"]).encode() for task in tasks]
    offsets = list(range(first_offset, first_offset + len(tasks)))
    return Submissions(
        batch=table("TaskSubmitted", columns, len(tasks)),
        keys=ids,
        frames=[b"frame"] * len(tasks),
        datums=[f"{task.get('tenant', 'default')}/{task['task_id']}".encode() for task in tasks],
        offsets=offsets,
        appended_ms=[T0_MS + offset for offset in offsets],
    )


def event(slip: Slip, task: Mapping[str, Any], kind: str = "COMPLETED", **fields: Any) -> dict[str, Any]:
    """An AgentEvent in the shape of a dict."""
    tenant = task.get("tenant", "default")
    ordinal = fields.pop("ordinal", 0)
    identity = ("conversation_id", "root_id", "cause_id", "traceparent", "labels", "submitted_at")
    defaults = record("TaskSubmitted").defaults
    return {
        "event_id": agent_event_id(tenant, task["task_id"], slip.agent_id, slip.attempt, slip.stage, kind, ordinal),
        "kind": kind,
        "slip": slip._asdict(),
        "task": {
            "task_id": task["task_id"],
            "tenant": tenant,
            "depth": 0,
            "deadline_ms": T0_MS,
            **{name: task.get(name, defaults.get(name)) for name in identity},
        },
        **({"answer": "yes", "confidence": 0.9, "citations": ["page 1"]} if kind == "COMPLETED" else {}),
        **fields,
    }


def events(records: Sequence[Mapping[str, Any]]) -> Events:
    kind = record("AgentEvent")
    rows = [{**{name: kind.defaults.get(name) for name in kind.arrow.names}, **each} for each in records]
    for row in rows:
        row["task"] = {**row["task"], "labels": list((row["task"]["labels"] or {}).items())}
    return Events(
        batch=pa.RecordBatch.from_pylist(rows, schema=kind.arrow),
        keys=[str(row["task"]["task_id"]).encode() for row in rows],
    )


def dispatch_facts(dispatches: Sequence[tuple[Dispatch, Mapping[str, Any]]], appended_ms: Sequence[int]) -> Dispatches:
    """What the inboxes hold of these dispatches, each with its task."""
    kind = record("TaskDispatched")
    task_record = record("TaskSubmitted")
    rows = []
    for dispatch, task in dispatches:
        full = {name: task.get(name, task_record.defaults.get(name)) for name in task_record.arrow.names}
        full["labels"] = list((task.get("labels") or {}).items())
        rows.append({"slip": dispatch.slip._asdict(), "task": full})
    return Dispatches(
        batch=pa.RecordBatch.from_pylist(rows, schema=kind.arrow),
        keys=[dispatch.key for dispatch, _ in dispatches],
        frames=[dispatch.frame for dispatch, _ in dispatches],
        datums=[dispatch.datum for dispatch, _ in dispatches],
        appended_ms=appended_ms,
    )


def note_facts(notes: Sequence[Note]) -> pa.RecordBatch:
    columns: dict[str, Any] = {
        "event_id": [note.event_id for note in notes],
        "kind": [note.kind for note in notes],
        "reason": [note.reason for note in notes],
        "tenant": [note.id[0] for note in notes],
        "task_id": [note.id[1] for note in notes],
        "attempt": [note.attempt for note in notes],
        "at": [note.at for note in notes],
    }
    return table("OrchestratorEvent", columns, len(notes))


def result_facts(results: Sequence[Result]) -> pa.RecordBatch:
    columns: dict[str, Any] = {
        "tenant": [result.id[0] for result in results],
        "task_id": [result.id[1] for result in results],
        "status": [result.status for result in results],
        "reason": [result.reason for result in results],
        "submitted_at": [result.identity.submitted_at for result in results],
        "decided_at": [result.decided_at for result in results],
    }
    return table("TaskResult", columns, len(results))
