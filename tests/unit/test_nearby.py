"""Commands in the folder of a running `dev` find it, and nothing that is no longer there."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from pathlib import Path

import pytest

from console.cli.banner import to_export
from console.cli.deployment import load_settings
from console.local.nearby import told
from console.local.supervisor import Endpoints
from schemas.errors import UnreachableError
from schemas.nearby import DIRECTORY, FILE, LOCK, serving
from streams.client import Client

AT = Endpoints("127.0.0.1:19092", "http://127.0.0.1:18123", "http://127.0.0.1:18081")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data directory in the working directory, and no setting in the environment."""
    for name in ("BROKER", "CLICKHOUSE", "TOPOLOGY"):
        monkeypatch.delenv(f"POINTSMAN_{name}", raising=False)
    monkeypatch.chdir(tmp_path)
    DIRECTORY.mkdir()
    (DIRECTORY / LOCK).touch()
    return DIRECTORY.resolve()


@pytest.fixture
def running(folder: Path) -> Iterator[None]:
    """A `dev` that has the directory and serves at AT."""
    with (folder / LOCK).open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with told(folder, AT.settings):
            yield


@pytest.mark.usefixtures("running")
def test_a_dev_in_this_folder_is_where_commands_and_programs_go() -> None:
    settings = load_settings({})
    assert (settings.broker, settings.clickhouse) == (AT.broker, AT.clickhouse)
    with Client.from_environment() as client, pytest.raises(UnreachableError, match=AT.broker):
        client.connect()


@pytest.mark.usefixtures("running")
def test_a_flag_and_a_variable_say_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POINTSMAN_CLICKHOUSE", "http://clickhouse:8123")
    settings = load_settings({"broker": "kafka:9092"})
    assert (settings.broker, settings.clickhouse) == ("kafka:9092", "http://clickhouse:8123")


def test_one_that_was_killed_is_not_gone_to(folder: Path) -> None:
    with told(folder, AT.settings):
        assert serving() == {}  # nobody holds the lock


@pytest.mark.usefixtures("running")
@pytest.mark.parametrize("text", ["", "[]", '{"broker": 9092}', "\0"])
def test_what_cannot_be_read_names_nothing(folder: Path, text: str) -> None:
    (folder / FILE).write_text(text)
    assert serving() == {}


def test_one_that_stopped_is_not_gone_to(folder: Path) -> None:
    with (folder / LOCK).open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with told(folder, AT.settings):
            assert serving() == {"broker": AT.broker, "clickhouse": AT.clickhouse}
        assert serving() == {}


def test_only_what_is_not_found_is_to_be_exported(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert dict(to_export(folder, AT)) == {}
    both = {"POINTSMAN_BROKER": AT.broker, "POINTSMAN_CLICKHOUSE": AT.clickhouse}
    assert dict(to_export(tmp_path / "elsewhere", AT)) == both
    monkeypatch.setenv("POINTSMAN_BROKER", "kafka:9092")
    assert dict(to_export(folder, AT)) == {"POINTSMAN_BROKER": AT.broker}
