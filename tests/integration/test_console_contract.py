"""What each command really prints in `-o json` and `jsonl`, held against the page that promises its fields."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from console.cli.failures import ExitCode
from schemas.codec import Codec
from schemas.registry import FileRegistry
from schemas.settings import Settings
from schemas.topology import Topology, load_topology
from streams.transport.admin import ensure_topics
from streams.transport.clients import client_config
from streams.transport.producer import Producer
from tests.support.console import Said, answering, pointsman, topology_file
from tests.support.contract import breaches, promises
from tests.support.history import Deployment
from tests.support.history_door import migrated, opened

pytestmark = pytest.mark.broker

Capture = pytest.CaptureFixture[str]
Say = Callable[..., Said]

LIFE = """
INSERT INTO pointsman.tasks_log (tenant, task_id, text, submitted_at, topic, partition, offset) VALUES
    ('acme', 't-1', 'how many?', 1700000000.5, 'tasks', 0, 0)
"""
RESULT = """
INSERT INTO pointsman.results_log (tenant, task_id, status, reason, agents, attempts, intent, answer, confidence,
    submitted_at, decided_at, topic, partition, offset) VALUES
    ('acme', 't-1', 'COMPLETED', 'ANSWERED', ['a', 'b'], 2, 'counting', '42', 0.5, 1700000000.5, 1700000001, 'r', 0, 0)
"""


@pytest.fixture(scope="module")
def history() -> Iterator[str]:
    """A real engine's address, with one task's life in it."""
    with opened() as door:
        with migrated(door) as client:
            client.command(LIFE)
            client.command(RESULT)
        yield door.url


@pytest.fixture
def say(
    capsys: Capture, repository: Path, tmp_path: Path, prefix: str, broker: str, monkeypatch: pytest.MonkeyPatch
) -> Say:
    monkeypatch.setenv("POINTSMAN_BROKER", broker)
    monkeypatch.setenv("POINTSMAN_TOPOLOGY", str(topology_file(repository, tmp_path, prefix)))
    return lambda *arguments: pointsman(capsys, *arguments)


def both(say: Say, *arguments: str, code: ExitCode = ExitCode.OK) -> list[dict[str, Any]]:
    """What the command gives as one document, which is what it gives line by line."""
    whole, lines = say(*arguments, "-o", "json"), say(*arguments, "-o", "jsonl")
    assert (whole.code, lines.code) == (code, code), whole.err + lines.err
    document = json.loads(whole.out)
    rows: list[dict[str, Any]] = document if isinstance(document, list) else [document]
    assert isinstance(document, dict) or len(lines.rows) == len(rows)
    return rows + (lines.rows if isinstance(document, list) else [])


def test_submit(say: Say, tmp_path: Path, broker: str) -> None:
    with answering(broker, tmp_path / "topology.yaml"):
        rows = both(say, "submit", "how many?")
        assert breaches(rows, promises()["pointsman submit"]) == []
        waited = [json.loads(say("submit", "how many?", "--wait", "-o", "json").out)[0]]
        waited += say("submit", "how many?", "--wait", "-o", "jsonl").rows
        flat = {name: kind for name, kind in promises()["pointsman results"].items() if "[]" not in name}
        assert breaches(waited, flat) == []


def test_results(capsys: Capture, say: Say, tmp_path: Path, prefix: str, broker: str) -> None:
    topology = load_topology(tmp_path / "topology.yaml")
    deployment = _Results(broker, topology)
    deployment.result("bare")
    deployment.result(
        "full",
        conversation_id="c",
        labels=[("k", "v")],
        traceparent="00-1",
        intent="x",
        answer="42",
        payload="{}",
        confidence=0.5,
        agents=["a"],
        dissent=["b"],
        route_version="v",
        tokens=3,
        votes=[{"agent_id": "a", "vote": "42", "confidence": 0.5, "weight": 1.5}],
    )
    deployment.flush()
    deployment.close()
    rows = both(say, "results", "--from-beginning")
    rows += say("results", "--from-beginning", "--follow", "--limit", "2", "-o", "jsonl").rows
    assert len(rows) == 6
    assert breaches(rows, promises()["pointsman results"]) == []
    [full, *_] = [row for row in rows if row["task_id"] == "full"]
    assert full["submitted_at"] == "2023-11-14T22:13:20.000000Z"
    assert (full["labels"], full["ms"]) == ({"k": "v"}, 9.0)


class _Results(Deployment):
    """A producer of results for any topology."""

    def __init__(self, broker: str, topology: Topology) -> None:
        self.settings, self.topology, self.topics = Settings(broker=broker), topology, topology.topics()
        ensure_topics(self.settings, self.topics.specs())
        self.producer = Producer(client_config(self.settings, topology, "producer"))
        self.codec = Codec(FileRegistry.load(), topology.limits.record_bytes_max)


def test_task_show(say: Say, history: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POINTSMAN_CLICKHOUSE", history)
    rows = both(say, "task", "show", "t-1")
    assert breaches(rows, promises()["pointsman task show"]) == []
    assert [row["kind"] for row in rows[:2]] == ["SUBMITTED", "RESULT"]
    assert (rows[0]["status"], rows[0]["agent_id"], rows[0]["attempt"]) == (None, None, None)


VALUES = {
    "toUInt64(18446744073709551615)": 2**64 - 1,
    "toInt64(-9223372036854775807)": -(2**63) + 1,
    "toInt128('170141183460469231731687303715884105727')": 2**127 - 1,
    "0.1": 0.1,
    "nan": None,
    "1/0": None,
    "true": True,
    "NULL": None,
    "'text'": "text",
    "toDateTime64('2026-03-01 12:00:00.5', 6, 'UTC')": "2026-03-01T12:00:00.500000Z",
    "toDateTime('2026-03-01 12:00:00', 'Asia/Tokyo')": "2026-03-01T03:00:00.000000Z",
    "toDate('2026-03-01')": "2026-03-01",
    "toDecimal64(1.10, 2)": "1.10",
    "toUUID('61f0c404-5cb3-11e7-907b-a6006ad3dba0')": "61f0c404-5cb3-11e7-907b-a6006ad3dba0",
    "[1, 2]": [1, 2],
    "map('k', 1)": {"k": 1},
    "tuple(1, 'a')": [1, "a"],
}


def test_history(say: Say, history: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POINTSMAN_CLICKHOUSE", history)
    columns = ", ".join(f"{sql} AS c{number}" for number, sql in enumerate(VALUES))
    for row in both(say, "history", f"SELECT {columns}"):
        assert list(row.values()) == list(VALUES.values())
        assert [type(value) for value in row.values()] == [type(value) for value in VALUES.values()]


def test_validate(say: Say, repository: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text("agents: {a: {run: 'm:f', effect: raed}}\nroutes: {r: {agents: [a]}}\n")
    shipped = str(repository / "topology.yaml")
    rows = both(say, "validate", shipped) + both(say, "validate", str(broken), code=ExitCode.INVALID)
    assert breaches(rows, promises()["pointsman validate"]) == []
    faults = say("validate", str(broken), "-o", "jsonl").rows
    assert faults == rows[1]["faults"]
    assert say("validate", shipped, "-o", "jsonl").out == ""
