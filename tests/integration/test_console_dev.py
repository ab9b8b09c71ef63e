"""`pointsman dev` as a person runs it: up, used, stopped, up again with its data, and when parts of it die."""

from __future__ import annotations

import json
import os
import re
import signal
import urllib.request
from pathlib import Path

import pytest

from console.cli.failures import ExitCode
from schemas.nearby import serving
from tests.support.console import pointsman, topology_file
from tests.support.dev import STOP_S, Dev, dev, processes_of
from tests.support.waiting import PATIENCE, until

pytestmark = [pytest.mark.broker, pytest.mark.slow]

Capture = pytest.CaptureFixture[str]


def test_it_serves_restarts_its_broker_stops_in_time_finds_its_data_again_and_leaves_nothing_when_it_is_killed(
    repository: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data"
    with dev(repository, data) as first:
        first.wait_until_ready()
        broker, clickhouse = first.setting("Kafka"), first.setting("ClickHouse")
        monkeypatch.setenv("POINTSMAN_BROKER", broker)
        monkeypatch.setenv("POINTSMAN_CLICKHOUSE", clickhouse)
        monkeypatch.chdir(repository)
        assert "data survives a restart  yes" in first.said

        answered = pointsman(
            capsys, "submit", "What was the revenue of EMEA in Q2 2025?", "--wait", "--task-id", "t-1", "-o", "json"
        )
        assert answered.code == ExitCode.OK, answered.err
        [result] = json.loads(answered.out)
        assert (result["status"], result["intent"], result["agents"]) == (
            "COMPLETED",
            "financial_query",
            ["revenue_agent"],
        )

        refused = pointsman(capsys, "dev", "--data", str(data))
        assert refused.code == ExitCode.INVALID
        assert f"{data} is in use" in refused.err
        assert serving(data)["broker"] == broker  # what the first one told is not the second one's to withdraw

        broker_dies_and_is_started_again_with_its_records(first, data, capsys)
        assert first.stop() < STOP_S
        assert first.process.returncode == ExitCode.OK
    assert processes_of(data) == []

    with dev(repository, data) as second:
        second.wait_until_ready()
        assert (second.setting("Kafka"), second.setting("ClickHouse")) == (broker, clickhouse)
        assert "found from an earlier start" in second.said
        results = pointsman(capsys, "results", "--from-beginning", "-o", "jsonl")
        assert sorted(row["task_id"] for row in results.rows) == ["t-1", "t-after"]
        # The history follows what the store had not read when it was stopped.
        for task_id in ("t-1", "t-after"):
            show = ("task", "show", task_id)
            until(lambda show=show: "COMPLETED (ANSWERED)" in pointsman(capsys, *show).out, 15)  # type: ignore[misc]
        assert "revenue_agent" in pointsman(capsys, "task", "show", "t-1").out
        assert pointsman(capsys, "task", "show", "t-2").code == ExitCode.NOT_FOUND
        counted = pointsman(capsys, "history", "select count() as n from tasks", "-o", "json")
        assert json.loads(counted.out) == [{"n": 2}]
        wrong = pointsman(capsys, "history", "selec 1")
        assert (wrong.code, wrong.out) == (ExitCode.FAILED, "")
        assert "Syntax error" in wrong.err

        assert len(processes_of(data)) >= 5  # itself, broker, store, worker, host
        assert second.process.poll() is None
        second.process.kill()
        second.process.wait()
        until(lambda: processes_of(data) == [], 20)


def broker_dies_and_is_started_again_with_its_records(running: Dev, data: Path, capsys: Capture) -> None:
    (java,) = (line.split()[0] for line in processes_of(data) if "kafka.Kafka" in line and "guard" not in line)
    os.kill(int(java), signal.SIGKILL)
    running.wait_for("The broker process was ended by signal 9; starting it again in 1 s")
    running.wait_for("Kafka answers at", times=2)
    after = pointsman(capsys, "submit", "Convert 7 km to miles", "--wait", "--task-id", "t-after", "-o", "jsonl")
    assert [row["status"] for row in after.rows] == ["COMPLETED"]
    results = pointsman(capsys, "results", "--from-beginning", "-o", "jsonl")
    assert {row["task_id"] for row in results.rows} == {"t-1", "t-after"}


def test_what_dies_is_started_again_in_its_place_and_told(
    repository: Path, tmp_path: Path, prefix: str, broker: str, capsys: Capture
) -> None:
    data = tmp_path / "data"
    topology = topology_file(repository, tmp_path, f"dev-{prefix}")
    flags = ("--broker", broker, "--topology", str(topology))
    names = ("store", "registry", "worker", "host")
    with dev(repository, data, *flags) as running:
        running.wait_until_ready()
        pids = {name: pid_of(data, name) for name in names}
        for pid in pids.values():
            os.kill(pid, signal.SIGKILL)
        for name in names:
            running.wait_for(f"The {name} process was ended by signal 9: killed by hand, or by the kernel")
            running.wait_for(f"the {name} serves again")
        assert {pid_of(data, name) for name in names}.isdisjoint(pids.values())
        assert (data / "logs" / "host.previous.log").exists()
        answered = pointsman(capsys, "submit", "Convert 5 km to miles", "--wait", *flags, "-o", "jsonl")
        assert [row["status"] for row in answered.rows] == ["COMPLETED"]
        for url in re.findall(r"http://\S+/metrics", running.said):
            with urllib.request.urlopen(url, timeout=PATIENCE * 10) as page:
                assert b"python_info" in page.read()
        running.stop()
        assert running.process.returncode == ExitCode.OK
        assert "Traceback" not in running.said
    assert processes_of(data) == []


def pid_of(data: Path, name: str) -> int:
    return int(json.loads((data / "run" / f"{name}.json").read_text())["pid"])
