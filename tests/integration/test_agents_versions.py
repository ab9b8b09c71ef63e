"""A new version of an agent takes over from the old one, in real processes: which of them answered what."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from console.cli.failures import ExitCode
from schemas.epochs import Epochs
from tests.support.console import pointsman
from tests.support.fleet import wait_for
from tests.support.gated import WAIT_S, Scene, staged, write_gated

pytestmark = [pytest.mark.broker, pytest.mark.slow, pytest.mark.timeout(240)]

EVENTS = """
    SELECT topic, partition, offset, kind, task_id, agent_version, epoch FROM agent_events_log FINAL
    WHERE agent_id = 'gated' ORDER BY topic, partition, offset
"""


@pytest.fixture
def path(tmp_path: Path, prefix: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The agent's STARTED is in the log before it is called."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    path = write_gated(tmp_path, prefix)
    path.write_text(path.read_text().replace("concurrency: 1", "concurrency: 1, costly: true, version: '7'"))
    return path


@pytest.fixture
def scene(broker: str, path: Path, tmp_path: Path) -> Iterator[Scene]:
    with staged(broker, path, tmp_path) as scene:
        yield scene


def test_each_answer_is_of_one_version_and_the_log_says_since_when(
    scene: Scene, tmp_path: Path, path: Path, broker: str, capsys: pytest.CaptureFixture[str]
) -> None:
    gate, module = tmp_path / "gate", tmp_path / "gated_agent.py"
    gate.touch()
    assert scene.ask("a") == ("COMPLETED", "ANSWERED", ["gated"])
    gate.unlink()
    scene.submit("b")
    wait_for(lambda: scene.calls() == ["a", "b"], WAIT_S, "the call in which the host is killed")
    scene.fleet.kill("host")
    # Nobody raised the number: one line of code is another, as a prompt would be.
    module.write_text(module.read_text().replace('Answer("gated"', 'Answer("gated, but better"'))
    gate.touch()
    scene.fleet.start("host")
    wait_for(lambda: "b" in scene.results(), WAIT_S, "the answer of the next host")
    scene.fleet.stop("host")
    scene.fleet.start("host")  # the same version again is no change
    assert scene.ask("c") == ("COMPLETED", "ANSWERED", ["gated"])
    wait_for(lambda: scene.fleet.report(WAIT_S).history_complete, WAIT_S, "the history")

    versions = (
        "SELECT agent_version FROM agent_versions WHERE agent_id = 'gated' GROUP BY agent_version ORDER BY min(since)"
    )
    (old,), (new,) = scene.rows(versions)
    assert old.startswith("7+")
    assert new.startswith("7+")
    answered = "SELECT task_id, agent_version, answer FROM answered_by ORDER BY at"
    assert scene.rows(answered) == [
        ("a", old, "gated"),
        ("b", new, "gated, but better"),
        ("c", new, "gated, but better"),
    ]
    began = "SELECT kind, agent_version FROM agent_events WHERE task_id = 'b' AND agent_id = 'gated' ORDER BY offset"
    assert scene.rows(began) == [("STARTED", old), ("STARTED", new), ("COMPLETED", new)]
    # Each partition of the log says both changes once, and what the second one was.
    told = "SELECT partition, previous, agent_version, declared FROM agent_versions"
    told += " WHERE agent_id = 'gated' ORDER BY since"
    changes = scene.rows(told)
    assert sorted(change[:3] for change in changes) == sorted(
        (partition, *pair) for partition in (0, 1) for pair in (("", old), (old, new))
    )
    first, second = (json.loads(changes[index][3])["declared"] for index in (0, -1))
    assert {name for name in first if first[name] != second[name]} == {"file.gated_agent.py"}
    assert misfits(scene) == []
    said = pointsman(capsys, "agents", "show", "gated", "--broker", broker, "--topology", str(path), "-o", "json")
    assert (said.code, json.loads(said.out)["version"]) == (ExitCode.OK, new)


def misfits(scene: Scene) -> list[tuple[object, ...]]:
    """Events that count and bear another version than the claim before them."""
    epochs, in_force = Epochs(), dict[tuple[str, int], str]()
    wrong: list[tuple[object, ...]] = []
    for topic, partition, offset, kind, task_id, version, epoch in scene.rows(EVENTS):
        log = epochs.of((topic, partition))
        log.note(offset, epoch)
        if log.is_void(offset, epoch):
            continue
        if kind == "NOTE" and not task_id:
            in_force[topic, partition] = version
        elif version != in_force[topic, partition]:
            wrong.append((topic, partition, offset, version))
    assert in_force, "the logs were read"
    return wrong
