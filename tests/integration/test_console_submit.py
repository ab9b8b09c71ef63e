"""`submit` and `results` against a real broker; somebody answers without agents."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from console.cli.failures import ExitCode
from console.local.ports import free_ports
from schemas.codec import Codec
from schemas.registry import FileRegistry
from schemas.topology import Topology
from tests.support.console import answering, pointsman, topology_file
from tests.support.wire import read_topic

pytestmark = pytest.mark.broker

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def path(repository: Path, tmp_path: Path, prefix: str) -> Path:
    return topology_file(repository, tmp_path, prefix)


@pytest.fixture
def pipeline(broker: str, path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Topology]:
    monkeypatch.setenv("POINTSMAN_BROKER", broker)
    monkeypatch.setenv("POINTSMAN_TOPOLOGY", str(path))
    with answering(broker, path, silent_about="silence") as topology:
        yield topology


def test_submit_prints_nothing_but_the_id(pipeline: Topology, capsys: Capture) -> None:
    said = pointsman(capsys, "submit", "hello")
    assert said.code == ExitCode.OK
    assert len(said.out.splitlines()) == 1
    assert len(said.out.strip()) == 36
    assert "submitted 1" in said.err


def test_submit_and_wait_prints_the_result(pipeline: Topology, capsys: Capture) -> None:
    said = pointsman(
        capsys,
        *("submit", "hello", "--wait", "--task-id", "t-1", "--tenant", "acme", "--label", "team=ops", "-o", "json"),
    )
    assert said.code == ExitCode.OK
    [row] = json.loads(said.out)
    assert (row["task_id"], row["tenant"], row["answer"]) == ("t-1", "acme", "echo: hello")
    assert row["labels"] == {"team": "ops"}
    assert row["ms"] > 0
    table = pointsman(capsys, "submit", "hello", "--wait")
    head, line = table.out.splitlines()
    assert head.split() == ["task_id", "status", "route", "reason", "agents", "votes", "ms", "answer"]
    assert line.split()[1:5] == ["COMPLETED", "financial_query", "ANSWERED", "revenue_agent"]
    assert line.endswith("echo: hello")


def test_the_record_carries_what_was_asked_under_the_key_of_the_rule(
    pipeline: Topology, broker: str, capsys: Capture
) -> None:
    pointsman(
        capsys,
        *("submit", "hello", "--task-id", "t-1", "--conversation", "c-1", "--intent", "operations"),
        *("--confidence", "0.75", "--tier", "high", "--deadline-ms", "5000"),
    )
    pointsman(capsys, "submit", "hello", "--task-id", "t-2")
    records = read_topic(broker, pipeline.topics().submitted)
    assert len(records) == 2
    assert sorted(record.key() for record in records) == [b"c-1", b"t-2"]
    values = [record.value() for record in records if record.key() == b"c-1"]
    [task] = Codec(FileRegistry.load(), 10_000).decode(values, "TaskSubmitted").batch.to_pylist()
    assert (task["intent"], task["confidence"], task["value_tier"]) == ("operations", 0.75, "HIGH")
    assert task["deadline_ms"] == task["submitted_at"] // 1000 + 5000


def test_a_file_of_tasks(pipeline: Topology, tmp_path: Path, capsys: Capture) -> None:
    file = tmp_path / "tasks.jsonl"
    lines = [{"task_id": f"t-{number}", "text": f"text {number}"} for number in range(50)]
    file.write_text("\n\n".join(map(json.dumps, lines)))
    ids = pointsman(capsys, "submit", "-f", str(file), "--tenant", "acme", "-o", "jsonl")
    assert [row["task_id"] for row in ids.rows] == [f"t-{number}" for number in range(50)]
    waited = pointsman(capsys, "submit", "-f", str(file), "--tenant", "other", "--wait", "-o", "jsonl")
    assert waited.code == ExitCode.OK
    assert {row["task_id"]: row["answer"] for row in waited.rows} == {
        f"t-{number}": f"echo: text {number}" for number in range(50)
    }
    assert {row["tenant"] for row in waited.rows} == {"other"}


def test_every_faulty_line_is_named_and_nothing_is_submitted(
    pipeline: Topology, broker: str, tmp_path: Path, capsys: Capture
) -> None:
    file = tmp_path / "tasks.jsonl"
    file.write_bytes(
        b'{"text": "fine"}\n{"txt": "a"}\nno json\n[]\n'
        b'{"text": "b", "confidence": 2}\n\xff\n{"text": "c", "task_id": 1}\n'
    )
    said = pointsman(capsys, "submit", "-f", str(file))
    assert said.code == ExitCode.INVALID
    assert said.out == ""
    for line in (2, 3, 4, 5, 6, 7):
        assert f"{file}:{line}: " in said.err
    assert f"{file}:1: " not in said.err
    assert read_topic(broker, pipeline.topics().submitted) == []


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["submit"], ExitCode.USAGE, "Nothing to submit"),
        (["submit", "a", "--confidence", "2"], ExitCode.USAGE, "--confidence"),
        (["submit", "a", "--label", "team"], ExitCode.USAGE, "KEY=VALUE"),
        (["submit", "a", "--intent", "cooking"], ExitCode.INVALID, "financial_query"),
        (["submit", "-f", "/nowhere.jsonl"], ExitCode.INVALID, "cannot be read"),
        (["submit", "-f", "/dev/null"], ExitCode.INVALID, "holds no task"),
        (["submit", "-f", "-", "--task-id", "x"], ExitCode.USAGE, "--task-id"),
        (["submit", "x" * 300_000], ExitCode.INVALID, "262144 are allowed"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    pipeline: Topology, capsys: Capture, arguments: list[str], code: ExitCode, words: str
) -> None:
    said = pointsman(capsys, *arguments)
    assert (said.code, said.out) == (code, "")
    assert words in said.err


def test_a_result_that_does_not_come_in_time(pipeline: Topology, tmp_path: Path, capsys: Capture) -> None:
    file = tmp_path / "tasks.jsonl"
    file.write_text('{"text": "hello", "task_id": "a"}\n{"text": "silence", "task_id": "b"}\n')
    said = pointsman(capsys, "submit", "-f", str(file), "--wait", "--timeout", "1.5")
    assert said.code == ExitCode.FAILED
    assert "echo: hello" in said.out
    assert "1 of 2 results did not come within 1.5 s: b." in said.err


def test_results_shows_the_latest_all_or_those_that_come(pipeline: Topology, tmp_path: Path, capsys: Capture) -> None:
    file = tmp_path / "tasks.jsonl"
    file.write_text("\n".join(json.dumps({"task_id": f"t-{n}", "text": str(n)}) for n in range(30)))
    pointsman(capsys, "submit", "-f", str(file), "--wait")
    latest = pointsman(capsys, "results", "-o", "jsonl")
    assert len(latest.rows) == 20
    assert [row["decided_at"] for row in latest.rows] == sorted(row["decided_at"] for row in latest.rows)
    every = pointsman(capsys, "results", "--from-beginning", "-o", "json")
    assert {row["task_id"] for row in json.loads(every.out)} == {f"t-{n}" for n in range(30)}
    followed = pointsman(capsys, "results", "--follow", "--from-beginning", "--limit", "3")
    assert followed.code == ExitCode.OK
    assert len(followed.out.splitlines()) == 4


def test_no_broker(path: Path, capsys: Capture) -> None:
    address = f"127.0.0.1:{free_ports(1)[0]}"
    for command in (["submit", "a"], ["results"]):
        said = pointsman(capsys, *command, "--broker", address, "--topology", str(path))
        assert (said.code, said.out) == (ExitCode.UNREACHABLE, "")
        assert address in said.err
        assert "Traceback" not in said.err
        assert len(said.err.splitlines()) == 1


def test_a_broker_without_our_topics(broker: str, path: Path, capsys: Capture) -> None:
    said = pointsman(capsys, "submit", "a", "--broker", broker, "--topology", str(path))
    assert (said.code, said.out) == (ExitCode.UNREACHABLE, "")
    assert "pointsman dev" in said.err
