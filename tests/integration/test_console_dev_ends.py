"""How `pointsman dev` ends before it serves: by Ctrl-C at each stage, and by what is wrong with a place or a port.

Whatever the stage, it ends in bounded time with its exit code, without a traceback, and leaves no process behind; its
data can be used afterwards.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from console.cli.failures import ExitCode
from console.local.ports import free_ports
from tests.support.clickhouse_server import PASSWORD, USER, clickhouse_server
from tests.support.console import pointsman, topology_file
from tests.support.dev import START_S, STOP_S, Dev, dev, processes_of
from tests.support.waiting import until

pytestmark = [pytest.mark.broker, pytest.mark.slow]

Capture = pytest.CaptureFixture[str]


def java_of(data: Path, main_class: str) -> bool:
    return any(main_class in line for line in processes_of(data))


# What shows that a start has come to a stage, in the order of the stages; and whether it is interrupted twice there.
# More stages, each on data of its own: tests/integration/test_wrong_interrupts.py.
STAGES: dict[str, tuple[Callable[[Dev, Path], bool], bool]] = {
    "checking": (lambda _dev, data: any("console.local.check" in line for line in processes_of(data.parent)), False),
    "formatting": (lambda _dev, data: java_of(data, "kafka.tools.StorageTool"), True),
    "making topics": (lambda dev, _data: "Kafka answers" in dev.said, True),
}
# A second signal that comes when all is done ends the interpreter, which shells tell as 130, too.
INTERRUPTED = {ExitCode.INTERRUPTED, -signal.SIGINT}


def interrupt(running: Dev, *, twice: bool) -> int:
    """Ctrl-C, once or twice; gives the exit code."""
    running.interrupt()
    if twice:
        time.sleep(0.1)
        running.interrupt()
    return running.end()


def test_an_interrupt_at_each_stage_of_a_start(repository: Path, tmp_path: Path, capsys: Capture) -> None:
    """One data directory for all: what a cut-off start leaves behind is in the way of none after it."""
    data = tmp_path / "data"
    path = tmp_path / "topology.yaml"
    shutil.copy(repository / "topology.yaml", path)
    for stage, (reached, twice) in STAGES.items():
        with dev(repository, data, "--topology", str(path)) as starting:
            until(lambda reached=reached, starting=starting: reached(starting, data), START_S)  # type: ignore[misc]
            assert starting.process.poll() is None, starting.said
            assert interrupt(starting, twice=twice) in INTERRUPTED, f"{stage}: {starting.said}"
            assert "Traceback" not in starting.said, stage
            assert "Ready after" not in starting.said
        until(lambda: processes_of(tmp_path) == [], STOP_S)
    with dev(repository, data, "--topology", str(path)) as last:
        last.wait_until_ready()
        where = ("--broker", last.setting("Kafka"), "--topology", str(path))
        answered = pointsman(capsys, "submit", "Convert 5 km to miles", "--wait", *where, "-o", "jsonl")
        assert [row["status"] for row in answered.rows] == ["COMPLETED"]
        assert interrupt(last, twice=True) in INTERRUPTED
        assert "Traceback" not in last.said
    until(lambda: processes_of(tmp_path) == [], STOP_S)


def test_the_next_start_is_not_hindered_by_what_a_killed_one_left_behind(
    repository: Path, tmp_path: Path, prefix: str, broker: str
) -> None:
    data = tmp_path / "data"
    flags = ("--broker", broker, "--topology", str(topology_file(repository, tmp_path, prefix)))
    with dev(repository, data, *flags) as killed:
        killed.wait_until_ready()
        killed.process.kill()
        killed.process.wait()
        with dev(repository, data, *flags) as successor:
            successor.wait_until_ready()
            successor.stop()
            assert successor.process.returncode == ExitCode.OK
    assert processes_of(data) == []


def test_a_clickhouse_of_ones_own(
    repository: Path, tmp_path: Path, prefix: str, broker: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data"
    with clickhouse_server(tmp_path / "clickhouse") as url:
        flags = ("--broker", broker, "--topology", str(topology_file(repository, tmp_path, prefix)))
        monkeypatch.setenv("POINTSMAN_CLICKHOUSE_USER", USER)
        monkeypatch.setenv("POINTSMAN_CLICKHOUSE_PASSWORD", "wrong-one")
        refused = pointsman(capsys, "dev", *flags, "--clickhouse", url, "--data", str(data))
        assert (refused.code, refused.out) == (ExitCode.INVALID, "")
        assert f"ClickHouse at {url} does not let user {USER} in (a password was given)" in refused.err
        assert "wrong-one" not in refused.err
        assert not data.exists()

        monkeypatch.setenv("POINTSMAN_CLICKHOUSE_PASSWORD", PASSWORD)
        with dev(repository, data, *flags, "--clickhouse", url) as running:
            running.wait_until_ready()
            assert f"ClickHouse               {url}  (yours, user {USER}; database pointsman" in running.said
            assert "data survives a restart  as your Kafka and your ClickHouse keep them" in running.said
            assert not (data / "clickhouse").exists()
            answered = pointsman(capsys, "submit", "Convert 5 km to miles", "--wait", *flags, "-o", "jsonl")
            (task,) = answered.rows
            show = ("task", "show", task["task_id"], "--clickhouse", url)
            until(lambda: "COMPLETED (ANSWERED)" in pointsman(capsys, *show).out, 30)
            running.stop()
            assert running.process.returncode == ExitCode.OK
            assert PASSWORD not in running.said
    (port,) = free_ports(1)
    gone = pointsman(capsys, "dev", *flags, "--clickhouse", f"http://127.0.0.1:{port}", "--data", str(data))
    assert gone.code == ExitCode.UNREACHABLE
    assert f"Cannot reach ClickHouse at http://127.0.0.1:{port}" in gone.err


@pytest.mark.parametrize(
    ("flag", "address"),
    [
        ("--kafka-port", "127.0.0.1"),
        ("--kafka-port", "::"),
        ("--clickhouse-port", "0.0.0.0"),
        ("--registry-port", "::1"),
    ],
)
def test_a_named_port_that_is_taken_ends_it_before_anything_starts(
    address: str, flag: str, repository: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(repository)
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with closing(socket.create_server((address, 0), family=family)) as held:
        port = held.getsockname()[1]
        said = pointsman(capsys, "dev", flag, str(port), "--data", str(tmp_path / "data"))
    assert said.code == ExitCode.INVALID
    assert f"{flag}: port {port} is held by python" in said.err
    assert f"(pid {os.getpid()}" in said.err
    assert "[E523]" in said.err
    assert processes_of(tmp_path) == []


def test_a_port_of_a_service_that_is_not_started_here_is_a_contradiction(capsys: Capture, repository: Path) -> None:
    topology = ("--topology", str(repository / "topology.yaml"))
    said = pointsman(capsys, "dev", "--broker", "127.0.0.1:9", "--kafka-port", "9", *topology)
    assert said.code == ExitCode.USAGE
    assert "with --broker there is none" in said.err


@contextmanager
def mounted(folder: Path, *options: str) -> Iterator[Path]:
    """A file system in memory."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("only root may mount")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_small_disk_and_a_read_only_one(
    repository: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(repository)
    with mounted(tmp_path / "small", "size=8m") as small:
        full = pointsman(capsys, "dev", "--data", str(small / "data"))
    assert full.code == ExitCode.INVALID
    assert f"The disk of {small / 'data'} has 7 MiB left, and 256 MiB are needed to start" in full.err
    with mounted(tmp_path / "fixed", "ro") as fixed:
        refused = pointsman(capsys, "dev", "--data", str(fixed / "data"))
    assert refused.code == ExitCode.INVALID
    assert "cannot be used: Read-only file system. Choose another directory with --data DIR." in refused.err
    assert "Traceback" not in full.err + refused.err


def test_a_disk_that_fills_up_ends_it_with_the_reason(
    repository: Path, tmp_path: Path, prefix: str, broker: str
) -> None:
    topology = topology_file(repository, tmp_path, prefix)
    with mounted(tmp_path / "disk of its own", "size=300m") as disk:
        data = disk / "da,ta=1"
        with dev(repository, data, "--broker", broker, "--topology", str(topology)) as running:
            running.wait_until_ready()
            with (disk / "filler").open("wb") as filler, suppress(OSError):
                while True:
                    filler.write(b"\0" * 65_536)
                    filler.flush()
            os.kill(int(json.loads((data / "run" / "host.json").read_text())["pid"]), signal.SIGKILL)
            assert running.end(60) == ExitCode.FAILED
            assert f"The disk of {data} is full (" in running.said
            assert "The host process was ended by signal 9" in running.said
            assert "Traceback" not in running.said
    assert processes_of(data) == []
