"""Agents that people pause, resume and retire, in real processes: who is asked then, why, and what is left of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from console.cli.failures import ExitCode
from schemas.settings import Settings
from schemas.topology import load_topology
from streams.transport.admin import ensure_topics
from tests.support.console import Said, pointsman
from tests.support.contract import breaches, promises
from tests.support.fleet import wait_for
from tests.support.gated import WAIT_S, Scene, staged, write_gated

pytestmark = [pytest.mark.broker, pytest.mark.timeout(240)]

Say = Callable[..., Said]


@pytest.fixture
def path(tmp_path: Path, prefix: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return write_gated(tmp_path, prefix)


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


@pytest.fixture
def scene(broker: str, path: Path, tmp_path: Path) -> Iterator[Scene]:
    with staged(broker, path, tmp_path) as scene:
        yield scene


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
    # A host says how far it has come some time after the answer.
    wait_for(lambda: say("list", "-o", "jsonl").rows[1]["inbox"] == 0, WAIT_S, "the host's place")
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
