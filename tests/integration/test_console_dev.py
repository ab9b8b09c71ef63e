"""`pointsman dev` as a person runs it: up, used, stopped, up again with its data; and how it ends when a part dies."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from console.cli.failures import ExitCode
from tests.support.console import pointsman, topology_file

pytestmark = [pytest.mark.broker, pytest.mark.slow]

Capture = pytest.CaptureFixture[str]

START_S = 90
STOP_S = 10


def processes_of(folder: Path) -> list[str]:
    """Command lines of all processes that name this folder, which is nobody else's; this one's are not among them."""
    listed = subprocess.run(["ps", "-axww", "-o", "pid=,command="], capture_output=True, text=True, check=True).stdout
    return [line for line in listed.splitlines() if str(folder) in line and line.split()[0] != str(os.getpid())]


def until(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass in time"
        time.sleep(0.05)


class Dev:
    """A running `pointsman dev`."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process, self._log = process, log

    @property
    def said(self) -> str:
        return self._log.read_text()

    def wait_until_ready(self) -> None:
        until(lambda: self.process.poll() is not None or "Ready after" in self.said, START_S)
        assert self.process.poll() is None, self.said

    def setting(self, name: str) -> str:
        """What the banner names: the first word after `name`."""
        found = re.search(rf"^  {name} +(\S+)", self.said, re.MULTILINE)
        assert found is not None, self.said
        return found.group(1)

    def stop(self) -> float:
        """Ctrl-C; gives the seconds until the end."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGINT)
        self.process.wait(STOP_S + 10)
        return time.monotonic() - began


@contextmanager
def dev(repository: Path, data: Path, *arguments: str) -> Iterator[Dev]:
    log = data.parent / f"dev-{time.monotonic_ns()}.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "console.cli.main", "dev", "--data", str(data), *arguments],
            stdout=out,
            stderr=out,
            stdin=subprocess.DEVNULL,
            cwd=repository,
            start_new_session=True,
        )
    try:
        yield Dev(process, log)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def test_it_serves_stops_within_ten_seconds_and_finds_its_data_again(
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

        assert first.stop() < STOP_S
        assert first.process.returncode == ExitCode.OK
    assert processes_of(data) == []

    with dev(repository, data) as second:
        second.wait_until_ready()
        assert (second.setting("Kafka"), second.setting("ClickHouse")) == (broker, clickhouse)
        assert "found from an earlier start" in second.said
        results = pointsman(capsys, "results", "--from-beginning", "-o", "jsonl")
        assert [row["task_id"] for row in results.rows] == ["t-1"]
        # The history follows what the store had not read when it was stopped.
        until(lambda: "COMPLETED (ANSWERED)" in pointsman(capsys, "task", "show", "t-1").out, 15)
        assert "revenue_agent" in pointsman(capsys, "task", "show", "t-1").out
        assert pointsman(capsys, "task", "show", "t-2").code == ExitCode.NOT_FOUND
        counted = pointsman(capsys, "history", "select count() as n from tasks", "-o", "json")
        assert json.loads(counted.out) == [{"n": 1}]
        wrong = pointsman(capsys, "history", "selec 1")
        assert (wrong.code, wrong.out) == (ExitCode.FAILED, "")
        assert "Syntax error" in wrong.err
        assert second.stop() < STOP_S
    assert processes_of(data) == []


@pytest.mark.parametrize("name", ["store", "worker", "host"])
def test_the_death_of_a_part_ends_the_whole_and_is_told(
    repository: Path, tmp_path: Path, prefix: str, broker: str, name: str
) -> None:
    data = tmp_path / "data"
    topology = topology_file(repository, tmp_path, f"dev-{name}-{prefix}")
    with dev(repository, data, "--broker", broker, "--topology", str(topology)) as running:
        running.wait_until_ready()
        pid = json.loads((data / "run" / f"{name}.json").read_text())["pid"]
        os.kill(pid, signal.SIGKILL)
        running.process.wait(STOP_S + 5)
        assert running.process.returncode == ExitCode.FAILED
        assert f"The {name} process was ended by signal 9" in running.said
        assert f'"process": "{name}"' in running.said  # the end of its log
        assert f"{data}/logs/{name}.log" in running.said
        assert "Traceback" not in running.said
    assert processes_of(data) == []


def test_nothing_outlives_a_supervisor_that_is_killed(repository: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    with dev(repository, data) as running:
        running.wait_until_ready()
        assert len(processes_of(data)) >= 5  # itself, broker, store, worker, host
        running.process.kill()
        running.process.wait()
        until(lambda: processes_of(data) == [], 20)
