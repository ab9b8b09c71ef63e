"""The views: each fact once, however often its record was written or its block inserted, and read by primary key."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest

from schemas.deadletter import Origin, headers
from schemas.epochs import EPOCH_MAX, LogEpochs
from schemas.errors import UnreachableError
from schemas.redrive import Redriven, marker_headers
from streams.history.door import Door
from streams.history.queries import History, QueryError
from streams.history.tables import DEAD_LETTERS, REDRIVES, TABLES, dead_rows_of, rows_of_dead_topic
from tests.support.history import KINDS, T0_US, slip, unique
from tests.support.history_door import migrated, opened
from tests.support.history_rows import Rows, identity_free, insert, note, put, raw, result, samples

CONTROL = ("BreakerState", "AgentCard", "PauseState", "MemoryDirective")


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


def view_of(name: str) -> str:
    return TABLES[name].name.removesuffix("_log")


@pytest.mark.parametrize("name", list(TABLES))
def test_a_block_inserted_twice_shows_each_fact_once(client: Any, history: History, name: str) -> None:
    if name == "HealthCounts":  # old counts are dropped at once
        client.command("ALTER TABLE pointsman.health_counts_log REMOVE TTL")
    ids = ["a", "b", "c"]
    insert(client, name, samples(ids)[name], [7, 8, 9], times=3)
    assert history.query(f"SELECT count() FROM {TABLES[name].name}").rows == [(9,)]
    assert history.query(f"SELECT count() FROM {view_of(name)}").rows == [(3,)]


@pytest.mark.parametrize("name", [name for name in TABLES if name not in CONTROL])
def test_of_several_records_of_a_fact_the_lowest_offset_counts(client: Any, history: History, name: str) -> None:
    if name == "HealthCounts":
        client.command("ALTER TABLE pointsman.health_counts_log REMOVE TTL")
    offsets = [40, 12, 99, 13]
    for each in offsets:  # a block each, in no order
        insert(client, name, samples(["a"])[name], [each])
    insert(client, name, samples(["a"] * 3)[name], [70, 12, 14])  # and several in one block
    assert history.query(f'SELECT "offset" FROM {view_of(name)}').rows == [(12,)]
    client.command("SYSTEM START MERGES")
    client.command(f"OPTIMIZE TABLE pointsman.{TABLES[name].name} FINAL")
    assert history.query(f'SELECT "offset" FROM {TABLES[name].name}').rows == [(12,)]


def test_control_records_are_facts_of_their_own(client: Any, history: History) -> None:
    for name in CONTROL:
        insert(client, name, samples(["a", "a"])[name], [1, 2], times=2)
        assert history.query(f"SELECT count() FROM {view_of(name)}").rows == [(2,)]


def test_any_history_of_retries_and_repeats(client: Any, history: History) -> None:
    """Random blocks of random records, inserted at random again: the views show the set of what was written."""
    rng = random.Random(7)
    ids = [f"t{number}" for number in range(40)]
    written: set[str] = set()
    for _ in range(30):
        some = rng.choices(ids, k=rng.randint(1, 15))
        written.update(some)
        for name in ("TaskSubmitted", "TaskDispatched", "AgentEvent", "TaskResult", "OrchestratorEvent"):
            offsets = rng.sample(range(1000), len(some))
            insert(client, name, samples(some)[name], offsets, times=rng.randint(1, 2))
    tasks = {("acme", each) for each in written}
    expected: dict[str, set[Any]] = {
        "tasks": tasks,
        "results": tasks,
        "dispatches": {(*each, "a", 1, "WORK") for each in tasks},
        "agent_events": {f"e-{each}" for each in written},
        "orchestrator_events": {f"n-{each}" for each in written},
    }
    for kind, facts in expected.items():
        seen = history.facts(kind)
        assert unique(seen)
        assert set(seen) == facts
    rollup = history.query("SELECT sum(outcomes), sum(completed), any(p50_ms) FROM agent_minute").rows
    assert rollup == [(len(written), len(written), 2.5)]


def test_dead_letters_by_their_origin(client: Any, history: History) -> None:
    letters = [
        headers(Origin("in.v1", 3, 17, 1_700_000_000_000), "UNDECODABLE", "why", "router"),
        headers(Origin("in.v1", 3, 17, 1_700_000_000_000), "UNDECODABLE", "why", "router", attempt=2),
        headers(Origin("in.v1", 2**40, 2**62, -1), "OVERSIZED", "", "history"),
        [("foreign", b"\xff")],
    ]
    keys, values = [b"\xff\x00", None, "é".encode(), None], [b"\x00" * 10, b"x", None, b""]
    put(client, DEAD_LETTERS, dead_rows_of(raw("dead.v1", [4, 5, 6, 7], headers=letters, keys=keys, values=values)), 2)
    assert sorted(history.facts("dead_letters"), key=str) == [("in.v1", 2**40, 2**62), ("in.v1", 3, 17)]
    columns = "origin_topic, origin_partition, origin_offset, reason, detail, component, attempt, key, size"
    rows = history.query(f"SELECT {columns} FROM dead ORDER BY origin_offset DESC").rows
    assert rows == [
        ("in.v1", 2**40, 2**62, "OVERSIZED", "", "history", 1, "é", None),
        ("in.v1", 3, 17, "UNDECODABLE", "why", "router", 1, "0xFF00", 10),
        ("dead.v1", 0, 7, "", "", "", 1, None, 0),
    ]
    found = history.query("SELECT toUnixTimestamp64Milli(origin_at) FROM dead ORDER BY origin_offset DESC").rows
    assert found == [(0,), (1_700_000_000_000,), (T0_US // 1000,)]
    kept = history.query("SELECT hex(key), hex(value) FROM dead_letters WHERE reason = 'UNDECODABLE'").rows
    assert kept == [("FF00", "00" * 10)]


def test_what_went_back_and_what_became_of_it(client: Any, history: History) -> None:
    """Of three letters: one is answered, one died again, one went twice and is not heard of."""
    origins = [Origin("in.v1", 0, number, 1_700_000_000_000) for number in (1, 2, 3, 8)]
    letters = [headers(origin, "UNKNOWN_SCHEMA", "", "router", attempt=1 + (origin.offset > 7)) for origin in origins]
    gone = [Redriven(origins[0], 10, 7, 1, 1_000), Redriven(origins[1], 11, 8, 1, 2_000, "deadline_ms")]
    gone += [Redriven(origins[2], 12, -1, 1, at_ms) for at_ms in (3_000, 4_000)]
    both = [*letters, *map(marker_headers, gone)]
    parts = rows_of_dead_topic(raw("dead.v1", list(range(10, 10 + len(both))), headers=both))
    for name, part in zip((DEAD_LETTERS, REDRIVES), parts, strict=True):
        assert part is not None
        put(client, name, part, 2)
    insert(client, "TaskSubmitted", samples(["a"])["TaskSubmitted"], [7], topic="in.v1")
    insert(client, "TaskResult", result("a", "COMPLETED", "ANSWERED", decided_at=T0_US), [1])
    told = history.query("SELECT origin_offset, changed, task_id, status, died_again FROM redriven ORDER BY at").rows
    assert told == [
        (1, "", "a", "COMPLETED", ""),
        (2, "deadline_ms", "", "", "UNKNOWN_SCHEMA"),
        (3, "", "", "", ""),
        (3, "", "", "", ""),
    ]
    when = "toUnixTimestamp64Milli(redriven_at)"
    found = history.query(f"SELECT origin_offset, redrives, {when}, id FROM dead ORDER BY origin_offset").rows
    assert found == [(1, 1, 1_000, "0:10"), (2, 1, 2_000, "0:11"), (3, 2, 4_000, "0:12"), (8, 0, None, "0:13")]


def test_absurd_numbers_are_kept_or_clamped(client: Any, history: History) -> None:
    fields = samples(["a", "b", "c"])["TaskSubmitted"] | {
        "submitted_at": [-(2**63), 2**63 - 1, 0],
        "deadline_ms": [2**63 - 1, -(2**63), 0],
        "confidence": [float("nan"), float("inf"), -1.0],
        "budget_microusd": [-1, 2**63 - 1, None],
    }
    insert(client, "TaskSubmitted", fields, [1, 2, 3])
    rows = history.query(
        "SELECT toUnixTimestamp64Micro(submitted_at), deadline_ms, toString(confidence), budget_microusd "
        "FROM tasks ORDER BY task_id"
    ).rows
    latest = (2**63 - 1) // 1000
    assert rows == [(0, 2**63 - 1, "nan", -1), (latest, -(2**63), "inf", 2**63 - 1), (0, 0, "-1", None)]
    assert [row["kind"] for row in history.timeline("b")] == ["SUBMITTED"]


@pytest.mark.parametrize("where", ["tenant = 'tenant77' AND task_id = 't1-00077'", "task_id = 't1-00077'"])
def test_a_task_is_read_by_key_and_not_by_scan(client: Any, history: History, where: str) -> None:
    """Two parts of 100,000 tasks of 1,000 tenants; one task reads a granule or two of each, its tenant known or not."""
    n, parts, granule = 100_000, 2, 8_192
    for part in range(parts):
        ids = [f"t{part}-{number:05}" for number in range(n)]
        names = [f"tenant{number % 1000}" for number in range(n)]
        insert(client, "TaskSubmitted", {"task_id": ids, "tenant": names, "text": "do"}, list(range(n)))
    answer = client.query(f"SELECT * FROM pointsman.task_timeline WHERE {where}")
    assert len(answer.result_rows) == 1
    assert 0 < int(answer.summary["read_rows"]) <= 2 * parts * granule


def test_the_timeline_of_a_task_that_had_everything(client: Any, history: History) -> None:
    """Written out of order; clocks of producer, worker and host differ; one turn's decisions have one time."""
    t = T0_US
    insert(client, "TaskSubmitted", identity_free("x", submitted_at=t + 60_000_000), [0])
    turn = t + 5_000
    insert(client, "TaskResult", result("x", "DEGRADED", "FALLBACK_AGENT", decided_at=t + 9_000), [3])
    insert(client, "OrchestratorEvent", note("late", "LATE_VOTE", "x", t + 12_000, attempt=1), [9])
    insert(client, "OrchestratorEvent", note("n1", "CASCADED", "x", turn, attempt=1), [4])
    for attempt, at in ((2, turn), (1, t + 1_000)):
        fields = {"slip": slip("ab"[attempt - 1], attempt, routed_at=at), "task": {"task_id": "x", "tenant": "acme"}}
        insert(client, "TaskDispatched", fields | {"task": {**fields["task"], "text": "do"}}, [attempt])
    for number, (kind, attempt, started, finished) in enumerate(
        [
            ("COMPLETED", 2, t + 6_000, t + 8_000),
            ("STARTED", 2, t + 6_000, 0),
            ("FAILED", 1, t + 2_000, t + 4_000),
            ("STARTED", 1, t + 2_000, 0),
        ]
    ):
        event: Rows = {
            "event_id": f"{kind}{attempt}",
            "kind": kind,
            "slip": slip("ab"[attempt - 1], attempt),
            "task": {"task_id": "x", "tenant": "acme", "submitted_at": t, "deadline_ms": 0},
            "started_at": started,
            "finished_at": finished,
            "error_class": "TIMEOUT" if kind == "FAILED" else None,
        }
        insert(client, "AgentEvent", event, [number], times=2)
    insert(client, "TaskSubmitted", identity_free("y"), [1])
    insert(client, "TaskSubmitted", identity_free("x", tenant="other"), [2])

    rows = history.timeline("x", "acme")
    assert [(row["kind"], row["agent_id"], row["attempt"], row["reason"]) for row in rows] == [
        ("SUBMITTED", "", 0, ""),
        ("DISPATCHED", "a", 1, "ROUTED"),
        ("STARTED", "a", 1, ""),
        ("FAILED", "a", 1, "TIMEOUT"),
        ("CASCADED", "", 1, "FAILED"),
        ("DISPATCHED", "b", 2, "ROUTED"),
        ("STARTED", "b", 2, ""),
        ("COMPLETED", "b", 2, ""),
        ("RESULT", "b", 2, "FALLBACK_AGENT"),
        ("LATE_VOTE", "", 1, "FAILED"),
    ]
    assert rows[8]["status"] == "DEGRADED"
    assert [row["tenant"] for row in history.timeline("x")] == ["acme"] * 10 + ["other"]
    assert history.timeline("nobody") == []
    assert [row[0] for row in history.query("SELECT task_id FROM cascades").rows] == ["x"]


