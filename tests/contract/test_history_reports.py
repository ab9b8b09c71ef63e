"""Reports for people without SQL, and answers in files: what is chosen, what is refused, and a million rows."""

from __future__ import annotations

import csv
import json
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from console.cli.failures import ExitCode
from streams.history.door import Door
from tests.support.console import Said, pointsman
from tests.support.history import T0_US
from tests.support.history_door import migrated, opened
from tests.support.history_rows import insert, note, result

Ask = Callable[..., Said]
STEP_US = 1_200_000_000


@pytest.fixture(scope="module")
def door() -> Iterator[Door]:
    with opened() as door:
        with migrated(door) as client:
            for number, agent in enumerate(("sql", "sql", "crm")):
                at, task = T0_US + number * STEP_US, f"t{number}"
                cascade = note(f"n{number}", "CASCADED", task, at, agent_id=agent)
                insert(client, "OrchestratorEvent", cascade, [number], times=2)
                insert(client, "TaskResult", result(task, "COMPLETED", "ANSWERED", decided_at=at), [number])
        yield door


@pytest.fixture
def ask(door: Door, capsys: pytest.CaptureFixture[str]) -> Ask:
    return lambda *arguments: pointsman(capsys, "history", *arguments, "--clickhouse", door.url)


def tasks(said: Said) -> list[str]:
    assert said.code == 0, said.err
    return [row["task_id"] for row in said.rows]


def test_a_report_is_a_view_by_its_name_and_flags_choose_its_rows_the_latest_first(ask: Ask) -> None:
    assert tasks(ask("cascades", "-o", "jsonl")) == ["t2", "t1", "t0"]
    assert tasks(ask("cascades", "--agent", "sql", "-o", "jsonl")) == ["t1", "t0"]
    assert tasks(ask("cascades", "--limit", "1", "-o", "jsonl")) == ["t2"]
    since = "2023-11-14T22:33:20Z"  # T0 and a step
    assert tasks(ask("cascades", "--since", since, "-o", "jsonl")) == ["t2", "t1"]
    assert tasks(ask("cascades", "--until", since, "-o", "jsonl")) == ["t0"]
    assert tasks(ask("results", "--agent", "b", "--tenant", "acme", "-o", "jsonl")) == ["t2", "t1", "t0"]
    assert tasks(ask("results", "--tenant", "'; DROP TABLE x", "-o", "jsonl")) == []
    assert ask("spend", "--since", since, "-o", "jsonl").rows[0]["tasks"] == 3, "a day is whole"


def test_what_there_is_and_what_is_refused(ask: Ask) -> None:
    listed = {row["report"]: row["flags"] for row in ask("-o", "jsonl").rows}
    assert listed["calibration"] == "--agent, --limit"
    assert listed["conflicts"] == "--since, --until, --agent, --tenant, --limit"
    unknown = ask("cascade")
    assert (unknown.code, "did you mean cascades?" in unknown.err) == (ExitCode.NOT_FOUND, True)
    for arguments in (
        ("calibration", "--since", "1h"),
        ("SELECT 1", "--since", "1h"),
        ("cascades", "--out", "x.doc"),
        ("--out", "x.csv"),
        ("cascades", "--since", "yesterday"),
    ):
        assert ask(*arguments).code == ExitCode.USAGE, arguments


def test_answers_in_files(ask: Ask, tmp_path: Path) -> None:
    for ending in ("parquet", "arrow", "jsonl"):
        said = ask("results", "--out", str(tmp_path / f"r.{ending}"))
        assert (said.code, said.out) == (0, ""), said.err
    parquet = pq.read_table(tmp_path / "r.parquet")
    assert sorted(parquet.column("task_id").to_pylist()) == ["t0", "t1", "t2"]
    assert pa.ipc.open_file(tmp_path / "r.arrow").read_all().num_rows == 3
    lines = [json.loads(line) for line in (tmp_path / "r.jsonl").read_text().splitlines()]
    assert (lines[0]["agents"], lines[0]["labels"], lines[0]["submitted_at"]) == (
        ["b"],
        {},
        "2023-11-14T22:13:20.000000Z",
    )
    assert ask("cascades", "--agent", "crm", "--out", str(tmp_path / "c.csv")).code == 0
    assert [row["task_id"] for row in csv.DictReader((tmp_path / "c.csv").open())] == ["t2"]
    refused = ask("SELECT throwIf(number = 99) FROM numbers(100)", "--out", str(tmp_path / "never.csv"))
    assert (refused.code, "throwIf" in refused.err) == (1, True)
    assert ask("results", "--out", str(tmp_path / "nested.csv")).code == ExitCode.USAGE
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.csv", "r.arrow", "r.jsonl", "r.parquet"]


MILLION = "SELECT number AS n, toString(sipHash64(number)) AS a, repeat(a, 60) AS text FROM numbers(1000000)"
# Not ru_maxrss, in which a process takes over what the one had that started it.
SCRIPT = """
import pathlib, re, sys
from console.cli.main import run
code = run(["history", sys.argv[1], "--out", sys.argv[2], "--clickhouse", sys.argv[3]])
print(code, re.search(r"VmHWM:\\s+(\\d+) kB", pathlib.Path("/proc/self/status").read_text())[1])
"""


def test_a_million_rows_take_a_file_and_little_memory(door: Door, tmp_path: Path) -> None:
    """1.1 GB of text: neither who writes the file nor the store holds it."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    told = subprocess.run(
        [sys.executable, "-c", SCRIPT, MILLION, str(tmp_path / "m.parquet"), door.url],
        capture_output=True,
        text=True,
        check=True,
    )
    code, client_kib = map(int, told.stdout.split())
    assert code == 0, told.stderr
    found = pq.ParquetFile(tmp_path / "m.parquet").metadata
    assert found.num_rows == 1_000_000
    assert found.num_row_groups > 1
    assert client_kib < 800 * 1024
    store: Any = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert store - before < 600 * 1024
