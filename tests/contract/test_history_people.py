"""Views that people open first, exact under duplicates; and how long tables keep their rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest

from schemas.topology_history import HistoryPolicy
from streams.history import retention
from streams.history.door import Door
from streams.history.queries import History
from streams.history.retention import retain
from streams.history.tables import COPIES
from tests.support.history import T0_US, slip
from tests.support.history_door import migrated, opened
from tests.support.history_rows import Rows, insert, note, result, samples

HOUR_MS, DAY_MS = 3_600_000, 86_400_000
VOTE = pa.struct(
    [("agent_id", pa.string()), ("vote", pa.string()), ("confidence", pa.float64()), ("weight", pa.float64())]
)


@pytest.fixture(scope="module")
def door() -> Iterator[Door]:
    with opened() as door:
        yield door


@pytest.fixture
def client(door: Door) -> Iterator[Any]:
    with migrated(door, merging=False) as client:  # only the views may fold
        yield client


@pytest.fixture
def history(door: Door, client: Any) -> Iterator[History]:
    history = History(door.url)
    yield history
    history.close()


def texts(*names: str) -> pa.Array:
    return pa.array([list(names)], pa.list_(pa.field("item", pa.string(), nullable=False)))


def panel(task_id: str, status: str, agreed: tuple[str, ...], **votes: float) -> Rows:
    """A panel's result, and each voter's confidence."""
    said = [{"agent_id": name, "vote": "v", "confidence": sure, "weight": 1.0} for name, sure in votes.items()]
    return result(task_id, status, "CONSENSUS", agents=texts(*agreed), votes=[said], decided_at=T0_US)


def test_calibration_holds_stated_confidence_against_what_the_panel_agreed_on(client: Any, history: History) -> None:
    lives = [
        panel("1", "COMPLETED", ("a", "b"), a=0.95, b=0.72, c=0.91),
        panel("2", "COMPLETED", ("a", "c"), a=1.0, c=0.9, b=0.75),
        panel("3", "ESCALATED", (), a=0.92, b=0.72),  # nobody knows who was right
        panel("4", "COMPLETED", ("a",), a=0.95),  # nor where one voice stands alone
    ]
    for offset, life in enumerate(lives):
        insert(client, "TaskResult", life, [offset], times=3)
        insert(client, "TaskResult", life, [offset + 100])  # written twice: another offset
    rows = history.query(
        "SELECT agent_id, stated, votes, judged, agreed, round(gap, 3) FROM calibration ORDER BY agent_id, stated"
    ).rows
    assert rows == [("a", 0.9, 4, 2, 2, -0.025), ("b", 0.7, 3, 2, 1, 0.235), ("c", 0.9, 2, 2, 1, 0.405)]


def test_agent_minute_and_spend_count_each_fact_once(client: Any, history: History) -> None:
    event = samples(["x", "y", "z"])["AgentEvent"] | {
        "kind": ["COMPLETED", "FAILED", "REFUSED"],
        "cost_microusd": [5, 7, 0],
        "tokens_in": [10, 20, 30],
        "finished_at": [T0_US + 2_000, T0_US + 3_000, T0_US + 61_000_000],
    }
    insert(client, "AgentEvent", event, [1, 2, 3], times=2)
    insert(client, "AgentEvent", event, [11, 12, 13])
    begun = {**samples(["x"])["AgentEvent"], "kind": "STARTED", "event_id": "s", "slip": slip()}
    insert(client, "AgentEvent", begun, [4])  # no outcome
    columns = "outcomes, completed, failed, refused, p50_ms, p99_ms, cost_microusd, tokens_in"
    assert history.query(f"SELECT {columns} FROM agent_minute ORDER BY minute").rows == [
        (2, 1, 1, 0, 2.0, 2.0, 12, 30),
        (1, 0, 0, 1, 60_999.0, 60_999.0, 0, 30),
    ]
    spent = result("x", "COMPLETED", "ANSWERED", decided_at=T0_US, cost_microusd=12, tokens=7, intent="all")
    insert(client, "TaskResult", spent, [1], times=2)
    insert(client, "TaskResult", spent, [9])
    assert history.query("SELECT tenant, intent, tasks, cost_microusd, tokens FROM spend").rows == [
        ("acme", "all", 1, 12, 7)
    ]


def test_cascades_and_conflicts_count_each_fact_once(client: Any, history: History) -> None:
    for offset in (1, 5):
        insert(
            client, "OrchestratorEvent", note("k", "CASCADED", "x", T0_US, agent_id="a", attempt=1), [offset], times=2
        )
        insert(client, "OrchestratorEvent", note("c", "CONFLICT", "x", T0_US), [offset + 1], times=2)
        insert(client, "TaskResult", result("x", "ESCALATED", "NO_CONSENSUS", decided_at=T0_US), [offset], times=2)
        insert(client, "TaskResult", result("other", "COMPLETED", "ANSWERED", decided_at=T0_US), [offset + 1])
    insert(client, "OrchestratorEvent", note("open", "CONFLICT", "y", T0_US), [20])
    assert history.query("SELECT task_id, agent_id, attempt, reason FROM cascades").rows == [("x", "a", 1, "FAILED")]
    assert history.query("SELECT task_id, status, outcome FROM conflicts ORDER BY task_id").rows == [
        ("x", "ESCALATED", "NO_CONSENSUS"),
        ("y", "", ""),
    ]


def ttl_of(client: Any, table: str) -> str:
    shown = "SELECT engine_full FROM system.tables WHERE database = 'pointsman' AND name = {table:String}"
    return str(client.query(shown, {"table": table}).result_rows[0][0])


class Logged:
    """What was logged at info."""

    def __init__(self) -> None:
        self.tables: list[str] = []

    def info(self, _: str, *, table: str, **__: object) -> None:
        self.tables.append(table)


def test_what_the_topology_says_becomes_the_ttl_of_a_table_and_is_logged(
    client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert retain(client, HistoryPolicy()) == {}, "seven days of health counts are what the migrations made"
    logged = Logged()
    monkeypatch.setattr(retention, "log", logged)
    changed = retain(client, HistoryPolicy(tasks_retention_ms=DAY_MS, agent_events_retention_ms=30 * DAY_MS))
    assert changed == {
        "tasks_log": "for ever -> toDateTime(appended_at) + toIntervalSecond(86400)",
        "agent_events_log": "for ever -> toDateTime(appended_at) + toIntervalSecond(2592000) "
        "WHERE NOT ((tenant = '') AND (task_id = ''))",
        "conversation_outcomes_log": "for ever -> toDateTime(appended_at) + toIntervalSecond(2592000) "
        "WHERE NOT ((tenant = '') AND (task_id = ''))",
        "conversation_tasks_log": "for ever -> toDateTime(appended_at) + toIntervalSecond(86400)",
        "conversation_summaries": "for ever -> toDateTime(appended_at) + toIntervalSecond(2592000)",
    }
    assert logged.tables == list(changed)
    assert "toIntervalSecond(86400)" in ttl_of(client, "tasks_log")
    assert retain(client, HistoryPolicy(tasks_retention_ms=DAY_MS, agent_events_retention_ms=30 * DAY_MS)) == {}
    made = {"tasks_log", "agent_events_log", *COPIES, "conversation_summaries"}
    assert set(retain(client, HistoryPolicy(tasks_retention_ms=HOUR_MS))) == made
    assert "TTL" not in ttl_of(client, "agent_events_log")
    assert set(retain(client, HistoryPolicy(health_counts_retention_ms=None))) == {
        "tasks_log",
        "health_counts_log",
        "conversation_tasks_log",
    }
    assert "merge_selector_base = 100" in ttl_of(client, "tasks_log"), "settings stay"


def test_what_is_too_old_goes_and_claims_stay(client: Any, history: History) -> None:
    nobody = {"task_id": "", "tenant": "", "submitted_at": 0, "deadline_ms": 0}
    claim: Rows = {"event_id": "c", "kind": "NOTE", "slip": {**slip(), "reason": "CLAIMED"}, "task": nobody, "epoch": 3}
    insert(client, "AgentEvent", claim, [1])
    insert(client, "AgentEvent", samples(["x"])["AgentEvent"], [2])  # of the year 2023
    client.command("SYSTEM START MERGES")
    retain(client, HistoryPolicy(agent_events_retention_ms=HOUR_MS))
    client.command("OPTIMIZE TABLE pointsman.agent_events_log FINAL")
    assert history.query("SELECT event_id FROM agent_events").rows == [("c",)]


def test_every_key_of_the_policy_names_a_table(client: Any) -> None:
    there = {name for (name,) in client.query("SHOW TABLES FROM pointsman").result_rows}
    assert {table for table, _ in HistoryPolicy().tables()} <= there