def test_what_a_zombie_wrote_is_kept_and_counts_for_no_agent(client: Any, history: History) -> None:
    def claim(epoch: int, offset: int) -> None:
        nobody = {"task_id": "", "tenant": "", "submitted_at": 0, "deadline_ms": 0}
        fields: Rows = {"event_id": f"claim {epoch}", "kind": "NOTE", "slip": {**slip(), "reason": "CLAIMED"}}
        insert(client, "AgentEvent", {**fields, "task": nobody, "epoch": epoch}, [offset], times=2)

    claim(6, 10)
    claim(7, 20)
    claim(5, 25)  # a zombie's, as void as its outcomes
    for task_id, epoch, offset in [("first", 6, 11), ("late", 6, 21), ("owner's", 7, 22), ("later", 5, 30)]:
        insert(client, "AgentEvent", {**samples([task_id])["AgentEvent"], "epoch": epoch}, [offset], times=2)
    fenced = history.query("SELECT event_id FROM fenced_events ORDER BY offset").rows
    assert fenced == [("e-late",), ("claim 5",), ("e-later",)]
    assert history.query("SELECT max(epoch), count() FROM agent_claims").rows == [(7, 3)]
    assert history.query("SELECT sum(outcomes) FROM agent_minute").rows == [(2,)]
    assert len(history.facts("agent_events")) == 7, "all of them are facts"


