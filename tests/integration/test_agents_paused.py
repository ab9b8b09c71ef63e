"""Agents that people pause, resume and retire, in real processes: who is asked then, why, and what is left of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from console.cli.failures import ExitCode
from schemas.settings import Settings
from schemas.topology import load_topology
from streams.client import Client
from streams.history.queries import History
from streams.transport.admin import ensure_topics
from tests.support.console import Said, pointsman
from tests.support.contract import breaches, promises
from tests.support.fleet import Fleet, wait_for

pytestmark = [pytest.mark.broker, pytest.mark.timeout(240)]

Say = Callable[..., Said]
WAIT_S = 60.0

TOPOLOGY = """
prefix: "{prefix}"
partitions: 2
agents:
  gated: {{run: "gated_agent:run", effect: read, concurrency: 1, timeout_ms: 120000, description: waits for a file}}
  spare: {{run: "agents.builtin.echo:reply", effect: read}}
routes:
  all: {{agents: [gated, spare], deadline_ms: 600000, fallback: {{answer: "Ask Ann."}}}}
default_route: all
"""
AGENT = """
import asyncio, pathlib
from agents.contract import Answer

GATE, CALLS = (pathlib.Path(__file__).with_name(name) for name in ("gate", "calls"))

async def run(task, context):
    with CALLS.open("a") as calls:
        calls.write(task.task_id + "\\n")
    while not GATE.exists():
        await asyncio.sleep(0.01)
    return Answer("gated", 0.9)
