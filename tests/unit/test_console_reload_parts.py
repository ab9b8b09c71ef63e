"""The parts of a reload: what counts as a saved file, what two topologies differ in, and what a fresh process finds."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from console.local import check as check_module
from console.local.changes import compare
from console.local.check import CheckFailedError, check
from console.local.watch import AWAY_S, SETTLE_MAX_S, SETTLE_S, Watch
from schemas.topology import Topology, parse_topology

TOPOLOGY = """
prefix: ""
partitions: 4
kafka: {}
limits: {poll_ms: 20}
agents:
  one: {run: "mine:one", effect: read}
  two: {run: "mine:two", effect: read}
routes:
  first: {agents: [one, two], phrases: [first], fallback: {answer: nothing}}
  second: {agents: [two], fallback: {answer: nothing}}
default_route: first
"""
ONE = "def one(task, context): ...\n"
TWO = "def two(task, context): ...\n"


class Clock:
    """Stands still until it is told."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


class Watched:
    """A file, a watch on it, and the clock of the watch."""

    def __init__(self, folder: Path) -> None:
        self.path, self.clock = folder / "topology.yaml", Clock()
        self.path.write_text("one")
        self.watch = Watch([self.path], self.clock)

    def after(self, seconds: float) -> set[Path]:
        self.clock.now += seconds
        return self.watch.poll()


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    return Watched(tmp_path)


def test_a_file_counts_once_it_rests(watched: Watched) -> None:
    assert watched.after(10) == set()
    watched.path.write_text("two")
    assert watched.after(0) == set()
    assert watched.after(SETTLE_S * 0.9) == set()
    assert watched.after(SETTLE_S) == {watched.path}
    assert watched.after(10) == set()


def test_saves_in_quick_succession_are_one_change(watched: Watched) -> None:
    for number in range(5):
        watched.path.write_text("x" * number)
        assert watched.after(SETTLE_S * 0.5) == set()
    assert watched.after(SETTLE_S) == {watched.path}
    assert watched.after(10) == set()


def test_a_file_that_is_written_without_a_pause_is_looked_at_all_the_same(watched: Watched) -> None:
    seen = 0
    for number in range(int(SETTLE_MAX_S / SETTLE_S) * 3):
        watched.path.write_text("x" * number)
        seen += bool(watched.after(SETTLE_S * 0.9))
    assert 1 <= seen <= 3


def test_a_save_by_rename_and_a_file_that_is_away_for_a_moment(watched: Watched) -> None:
    draft = watched.path.with_suffix(".tmp")
    draft.write_text("two")
    watched.path.unlink()
    assert watched.after(SETTLE_S) == set()
    assert watched.after(SETTLE_S) == set()
    draft.replace(watched.path)
    assert watched.after(0) == set()
    assert watched.after(SETTLE_S) == {watched.path}


def test_a_file_that_stays_away_is_a_change_and_so_is_its_return(watched: Watched) -> None:
    watched.path.unlink()
    assert watched.after(0) == set()
    assert watched.after(AWAY_S) == {watched.path}
    assert watched.after(10) == set()
    watched.path.write_text("one")
    assert watched.after(0) == set()
    assert watched.after(SETTLE_S) == {watched.path}


def test_a_save_without_a_change_is_none(watched: Watched) -> None:
    watched.path.write_text("one")
    os.utime(watched.path, (1, 1))
    assert watched.after(0) == set()
    assert watched.after(SETTLE_S) == set()


def test_a_file_is_watched_from_what_it_holds_when_it_is_added(watched: Watched, tmp_path: Path) -> None:
    other = tmp_path / "not_there_yet.py"
    watched.watch.add([other, watched.path])
    assert watched.after(10) == set()
    other.write_text("")
    assert watched.after(0) == set()
    assert watched.after(SETTLE_S) == {other}


def changed(*replacements: tuple[str, str]) -> Topology:
    text = TOPOLOGY
    for old, new in replacements:
        assert old in text
        text = text.replace(old, new)
    return parse_topology(text, "topology.yaml")


@pytest.mark.parametrize(
    ("replacements", "lines", "services"),
    [
        ([], [], set()),
        ([("poll_ms: 20", "poll_ms: 30")], ["limits.poll_ms 20 -> 30"], {"worker", "host", "store"}),
        ([("poll_ms: 20", "poll_ms: 20, drain_ms: 30")], ["limits.drain_ms 8000 -> 30"], {"host"}),
        (
            [("poll_ms: 20", "poll_ms: 20, history_interval_ms: 30")],
            ["limits.history_interval_ms 1000 -> 30"],
            {"store"},
        ),
        ([("kafka: {}", "kafka: {client.rack: a}")], ["kafka.client.rack"], {"worker", "host", "store"}),
        (
            [("  two: {", '  three: {run: "mine:three", effect: write}\n  two: {')],
            ["agent three added"],
            {"worker", "host", "store", "registry"},
        ),
        (
            [('  one: {run: "mine:one", effect: read}\n', ""), ("[one, two]", "[two]")],
            ["agent one removed (its topics stay)", "route first changed: agents"],
            {"worker", "host", "store", "registry"},
        ),
        ([('"mine:two"', '"mine:zwei"')], ["agent two changed: run mine:two -> mine:zwei"], {"host"}),
        (
            [('"mine:two", effect: read', '"mine:two", effect: read, accuracy: 0.9, options: {a: 1}')],
            ["agent two changed: accuracy 0.8 -> 0.9, options"],
            {"host", "worker"},
        ),
        (
            [("default_route: first", "default_route: second")],
            ["default_route first -> second"],
            {"worker"},
        ),
        (
            [("  second: {agents: [two], fallback", "  third: {description: new, agents: [two], fallback")],
            ["route third added", "route second removed"],
            {"worker"},
        ),
        (
            [("agents: [two], fallback", "description: new, agents: [two], fallback")],
            ['route second changed: description "" -> new'],
            set(),
        ),
        (
            [("{answer: nothing}}\n  second", "{answer: something}}\n  second")],
            ["route first changed: fallback"],
            {"worker"},
        ),
    ],
)
def test_what_is_different_and_whom_it_concerns(
    replacements: list[tuple[str, str]], lines: list[str], services: set[str]
) -> None:
    changes = compare(changed(), changed(*replacements))
    assert list(changes.lines) == lines
    assert changes.services == services
    assert changes.refused == ()


