"""The data directory: one owner at a time, however the last one ended, and clear words where it cannot be used."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from console.local import data as data_module
from console.local.data import FREE_BYTES_MIN, MARKER, DataDirectory, filesystem_of, versions_here
from schemas.errors import ConfigurationError

VERSIONS = {"pointsman": "0.1.0", "Kafka": "4.4.0", "chDB": "4.4.0"}


def test_it_is_taken_once_and_given_back(tmp_path: Path) -> None:
    first, second = DataDirectory(tmp_path / "new" / "data"), DataDirectory(tmp_path / "new" / "data")
    first.open(VERSIONS)
    with pytest.raises(ConfigurationError, match=rf"in use by another pointsman \(pid {os.getpid()}\)"):
        second.open(VERSIONS)
    first.close()
    second.open(VERSIONS)
    second.close()


def test_it_stays_taken_until_the_last_process_of_a_dead_supervisor_is_gone(tmp_path: Path) -> None:
    """The next one waits: the lock is inherited, and the pid in it is nobody's."""
    owner = DataDirectory(tmp_path)
    owner.open(VERSIONS)
    left = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=[owner.descriptor])
    owner.close()
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    (tmp_path / "lock").write_bytes(gone.stdout)
    said: list[str] = []
    ending = threading.Timer(0.7, left.communicate, [b"\n"])
    ending.start()
    began = time.monotonic()
    successor = DataDirectory(tmp_path, said.append)
    successor.open(VERSIONS)
    assert time.monotonic() - began >= 0.5
    assert said == [f"waiting for what an earlier run left behind in {tmp_path} to end"]
    successor.close()
    ending.join()


def test_it_does_not_wait_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_module, "LEFTOVERS_S", 0.2)
    owner = DataDirectory(tmp_path)
    owner.open(VERSIONS)
    (tmp_path / "lock").write_text("")
    with pytest.raises(ConfigurationError, match="processes that an earlier run left behind"):
        DataDirectory(tmp_path).open(VERSIONS)
    owner.close()


def test_a_directory_that_cannot_be_made_or_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match=r"cannot be used: Not a directory\. Choose another .* --data DIR"):
        DataDirectory(tmp_path / "file" / "data").open(VERSIONS)


@pytest.mark.parametrize(("field", "name"), [("Kafka", "Kafka 4.10.0"), ("chDB", "chDB 4.10.0")])
def test_what_a_newer_version_wrote_is_refused(tmp_path: Path, field: str, name: str) -> None:
    (tmp_path / MARKER).write_text(json.dumps({**VERSIONS, field: "4.10.0"}))
    with pytest.raises(ConfigurationError, match=f"was written by {name}, and this is {field} 4.4.0"):
        DataDirectory(tmp_path).open(VERSIONS)
    assert json.loads((tmp_path / MARKER).read_text())[field] == "4.10.0"


def test_a_layout_of_the_future_is_refused(tmp_path: Path) -> None:
    (tmp_path / MARKER).write_text('{"layout": 2, "pointsman": "7.0.0"}')
    with pytest.raises(ConfigurationError, match=r"made by a newer pointsman \(7\.0\.0\)"):
        DataDirectory(tmp_path).open(VERSIONS)


def test_what_an_older_version_wrote_is_taken_and_marked(tmp_path: Path) -> None:
    (tmp_path / MARKER).write_text(json.dumps({"layout": 1, "Kafka": "4.3.9", "chDB": "4.4.0"}))
    directory = DataDirectory(tmp_path)
    directory.open({"pointsman": "0.1.0", "Kafka": "4.4.0"})
    assert json.loads((tmp_path / MARKER).read_text()) == {
        "layout": 1,
        "Kafka": "4.4.0",
        "chDB": "4.4.0",
        "pointsman": "0.1.0",
    }
    directory.close()


def test_a_disk_that_is_nearly_full_is_told_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    directory = DataDirectory(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage._replace(free=FREE_BYTES_MIN - 1))
    with pytest.raises(ConfigurationError, match="has 255 MiB left, and 256 MiB are needed"):
        directory.open(VERSIONS)
    assert directory.trouble() is None
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage._replace(free=2048))
    assert "is full (2 KiB are free)" in (directory.trouble() or "")


def test_the_versions_are_those_of_what_is_installed(tmp_path: Path) -> None:
    (tmp_path / "kafka_2.13-4.4.0.jar").touch()
    assert versions_here(tmp_path, embedded=False).keys() == {"pointsman", "Kafka"}
    assert versions_here(tmp_path, embedded=False)["Kafka"] == "4.4.0"
    assert versions_here(None, embedded=True).keys() == {"pointsman", "chDB"}


@pytest.mark.skipif(not Path("/proc/self/mounts").exists(), reason="Linux tells by /proc")
def test_the_file_system_of_a_path() -> None:
    assert filesystem_of(Path("/proc/self")) == "proc"
    assert filesystem_of(Path("/dev/shm/x")) == "tmpfs"
