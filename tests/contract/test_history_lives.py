"""A task's whole life: what it was before, its panel, its re-grounding, its votes, what it caused; and how it reads."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pyarrow as pa
import pytest
from rich.console import Console

from console.cli.show import tree_of
from schemas.deadletter import Origin, headers
from schemas.redrive import Redriven, marker_headers
from streams.history.lives import life
from streams.history.queries import History
from streams.history.tables import DEAD_LETTERS, REDRIVES, rows_of_dead_topic
from tests.support.history import T0_US, slip
from tests.support.history_door import migrated, opened
from tests.support.history_rows import Rows, identity, identity_free, insert, note, put, raw, result, samples

DIED_MS = T0_US // 1000 - 60_000


@pytest.fixture(scope="module")
def history() -> Iterator[History]:
    with opened() as door:
        with migrated(door) as client:
            fill(client)
        with closing(History(door.url)) as history:
            yield history


def dispatch(client: Any, agent: str, attempt: int, at: int, offset: int, **more: Any) -> None:
    told = slip(agent, attempt) | {"band": "PANEL", "panel": texts("alpha", "beta"), "routed_at": at, **more}
    body: Rows = {"slip": told, "task": {"task_id": "x", "tenant": "acme", "text": "do"}}
    insert(client, "TaskDispatched", body, [offset], times=2)


def texts(*names: str) -> pa.Array:
    return pa.array([list(names)], pa.list_(pa.field("item", pa.string(), nullable=False)))


def event(client: Any, agent: str, attempt: int, kind: str, at: int, offset: int, **more: Any) -> None:
    stage = more.pop("stage", "WORK")
    body = samples(["x"])["AgentEvent"] | {"event_id": f"{agent}{attempt}{kind}", "kind": kind, "task": identity(["x"])}
    body |= {"slip": slip(agent, attempt) | {"stage": stage}, "started_at": at - 500, "finished_at": at, **more}
    insert(client, "AgentEvent", body, [offset], times=2)


def fill(client: Any) -> None:
    """Dead once and redriven; a panel of which one cascades, that disagrees, is re-grounded, and settles."""
    t = T0_US
    letter = headers(Origin("in.v1", 0, 3, DIED_MS), "UNKNOWN_SCHEMA", "schema 9", "router")
    gone = marker_headers(Redriven(Origin("in.v1", 0, 3, DIED_MS), 5, 40, 1, DIED_MS + 30_000, "deadline_ms"))
    bad = headers(Origin("agents.beta.events.v1", 0, 9, T0_US // 1000), "UNDECODABLE", "cut off", "consensus")
    batch = raw("dead.v1", [5, 6, 7], headers=[letter, gone, bad], keys=[b"x", b"k", b"x"])
    batch.timestamps_ms[:] = [DIED_MS, DIED_MS + 30_000, T0_US // 1000 + 5]
    for name, part in zip((DEAD_LETTERS, REDRIVES), rows_of_dead_topic(batch), strict=True):
        assert part is not None
        put(client, name, part, 2)
    insert(client, "TaskSubmitted", identity_free("x", cause_id="parent", root_id="root", depth=2), [40], topic="in.v1")
    dispatch(client, "alpha", 1, t + 1_000, 1)
    dispatch(client, "beta", 2, t + 1_000, 2, seat=1)
    event(client, "alpha", 1, "FAILED", t + 9_000, 3, error_class="TIMEOUT", error="too slow", agent_version="1.4")
    insert(client, "OrchestratorEvent", note("n", "CASCADED", "x", t + 9_500, agent_id="alpha", attempt=1), [4])
    dispatch(client, "gamma", 3, t + 9_500, 5, reason="CASCADE")
    event(client, "beta", 2, "COMPLETED", t + 20_000, 6, answer="41", vote_key="41", confidence=0.7, agent_version="2")
    priced = {"tokens_in": 100, "tokens_out": 20, "cost_microusd": 1500}
    event(client, "gamma", 3, "COMPLETED", t + 30_000, 7, answer="42", vote_key="42", confidence=0.9, **priced)
    insert(client, "OrchestratorEvent", note("c", "CONFLICT", "x", t + 30_500, reason="NO_CONSENSUS"), [8])
    insert(
        client, "OrchestratorEvent", note("g", "REGROUNDED", "x", t + 30_500, agent_id="gamma", reason="REGROUND"), [9]
    )
    dispatch(client, "gamma", 4, t + 30_500, 10, reason="REGROUND", stage="REGROUND")
    event(
        client,
        "gamma",
        4,
        "COMPLETED",
        t + 12_000_000,
        11,
        stage="REGROUND",
        answer="42",
        vote_key="42",
        confidence=1.0,
    )
    votes = [{"agent_id": "beta", "vote": "41", "confidence": 0.7, "weight": 1.0}]
    votes += [{"agent_id": "gamma", "vote": "42", "confidence": 1.0, "weight": 2.0}]
    ended = result(
        "x", "COMPLETED", "REGROUNDED", decided_at=t + 12_001_000, attempts=4, tokens=120, cost_microusd=1500
    )
    insert(client, "TaskResult", ended | {"agents": texts("gamma"), "votes": [votes], "dissent": texts("beta")}, [12])
    for number in (1, 2):
        child = identity_free(f"child{number}", cause_id="x", submitted_at=t + 13_000_000 + number)
        insert(client, "TaskSubmitted", child, [50 + number], times=2)
    insert(client, "TaskSubmitted", identity_free("foreign", cause_id="x", tenant="other"), [60])
    insert(client, "TaskResult", result("child1", "ESCALATED", "NO_QUORUM", decided_at=t + 14_000_000), [51], times=2)


def test_everything_that_hangs_on_a_task_stands_in_its_life_once(history: History) -> None:
    rows = life(history, history.timeline("x", "acme"))
    assert [row["kind"] for row in rows] == [
        *("DEAD_LETTER", "REDRIVEN", "CAUSE", "SUBMITTED", "DISPATCHED", "DISPATCHED", "FAILED", "CASCADED"),
        *("DISPATCHED", "COMPLETED", "COMPLETED", "CONFLICT", "REGROUNDED", "DISPATCHED", "COMPLETED", "RESULT"),
        *("VOTE", "VOTE", "DEAD_LETTER", "CHILD", "CHILD"),
    ]
    assert {frozenset(row) for row in rows} == {frozenset(rows[3])}, "all of one form"
    votes = [(row["agent_id"], row["status"], row["vote_key"]) for row in rows if row["kind"] == "VOTE"]
    assert votes == [("beta", "DISSENTED", "41"), ("gamma", "AGREED", "42")]
    children = [(row["task_id"], row["status"], row["reason"]) for row in rows if row["kind"] == "CHILD"]
    assert children == [("child1", "ESCALATED", "NO_QUORUM"), ("child2", "", "")]
    assert [row["task_id"] for row in rows if row["kind"] == "CAUSE"] == ["parent"]


def test_it_reads_as_a_tree_that_whoever_is_woken_understands(history: History) -> None:
    out = io.StringIO()
    Console(file=out, width=1000).print(tree_of(life(history, history.timeline("x", "acme"))))
    shown = [line.rstrip() for line in out.getvalue().splitlines()]
    assert shown[0] == "task x  tenant acme  COMPLETED (REGROUNDED) after 12.0 s  4 attempts  120 tokens  $0.0015"
    wanted = (
        "├──      -60.0 s  DEAD_LETTER  UNKNOWN_SCHEMA  router, of in.v1: schema 9",
        "├──      -30.0 s  REDRIVEN  attempt 1  changed deadline_ms",
        "├──      +0.0 ms  CAUSE  parent  depth 2, root root",
        "│   └──      +9.0 ms  FAILED  TIMEOUT  alpha 1.4  too slow",
        "├──      +9.5 ms  CASCADED  FAILED  alpha  attempt 1",
        "│   └──     +20.0 ms  COMPLETED  beta 2  confidence 0.7  vote 41  41",
        "│   └──     +30.0 ms  COMPLETED  confidence 0.9  vote 42  120 tokens  $0.0015  42",
        "├──     +12.0 s  RESULT  COMPLETED  REGROUNDED  gamma  120 tokens  $0.0015",
        "│   ├──     +12.0 s  VOTE  DISSENTED  beta  confidence 0.7  vote 41  weight 1",
        "└──     +13.0 s  CHILD  child2  do",
    )
    packed = [" ".join(line.split()) for line in shown]
    for line in wanted:
        assert " ".join(line.split()) in packed, "\n".join(shown)


def test_an_open_task_says_whom_it_waits_for(history: History) -> None:
    rows = [row for row in history.timeline("x", "acme") if row["kind"] in ("SUBMITTED", "DISPATCHED")]
    out = io.StringIO()
    Console(file=out, width=1000).print(tree_of(rows))
    assert "no result yet  waiting for alpha, beta, gamma, gamma" in out.getvalue()
