"""The command line itself: exit codes, what goes to which stream, and the commands that need no broker."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from console.cli.failures import ExitCode
from console.local.ports import free_ports
from tests.support.console import pointsman
from tests.support.waiting import PATIENCE

Capture = pytest.CaptureFixture[str]

FAULTY = """
agents:
  alpha: {run: "m:alpha", effect: read}
  beta: {run: "m:beta", effect: read, timeout_ms: 0}
routes:
  one: {agents: [alpha, gamma], colour: red}
default_route: two
"""


def test_a_valid_topology(repository: Path, capsys: Capture) -> None:
    path = str(repository / "topology.yaml")
    said = pointsman(capsys, "validate", path)
    assert said.code == ExitCode.OK
    assert said.out.startswith(f"{path}: valid, 12 agents, 4 routes, version ")
    assert said.err == ""
    summary = json.loads(pointsman(capsys, "validate", path, "-o", "json").out)
    assert (summary["valid"], len(summary["agents"]), len(summary["routes"])) == (True, 12, 4)


def test_every_fault_of_a_topology_at_once(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "topology.yaml"
    path.write_text(FAULTY)
    said = pointsman(capsys, "validate", str(path))
    assert said.code == ExitCode.INVALID
    for fault in ("agents.beta.timeout_ms", "routes.one.colour"):
        assert [line for line in said.out.splitlines() if line.startswith(f"{path}:") and fault in line]
    assert all(line.startswith(f"{path}:") for line in said.out.splitlines())
    report = json.loads(pointsman(capsys, "validate", str(path), "-o", "json").out)
    assert report["valid"] is False
    assert len(report["faults"]) == len(said.out.splitlines()) > 1
    assert {"code", "line", "column", "width", "path", "message"} == report["faults"][0].keys()


def test_every_fault_that_parts_have_with_each_other_at_once(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "topology.yaml"
    path.write_text(FAULTY.replace(", timeout_ms: 0", "").replace(", colour: red", ""))
    said = pointsman(capsys, "validate", str(path))
    assert said.code == ExitCode.INVALID
    for fault in ("routes.one.agents[1]", "default_route"):
        assert fault in said.out


def test_agents_that_cannot_be_called_are_faults_too(repository: Path, tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "topology.yaml"
    shipped = (repository / "topology.yaml").read_text()
    path.write_text(shipped.replace("finance:sql", "finance:sqll").replace("operations:units", "operation:units"))
    said = pointsman(capsys, "validate", str(path))
    assert said.code == ExitCode.INVALID
    lines = said.out.splitlines()
    assert len(lines) == 2
    assert ": agents.sql_agent.run: agents.builtin.finance has no function sqll; did you mean sql?" in lines[0]
    assert ": agents.units_agent.run: there is no module agents.builtin.operation" in lines[1]
    for line, broken in zip(lines, ("finance:sqll", "operation:units"), strict=True):
        # Line and column are those of the value.
        number, column = map(int, line.removeprefix(f"{path}:").split(":")[:2])
        assert path.read_text().splitlines()[number - 1][column - 1 :] == f"agents.builtin.{broken}"
    refused = pointsman(capsys, "dev", "--topology", str(path), "--data", str(tmp_path / "data"))
    assert refused.code == ExitCode.INVALID
    assert "agents.sql_agent.run" in refused.err
    assert not (tmp_path / "data").exists()


def test_validate_takes_the_topology_in_force(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POINTSMAN_TOPOLOGY", str(tmp_path / "other.yaml"))
    said = pointsman(capsys, "validate")
    assert said.code == ExitCode.INVALID
    assert str(tmp_path / "other.yaml") in said.out


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--help"], ExitCode.OK),
        (["submit", "--help"], ExitCode.OK),
        ([], ExitCode.USAGE),
        (["nonsense"], ExitCode.USAGE),
        (["submit", "--nonsense"], ExitCode.USAGE),
        (["history", "results", "--limit", "0"], ExitCode.USAGE),
        (["results", "--limit", "0"], ExitCode.USAGE),
        (["results", "-o", "xml"], ExitCode.USAGE),
        (["submit", "x", "--topology", "/nowhere/topology.yaml"], ExitCode.INVALID),
        (["history", "select 1", "--clickhouse", "localhost"], ExitCode.INVALID),
    ],
)
def test_exit_codes(capsys: Capture, arguments: list[str], code: ExitCode) -> None:
    said = pointsman(capsys, *arguments)
    assert said.code == code
    assert (said.out == "") == (code != ExitCode.OK)
    assert "Traceback" not in said.err


@pytest.mark.parametrize("command", [["history", "select 1"], ["task", "show", "t-1"]])
def test_no_clickhouse(capsys: Capture, command: list[str]) -> None:
    url = f"http://127.0.0.1:{free_ports(1)[0]}"
    said = pointsman(capsys, *command, "--clickhouse", url)
    assert (said.code, said.out) == (ExitCode.UNREACHABLE, "")
    assert url in said.err
    assert "pointsman dev" in said.err
    assert "Traceback" not in said.err


def test_a_traceback_only_where_it_is_asked_for(capsys: Capture) -> None:
    command = ["history", "select 1", "--clickhouse", f"http://127.0.0.1:{free_ports(1)[0]}"]
    assert "Traceback" in pointsman(capsys, "--debug", *command).err


def test_a_reader_that_has_had_enough_is_no_error(repository: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "console.cli.main", "validate", str(repository / "topology.yaml"), "-o", "json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=repository,
    ) as process:
        assert process.stdout is not None
        process.stdout.close()
        _, err = process.communicate(timeout=PATIENCE * 60)
    assert (process.returncode, err) == (ExitCode.OK, b"")


def test_a_process_that_cannot_start_says_why_and_ends(tmp_path: Path, repository: Path) -> None:
    address = f"127.0.0.1:{free_ports(1)[0]}"
    for name in ("worker", "host"):
        ready = tmp_path / f"{name}.json"
        said = subprocess.run(
            [sys.executable, "-m", "console.cli.main", name, "--broker", address, "--ready-file", str(ready)],
            capture_output=True,
            text=True,
            cwd=repository,
            timeout=PATIENCE * 60,
            check=False,
        )
        assert said.returncode == ExitCode.UNREACHABLE
        assert said.stdout == ""
        assert said.stderr.splitlines()[-1].startswith(f"pointsman {name}: Cannot reach the Kafka broker at {address}")
        assert not ready.exists()