def test_the_order_of_routes_decides_and_is_a_change() -> None:
    first = "  first: {agents: [one, two], phrases: [first], fallback: {answer: nothing}}\n"
    changes = compare(changed(), changed((first, ""), ("default_route", f"{first}default_route")))
    assert changes.lines == ("the order of the routes changed",)
    assert changes.services == {"worker"}


def test_what_belongs_to_a_deployment_is_refused_with_the_reason() -> None:
    changes = compare(changed(), changed(('prefix: ""', "prefix: other."), ("partitions: 4", "partitions: 5")))
    assert [line.partition(" while it runs: ")[0] for line in changes.refused] == [
        'prefix cannot be changed from "" to other.',
        "partitions cannot be changed from 4 to 5",
    ]
    assert changes.lines == ()


def test_values_of_kafka_settings_are_never_shown() -> None:
    changes = compare(changed(), changed(("kafka: {}", "kafka: {sasl.username: hunter2}")))
    assert "hunter2" not in str(changes)


def written(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    written(tmp_path, "topology.yaml", TOPOLOGY)
    written(tmp_path, "helper.py", "print('to stdout while it is imported')\nanswer = 42\n")
    written(tmp_path, "mine.py", f"import helper\n{ONE}{TWO}")
    return tmp_path


def test_a_fresh_process_names_the_files_that_agents_are_made_of(project: Path) -> None:
    verdict = check(project / "topology.yaml", "my topology", os.environ)
    assert verdict.faults == ()
    assert verdict.files == {project / "mine.py", project / "helper.py", project / "mine" / "__init__.py"}


def test_what_was_imported_once_is_not_remembered(project: Path) -> None:
    assert check(project / "topology.yaml", "topology.yaml", os.environ).faults == ()
    written(project, "mine.py", ONE)
    (fault,) = check(project / "topology.yaml", "topology.yaml", os.environ).faults
    assert (fault.path, fault.line, fault.column) == ("agents.two.run", 8, 14)


def test_files_that_fail_are_named_too_so_that_mending_them_counts(project: Path) -> None:
    written(project, "helper.py", "answer = (42\n")
    verdict = check(project / "topology.yaml", "topology.yaml", os.environ)
    assert {fault.path for fault in verdict.faults} == {"agents.one.run", "agents.two.run"}
    assert f"{project / 'helper.py'}:1:10: '(' was never closed" in verdict.faults[0].message
    assert {project / "mine.py", project / "helper.py"} <= verdict.files


def test_a_module_that_is_missing_is_waited_for_where_it_would_be(project: Path, tmp_path: Path) -> None:
    (project / "mine.py").unlink()
    elsewhere = tmp_path / "elsewhere"
    verdict = check(project / "topology.yaml", "topology.yaml", {**os.environ, "PYTHONPATH": str(elsewhere)})
    assert len(verdict.faults) == 2
    assert {project / "mine.py", project / "mine" / "__init__.py", elsewhere / "mine.py"} <= verdict.files


def test_programs_and_scripts_of_agents_are_files_of_theirs_too(project: Path) -> None:
    command = "{kind: command, command: [./run.sh, script.js, --fast], cwd: programs, effect: read}"
    written(project, "topology.yaml", TOPOLOGY.replace('{run: "mine:two", effect: read}', command))
    (project / "programs").mkdir()
    script = written(project / "programs", "script.js", "")
    verdict = check(project / "topology.yaml", "topology.yaml", os.environ)
    assert [fault.path for fault in verdict.faults] == ["agents.two.command[0]"]
    assert {script, project / "programs" / "run.sh", project / "mine.py"} <= verdict.files
    assert project / "programs" / "--fast" not in verdict.files


def test_faults_of_the_topology_itself(project: Path) -> None:
    written(project, "topology.yaml", TOPOLOGY.replace("effect: read}", "effect: reed}"))
    verdict = check(project / "topology.yaml", "topology.yaml", os.environ)
    assert [(fault.path, fault.line) for fault in verdict.faults] == [
        ("agents.one.effect", 7),
        ("agents.two.effect", 8),
    ]


def test_code_that_ends_or_holds_the_process_is_told(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(project, "mine.py", "import os, sys\nprint('bye', file=sys.stderr)\nsys.stderr.flush()\nos._exit(3)\n")
    with pytest.raises(CheckFailedError, match=r"ended with status 3\. bye"):
        check(project / "topology.yaml", "topology.yaml", os.environ)
    written(project, "mine.py", "import time\ntime.sleep(600)\n")
    monkeypatch.setattr(check_module, "TIMEOUT_S", 4.0)
    with pytest.raises(CheckFailedError, match="took longer than 4 s"):
        check(project / "topology.yaml", "topology.yaml", os.environ)
