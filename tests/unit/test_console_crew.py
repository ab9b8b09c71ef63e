"""Processes that are started, started again and replaced: real ones, whose behaviour the "topology" file states."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from console.local import crew as crew_module
from console.local import restarts as restarts_module
from console.local.child import ProcessEndedError
from console.local.crew import Crew
from console.local.data import DataDirectory
from console.local.services import Site
from schemas.settings import Settings
from tests.support.waiting import deadline_in

# As our processes do it (console/cli/serve.py): `refuse` when held, `fail` when released, `deaf` to SIGTERM.
SCRIPT = """
import json, os, pathlib, signal, sys, time
name, topology, ready, *flags = sys.argv[1:]
does = json.loads(pathlib.Path(topology).read_text()).get(name, "serve")
def say(said):
    draft = pathlib.Path(f"{ready}.{os.getpid()}")
    draft.write_text(json.dumps({"pid": os.getpid(), **said}))
    draft.replace(ready)
def end(*_):
    os._exit(0)
signal.signal(signal.SIGTERM, signal.SIG_IGN if does == "deaf" else end)
if "refuse" in does:
    sys.exit(f"pointsman {name}: it cannot be had")
if "--hold" in flags:
    say({"held": True})
    sys.stdin.readline()
if does == "fail":
    sys.exit(f"pointsman {name}: it broke")
say({"does": does})
if does == "end":
    sys.exit(3)
sys.stdin.read()
"""


class Scene(Site):
    """A site whose processes are scripts."""

    def command(self, name: str, topology: Path, ready: Path) -> list[str]:
        return [sys.executable, "-c", SCRIPT, name, str(topology), str(ready)]

    def environment(self) -> Mapping[str, str]:
        return os.environ


class Stage:
    """A crew, what it reported, and its files."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.said = folder, list[str]()
        self.data = DataDirectory(folder)
        self.data.open({})
        site = Scene(folder, Settings(), own_broker=True, own_clickhouse=True, services=("store", "worker", "host"))
        self.crew = Crew(site, self.data, self.said.append)

    def topology(self, **does: str) -> Path:
        path = self.folder / f"{len(list(self.folder.glob('*.topology')))}.topology"
        path.write_text(json.dumps(does))
        return path

    def pids(self) -> dict[str, int]:
        return {name: child.pid or 0 for name, child in self.crew.children.items()}

    def tend_until(self, condition: Callable[[], bool]) -> None:
        deadline = deadline_in(60)
        while not condition():
            assert time.monotonic() < deadline, self.said
            self.crew.tend()
            time.sleep(0.01)


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    monkeypatch.setattr(restarts_module, "FIRST_PAUSE_S", 0.01)
    made = Stage(tmp_path)
    try:
        yield made
    finally:
        made.crew.kill()
        made.data.close()


def nothing() -> None:
    pass


def test_whoever_cannot_start_is_told_with_its_own_words(stage: Stage) -> None:
    with pytest.raises(
        ProcessEndedError, match=r"The worker process ended with status 1\. Its last words:\nit cannot be"
    ):
        stage.crew.start(stage.topology(worker="refuse"), stage.crew.check)


def test_what_ends_over_and_over_is_given_up(stage: Stage) -> None:
    path = stage.topology()
    stage.crew.start(path, nothing)
    path.write_text('{"worker": "fail"}')
    os.kill(stage.pids()["worker"], signal.SIGKILL)
    with pytest.raises(ProcessEndedError, match="It was started again 5 times, and that did not help") as given_up:
        stage.tend_until(lambda: False)
    assert "it broke" in str(given_up.value)
    assert len(stage.said) == 5
    assert stage.said[0].startswith("The worker process was ended by signal 9: killed by hand, or by the kernel")
    assert stage.said[1].startswith("The worker process ended with status 1: it broke; starting it again in")


def test_new_processes_take_the_place_of_the_old(stage: Stage) -> None:
    stage.crew.start(stage.topology(), nothing)
    before = stage.pids()
    stage.crew.replace(["worker", "host"], stage.topology(host="serve anew"))
    after = stage.pids()
    assert after["store"] == before["store"]
    assert (after["worker"] != before["worker"], after["host"] != before["host"]) == (True, True)
    for pid in (before["worker"], before["host"]):
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    announced = json.loads((stage.folder / "run" / "host.json").read_text())
    assert (announced["pid"], announced["does"]) == (after["host"], "serve anew")
    assert sorted(path.name for path in (stage.folder / "run").iterdir()) == ["host.json", "store.json", "worker.json"]
    assert not list((stage.folder / "logs").glob("*.next*"))
    # And whoever dies now is started again with the new topology.
    os.kill(after["host"], signal.SIGKILL)
    stage.tend_until(lambda: "the host serves again" in stage.said)
    assert json.loads((stage.folder / "run" / "host.json").read_text())["does"] == "serve anew"


def test_what_cannot_load_costs_nothing(stage: Stage) -> None:
    stage.crew.start(stage.topology(), nothing)
    before = stage.pids()
    with pytest.raises(ProcessEndedError, match="it cannot be had"):
        stage.crew.replace(["worker", "host"], stage.topology(host="refuse"))
    assert stage.pids() == before
    stage.crew.check()


def test_what_fails_after_its_release_gives_way_to_what_was_there(stage: Stage) -> None:
    stage.crew.start(stage.topology(worker="serve as before"), nothing)
    before = stage.pids()
    with pytest.raises(ProcessEndedError, match="it broke"):
        stage.crew.replace(["worker", "host"], stage.topology(host="fail", worker="serve anew"))
    stage.tend_until(lambda: {"the host serves again", "the worker serves again"} <= set(stage.said))
    assert stage.pids()["store"] == before["store"]
    assert json.loads((stage.folder / "run" / "worker.json").read_text())["does"] == "serve as before"


def test_what_does_not_heed_its_end_is_killed_and_replaced(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew_module, "REPLACED_STOP_S", 0.3)
    stage.crew.start(stage.topology(worker="deaf"), nothing)
    before = stage.pids()
    stage.crew.replace(["worker"], stage.topology())
    assert stage.pids()["worker"] != before["worker"]
    stage.crew.check()


def test_a_stop_in_the_midst_of_a_replacement_leaves_nobody(stage: Stage) -> None:
    stage.crew.start(stage.topology(), nothing)
    stage.crew._hold(["worker", "host"], stage.topology())
    pids = [*stage.pids().values(), *(child.pid or 0 for child in stage.crew._standby.values())]
    assert len(set(pids)) == 5
    assert stage.crew.stop(time.monotonic())
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_worker_keeps_its_slot_over_starts_and_has_none_that_another_directory_has(tmp_path: Path) -> None:
    """Two of them may use one Kafka: the later one would throw the earlier one out, again and again."""
    sites = [
        Site(folder, Settings(), own_broker=False, own_clickhouse=True)
        for folder in (tmp_path / "one", tmp_path / "." / "one", tmp_path / "two")
    ]
    slots = [site.command("worker", tmp_path, tmp_path)[-1] for site in sites]
    assert slots[0] == slots[1] != slots[2]
    assert all(slot.startswith("local-") for slot in slots)
