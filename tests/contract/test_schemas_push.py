"""`pointsman schemas push`: what stands in the producers' registry, what is missing, and what it takes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from console.cli.failures import ExitCode
from console.local.ports import free_ports
from schemas.registry import Entry, FileRegistry
from tests.support.console import pointsman, topology_file
from tests.support.contract import breaches, promises
from tests.support.foreign_registry import ForeignRegistry
from tests.support.wire import definition, with_field, without_field

Capture = pytest.CaptureFixture[str]
TASK = definition("TaskSubmitted")
GROWN = with_field(TASK, {"name": "mood", "type": ["null", "string"], "default": None})
SUBJECT = "p.tasks.submitted.v1-value"


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, repository: Path) -> Iterator[ForeignRegistry]:
    registry = ForeignRegistry(first_id=500)
    monkeypatch.setenv("POINTSMAN_SCHEMA_REGISTRY", registry.url)
    monkeypatch.setenv("POINTSMAN_TOPOLOGY", str(topology_file(repository, tmp_path, "p.")))
    yield registry
    registry.close()


@pytest.fixture
def two_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    """The file has a version before today's."""
    entries = FileRegistry.load().entries
    older = without_field(TASK, "traceparent")
    versions = [Entry(11, "pointsman.TaskSubmitted", 1, older), Entry(9001, "pointsman.TaskSubmitted", 2, TASK)]
    file = FileRegistry([*(each for each in entries if each.id != 11), *versions])
    monkeypatch.setattr(FileRegistry, "load", lambda: file)


def pushed(capsys: Capture, *arguments: str, code: ExitCode = ExitCode.OK) -> list[tuple[Any, ...]]:
    said = pointsman(capsys, "schemas", "push", "-o", "jsonl", *arguments)
    assert said.code == code, said.err
    assert breaches(said.rows, promises()["pointsman schemas push"]) == []
    return [(row["version"], row["id"], row["state"]) for row in said.rows]


def test_what_is_missing_is_shown_then_registered_then_there(
    registry: ForeignRegistry, two_versions: None, capsys: Capture
) -> None:
    assert pushed(capsys, "--dry-run") == [(1, None, "missing"), (2, None, "missing")]
    assert registry.subjects == {}
    assert pushed(capsys) == [(1, 500, "added"), (2, 501, "added")]
    assert pushed(capsys) == [(1, 500, "registered"), (2, 501, "registered")]
    assert registry.subjects == {SUBJECT: [500, 501]}
    assert "doc" in json.loads(registry.texts[501])  # today's, for people
    assert pushed(capsys, "--subject", "pointsman.TaskSubmitted")[1] == (2, 501, "added")


def test_what_others_registered_is_told_apart(registry: ForeignRegistry, capsys: Capture) -> None:
    registry.add(SUBJECT, json.dumps(TASK | {"doc": "as generated"}))
    registry.add(SUBJECT, GROWN)
    registry.add(SUBJECT, without_field(TASK, "text"))
    rows = pushed(capsys, "--dry-run", code=ExitCode.INVALID)
    assert rows == [(None, 501, "readable"), (None, 502, "unreadable"), (1, 500, "registered")]
    said = pointsman(capsys, "schemas", "push", "--dry-run")
    assert "TaskSubmitted.text is missing, and has no default" in said.out
    assert said.err.startswith(f"{registry.url}: 1 registered\n")


def test_a_registry_that_takes_none_is_told(registry: ForeignRegistry, capsys: Capture) -> None:
    registry.refuses = True
    assert pushed(capsys, code=ExitCode.INVALID) == [(1, None, "refused")]


def test_an_id_of_two_meanings_is_refused(registry: ForeignRegistry, capsys: Capture) -> None:
    registry.texts[11] = json.dumps(GROWN)
    said = pointsman(capsys, "schemas", "push")
    assert (said.code, said.out) == (ExitCode.INVALID, "")
    assert "[E532]" in said.err


def test_without_a_registry_there_is_nothing_to_push_to(
    registry: ForeignRegistry, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setenv("POINTSMAN_SCHEMA_REGISTRY", f"http://127.0.0.1:{free_ports(1)[0]}")
    said = pointsman(capsys, "schemas", "push")
    assert (said.code, said.out) == (ExitCode.UNREACHABLE, "")
    assert "Cannot reach the schema registry" in said.err
    monkeypatch.delenv("POINTSMAN_SCHEMA_REGISTRY")
    said = pointsman(capsys, "schemas", "push")
    assert said.code == ExitCode.USAGE
    assert "POINTSMAN_SCHEMA_REGISTRY" in said.err


@pytest.mark.parametrize("url", ["http://me:secret@127.0.0.1:1", "registry:8081", "http://h/?key=secret"])
def test_an_address_with_credentials_is_refused_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture, url: str
) -> None:
    monkeypatch.setenv("POINTSMAN_SCHEMA_REGISTRY", url)
    said = pointsman(capsys, "schemas", "push")
    assert said.code == ExitCode.INVALID
    assert said.err.startswith("pointsman: POINTSMAN_SCHEMA_REGISTRY: must be http://HOST:PORT")
    assert "secret" not in said.err
