"""`pointsman replay` over rows of a real ClickHouse: what the history holds comes out as it was, and is compared."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from console.cli.failures import ExitCode
from loadtest.judge import Facts
from schemas.records import record
from streams.history.tables import TABLES, places_of, rows_of
from tests.support import scenes
from tests.support.console import Said, pointsman
from tests.support.contract import breaches, promises
from tests.support.history_door import migrated, opened
from tests.support.history_rows import put, raw
from tests.support.lives import life

LIVES = 40
OWN = ("conversation_id", "traceparent", "submitted_at", "tenant", "task_id")
"""What a result takes over from its task."""


@pytest.fixture(scope="module")
def lives() -> list[Facts]:
    return [life(scenes.topology(), seed, f"t{seed}") for seed in range(LIVES)]


@pytest.fixture(scope="module")
def url(lives: Sequence[Facts]) -> Iterator[str]:
    with opened() as door:
        with migrated(door) as client:
            for facts in lives:
                store(client, "TaskSubmitted", facts.submissions)
                store(client, "TaskDispatched", facts.dispatches)
                store(client, "AgentEvent", [_whole_event(each) for each in facts.events])
                task = facts.submissions[0]
                own = {
                    name: task[name] for name in ("conversation_id", "traceparent", "submitted_at", "tenant", "task_id")
                }
                store(client, "TaskResult", [{**each, **own} for each in facts.results])
        yield door.url


def store(client: Any, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Twice, as a store may; an event's record was appended when it was finished."""
    if not rows:
        return
    kind = record(name)
    whole = [_completed({**kind.defaults, **row}, kind.arrow) for row in rows]
    batch = pa.RecordBatch.from_pylist(whole, schema=kind.arrow)
    places = raw(name, list(range(len(rows))))
    if name == "AgentEvent":
        places.timestamps_ms[:] = [row["finished_at"] // 1000 for row in rows]
    placed = rows_of(TABLES[name], batch, places_of(places, np.arange(len(rows))))
    put(client, TABLES[name].name, placed, 2)


def _completed(row: dict[str, Any], schema: pa.Schema) -> dict[str, Any]:
    """What a row leaves out of its structs, and maps as pairs."""
    for field in schema:
        value = row.get(field.name)
        if pa.types.is_map(field.type) and isinstance(value, Mapping):
            row[field.name] = list(value.items())
        elif pa.types.is_struct(field.type) and isinstance(value, Mapping):
            row[field.name] = _completed(dict(value), pa.schema(list(field.type)))
        elif value is None and not field.nullable:
            row[field.name] = _nothing(field.type)
    return row


def _nothing(kind: pa.DataType) -> Any:
    if pa.types.is_string(kind):
        return "UNKNOWN"
    return [] if pa.types.is_nested(kind) else 0


def _whole_event(event: Mapping[str, Any]) -> dict[str, Any]:
    return {**event, "started_at": event["finished_at"] - 1_000}


def ask(capsys: pytest.CaptureFixture[str], url: str, folder: Path, *more: str, **changes: Any) -> Said:
    path = folder / "new.yaml"
    path.write_text(scenes.topology(**changes).model_dump_json())
    arguments = ("--topology", str(path), "--clickhouse", url, "--since", "2023-01-01")
    return pointsman(capsys, "replay", *arguments, *more)


def test_the_record_under_its_own_topology_and_under_another(
    capsys: pytest.CaptureFixture[str], url: str, lives: Sequence[Facts], tmp_path: Path
) -> None:
    same = json.loads(ask(capsys, url, tmp_path, "-o", "json").out)
    assert (same["tasks"], same["changed"], same["unknown"], same["changes"]) == (LIVES, 0, 0, [])
    assert same["cost_before_microusd"] == sum(each.results[0]["cost_microusd"] for each in lives) > 0
    assert same["cost_after_microusd"] == same["cost_before_microusd"]
    assert all(group["before"] == group["after"] for group in same["by_agent"])
    routes = {**scenes.ROUTES, "talk": {**scenes.ROUTES["talk"], "agents": ["beta", "gamma", "alpha"]}}
    other = json.loads(ask(capsys, url, tmp_path, "-o", "json", routes=routes).out)
    assert other["changed"] == len(other["changes"]) > 0
    assert breaches([other], promises()["pointsman replay"]) == []
    assert {row["intent_before"] for row in other["changes"]} == {"talk"}
    assert ask(capsys, url, tmp_path, "-o", "jsonl", routes=routes).rows == other["changes"]
    table = ask(capsys, url, tmp_path, routes=routes)
    assert (table.code, f"Tasks that change: {other['changed']}" in table.out) == (0, True)


def test_what_cannot_be_replayed_is_said(capsys: pytest.CaptureFixture[str], url: str, tmp_path: Path) -> None:
    assert ask(capsys, url, tmp_path, "--until", "2023-01-02").code == ExitCode.NOT_FOUND
    faulty = tmp_path / "faulty.yaml"
    faulty.write_text("agents: {}")
    assert pointsman(capsys, "replay", "--topology", str(faulty), "--clickhouse", url).code == ExitCode.INVALID
    limited = ask(capsys, url, tmp_path, "--limit", "3", "-o", "json")
    assert (json.loads(limited.out)["tasks"], "latest 3 tasks" in limited.err) == (3, True)