def test_an_epoch_that_nobody_can_have_makes_nothing_void_but_what_bears_it(client: Any, history: History) -> None:
    def claim(epoch: int, offset: int, version: str) -> None:
        nobody = {"task_id": "", "tenant": "", "submitted_at": 0, "deadline_ms": 0}
        fields: Rows = {"event_id": f"claim {epoch}", "kind": "NOTE", "slip": {**slip(), "reason": "CLAIMED"}}
        fields |= {"agent_version": version}
        insert(client, "AgentEvent", {**fields, "task": nobody, "epoch": epoch}, [offset])

    insert(client, "AgentEvent", {**samples(["forged"])["AgentEvent"], "epoch": EPOCH_MAX + 1}, [5])
    claim(6, 10, "one")
    claim(EPOCH_MAX + 1, 15, "forged")
    claim(EPOCH_MAX, 20, "two")
    for task_id, epoch, offset in [
        *(("first", 6, 11), ("second", 6, 16), ("beyond", EPOCH_MAX + 1, 17)),
        *(("below", -1, 18), ("late", 6, 21), ("highest", EPOCH_MAX, 22)),
    ]:
        insert(client, "AgentEvent", {**samples([task_id])["AgentEvent"], "epoch": epoch}, [offset])
    log = LogEpochs()
    void = []
    for event_id, offset, epoch in history.query(
        "SELECT event_id, offset, epoch FROM agent_events ORDER BY offset"
    ).rows:
        log.note(offset, epoch)
        void += [(event_id,)] if log.is_void(offset, epoch) else []
    assert [event_id for (event_id,) in void] == ["e-forged", f"claim {EPOCH_MAX + 1}", "e-beyond", "e-late"]
    assert history.query("SELECT event_id FROM fenced_events ORDER BY offset").rows == void
    assert history.query("SELECT sum(outcomes) FROM agent_minute").rows == [(4,)]
    assert history.query("SELECT agent_version FROM agent_versions ORDER BY offset").rows == [("one",), ("two",)]
    agents = pa.array([["a"]], pa.list_(pa.field("item", pa.string(), nullable=False)))
    for offset, task_id in enumerate(("beyond", "first")):
        ended = result(task_id, "COMPLETED", "ANSWERED", decided_at=T0_US, agents=agents)
        insert(client, "TaskResult", ended, [offset])
    answered = history.query("SELECT DISTINCT task_id FROM answered_by ORDER BY task_id").rows
    assert answered == [("first",)]


