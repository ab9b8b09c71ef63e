"""`pointsman registry` as a process: what it serves, where it listens, and how it ends."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from console.cli.failures import ExitCode
from tests.support.console import pointsman, topology_file
from tests.support.waiting import PATIENCE, deadline_in


def registry(repository: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "console.cli.main", "registry", *arguments]
    return subprocess.Popen(command, cwd=repository, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def fetched(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=PATIENCE * 20) as answer:
        return json.load(answer)


def test_it_serves_the_deployments_subjects_and_ends_when_told(tmp_path: Path, repository: Path, prefix: str) -> None:
    topology, ready = topology_file(repository, tmp_path, prefix), tmp_path / "ready.json"
    process = registry(repository, "--listen", "127.0.0.1:0", "--topology", str(topology), "--ready-file", str(ready))
    try:
        deadline = deadline_in(60)
        while not ready.exists():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        url = json.loads(ready.read_text())["registry"]
        assert f"{prefix}tasks.submitted.v1-value" in fetched(f"{url}/subjects")
        assert fetched(f"{url}/subjects/{prefix}tasks.results.v1-value/versions/latest")["id"] == 10
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=PATIENCE * 20)
        assert process.returncode == ExitCode.OK, err
        assert json.loads(err.splitlines()[-1])["event"] == "stopped"
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("listen", ["8081", "127.0.0.1:http", "127.0.0.1:65536"])
def test_an_address_that_is_none_is_refused(listen: str, capsys: pytest.CaptureFixture[str]) -> None:
    said = pointsman(capsys, "registry", "--listen", listen)
    assert said.code == ExitCode.USAGE
    assert said.err == f"pointsman: --listen {listen} is not of the form HOST:PORT [E202]\n"


def test_an_address_that_is_taken_is_said(repository: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        process = registry(repository, "--listen", f"127.0.0.1:{taken.getsockname()[1]}")
        _, err = process.communicate(timeout=PATIENCE * 60)
    assert process.returncode == ExitCode.INVALID
    assert "the schema registry cannot listen on 127.0.0.1:" in err.splitlines()[-1]