"""


@pytest.fixture
def path(tmp_path: Path, prefix: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "gated_agent.py").write_text(AGENT)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    path = tmp_path / "topology.yaml"
    path.write_text(TOPOLOGY.format(prefix=prefix))
    return path


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str], path: Path, broker: str, monkeypatch: pytest.MonkeyPatch) -> Say:
    monkeypatch.setenv("POINTSMAN_BROKER", broker)
    monkeypatch.setenv("POINTSMAN_TOPOLOGY", str(path))
    return lambda *arguments: pointsman(capsys, "agents", *arguments)


def test_what_is_printed_keeps_the_promises_of_the_page(say: Say, broker: str, path: Path) -> None:
    assert say("pause", "gated").code == say("list").code == ExitCode.UNREACHABLE
    ensure_topics(Settings(broker=broker), load_topology(path).topics().specs())
    first = say("resume", "gated", "-o", "jsonl")
    assert (first.code, first.rows[0]["at"], "asked already" in first.err) == (ExitCode.OK, None, True)
    assert breaches(first.rows, promises()["pointsman agents resume"]) == []
    assert say("retire", "gated").code == ExitCode.USAGE, "nobody can be asked here"
    steps = [
        ("pause", ("--why", "too slow"), "PAUSED", promises()["pointsman agents pause"]),
        ("retire", ("--yes",), "RETIRED", promises()["pointsman agents retire"]),
        ("resume", ("--yes", "--why", "was a mistake"), "ASKED", promises()["pointsman agents resume"]),
    ]
    for command, more, state, promised in steps:
        said = [json.loads(say(command, "gated", *more, "-o", form).out) for form in ("json", "jsonl")]
        assert breaches(said, promised) == []
        assert said[0] == said[1], "the second changes nothing"
        assert (said[0]["agent"], said[0]["state"], said[0]["paused"]) == ("gated", state, state != "ASKED")
        if state == "RETIRED":
            assert json.loads(say("pause", "gated", "-o", "json").out)["state"] == "RETIRED", "which is more"
            assert say("resume", "gated").code == ExitCode.USAGE, "asks first"
    assert "every agent of the route all" not in say("pause", "gated").err
    assert "its fallback answer is given" in say("pause", "spare", "--why", "both").err
    listed = say("list", "-o", "jsonl")
    # No host and no worker has ever been here.
    assert [(row["agent"], row["state"], row["why"], row["breaker"], row["version"]) for row in listed.rows] == [
        ("gated", "PAUSED", "PAUSED_BY_HAND", "CLOSED", None),
        ("spare", "PAUSED", "both", "CLOSED", None),
    ]
    assert breaches(say("show", "spare", "-o", "jsonl").rows, promises()["pointsman agents show"]) == []
    assert "spare is paused by" in say("list").err
    assert say("pause", "gate").code == say("show", "nobody").code == ExitCode.NOT_FOUND


class Scene:
    """A fleet, whom to ask, and what came of it."""

    def __init__(self, fleet: Fleet, client: Client, history: History, directory: Path) -> None:
        self.fleet, self._client, self.history, self._directory = fleet, client, history, directory

    def submit(self, *ids: str) -> None:
        """In one conversation: one partition, and one call at a time."""
        columns: dict[str, Any] = {"task_id": list(ids), "text": ["hello"] * len(ids), "intent": ["all"] * len(ids)}
        columns |= {"confidence": [0.95] * len(ids), "conversation_id": ["c"] * len(ids)}
        self._client.send([self._client.prepare_columns(columns)])

    def ask(self, task_id: str) -> tuple[str, str, list[str]]:
        """Submits a task; gives status, reason and agents of its result."""
        self.submit(task_id)
        wait_for(lambda: task_id in self.results(), WAIT_S, f"the result of {task_id}")
        return self.results()[task_id]

    def results(self) -> dict[str, tuple[str, str, list[str]]]:
        rows = self.rows("SELECT task_id, status, reason, agents FROM results")
        return {task: (status, reason, agents) for task, status, reason, agents in rows}

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        return list(self.history.query(sql).rows)

    def calls(self) -> list[str]:
        path = self._directory / "calls"
        return path.read_text().split() if path.exists() else []

    def heard(self, words: str, times: int = 1) -> None:
        for name in ("worker", "host"):
            wait_for(lambda name=name: self.fleet.said(name).count(words) >= times, WAIT_S, f"{name}: {words}")  # type: ignore[misc]


@pytest.fixture
def scene(broker: str, path: Path, tmp_path: Path) -> Iterator[Scene]:
    with Fleet(broker, tmp_path, path) as fleet, Client.of(fleet.settings, fleet.topology) as client:
        fleet.start("store", "worker", "host")
        with closing(History(fleet.clickhouse)) as history:
            yield Scene(fleet, client, history, tmp_path)


@pytest.mark.slow
def test_nobody_asks_who_is_paused_through_crashes_of_worker_and_host(say: Say, scene: Scene, tmp_path: Path) -> None:
    scene.submit("a", "b", "c")
    wait_for(lambda: scene.calls() == ["a"], WAIT_S, "the first call")
    assert say("pause", "gated", "--why", "wrong since noon").code == ExitCode.OK
    # What waited in the inbox is handed on at once, long before its time is over; what runs goes on.
    wait_for(lambda: set(scene.results()) == {"b", "c"}, WAIT_S, "what waited")
    assert {agents[0] for _, _, agents in scene.results().values()} == {"spare"}
    (tmp_path / "gate").touch()
    wait_for(lambda: "a" in scene.results(), WAIT_S, "what ran")
    assert scene.results()["a"] == ("COMPLETED", "ANSWERED", ["gated"])
    assert scene.ask("d")[2] == ["spare"]
    for name in ("worker", "host"):
        scene.fleet.kill(name)
    gated = say("list", "-o", "jsonl").rows[0]
    assert (gated["state"], gated["why"], gated["last_activity"] is None) == ("PAUSED", "wrong since noon", False)
    scene.fleet.start("worker", "host")
    assert scene.ask("e")[2] == ["spare"]
    gated, spare = listed = say("list", "-o", "jsonl").rows
    assert breaches(listed, promises()["pointsman agents list"]) == []
    assert (spare["state"], len(spare["hosts"]), spare["inbox"], spare["epoch"] > 1) == ("LIVE", 1, 0, True)
    assert gated["breaker"] == "CLOSED", "a pause is not the agent's fault"
    assert scene.calls() == ["a"]
    asked = "SELECT task_id, agent_id, reason FROM dispatches WHERE task_id IN ('d', 'e') ORDER BY task_id"
    assert scene.rows(asked) == [("d", "spare", "AGENT_PAUSED"), ("e", "spare", "AGENT_PAUSED")]
    assert scene.rows("SELECT agent_id, reason FROM cascades") == [("gated", "PAUSED")] * 2
    report = scene.fleet.report(WAIT_S)
    assert (report.tasks.accepted, report.tasks.results, report.findings()) == (5, 5, [])


@pytest.mark.slow
def test_an_agent_that_retired_is_asked_no_more_and_stays_readable(say: Say, scene: Scene, tmp_path: Path) -> None:
    (tmp_path / "gate").touch()
    assert scene.ask("a") == ("COMPLETED", "ANSWERED", ["gated"])
    say("pause", "spare")
    assert say("retire", "gated", "--why", "replaced", "--yes").code == ExitCode.OK
    scene.heard("an agent is not asked", times=2)
    assert scene.ask("b") == ("DEGRADED", "AGENTS_PAUSED", []), "no floor asks them"
    assert say("resume", "spare").code == ExitCode.OK
    scene.heard("an agent is asked again")
    assert scene.ask("c")[2] == ["spare"]
    assert scene.calls() == ["a"]
    assert scene.rows("SELECT agent_id, state, why, by != '' FROM agent_pauses ORDER BY at") == [
        ("spare", "PAUSED", "", True),
        ("gated", "RETIRED", "replaced", True),
        ("spare", "ASKED", "", True),
    ]
    noted = "SELECT agent_id, reason FROM orchestrator_events WHERE kind = 'PAUSE_CHANGED' ORDER BY at"
    assert scene.rows(noted) == [("spare", "PAUSED_BY_HAND"), ("gated", "RETIRED"), ("spare", "RESUMED_BY_HAND")]
    assert scene.rows("SELECT task_id, answer FROM agent_events WHERE agent_id = 'gated' AND kind = 'COMPLETED'") == [
        ("a", "gated")
    ], "its log stays"