def test_a_conflict_with_its_outcome(client: Any, history: History) -> None:
    insert(client, "OrchestratorEvent", note("c", "CONFLICT", "x", T0_US), [1], times=2)
    insert(client, "TaskResult", result("x", "ESCALATED", "NO_CONSENSUS", decided_at=T0_US), [1], times=2)
    assert history.query("SELECT task_id, status, outcome FROM conflicts").rows == [("x", "ESCALATED", "NO_CONSENSUS")]


def test_every_view_answers_when_there_is_nothing(client: Any, history: History) -> None:
    views = [
        name for (name,) in history.query("SHOW TABLES FROM pointsman NOT LIKE '%_log'").rows if name != "migrations"
    ]
    for_people = {"calibration", "task_timeline", "dead", "redriven", "agent_minute", "cascades", "conflicts", "spend"}
    assert set(KINDS) | {"redrives"} | for_people <= set(views)
    for view in views:
        answer = history.query(f"SELECT * FROM {view}")
        assert answer.rows == []
        assert answer.columns


def test_errors_of_the_reader(history: History) -> None:
    with pytest.raises(QueryError, match="UNKNOWN_TABLE") as raised:
        history.query("SELECT * FROM nowhere")
    assert (raised.value.code, raised.value.name) == (60, "UNKNOWN_TABLE")
    with pytest.raises(UnreachableError, match=r"127\.0\.0\.1:9"):
        History("http://127.0.0.1:9")


@pytest.mark.parametrize("verb", ["DROP TABLE", "TRUNCATE TABLE", "ALTER TABLE", "INSERT INTO"])
def test_nothing_that_asks_the_history_changes_it(history: History, verb: str) -> None:
    end = {"ALTER TABLE": " DELETE WHERE 1", "INSERT INTO": " (task_id) VALUES ('x')"}.get(verb, "")
    with pytest.raises(QueryError) as raised:
        history.query(f"{verb} tasks_log{end}")
    assert raised.value.name == "READONLY"
    assert history.query("SELECT count() AS n FROM tasks_log SETTINGS max_threads = 1").rows == [(0,)]
