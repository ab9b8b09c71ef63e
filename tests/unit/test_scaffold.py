"""`pointsman init agent`: what it writes works as it stands, and what is there is left alone."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from console.cli.failures import ExitCode
from console.scaffold.addition import with_agent
from console.scaffold.templates import Kind, files, lines
from schemas.errors import ConfigurationError, TopologyError
from schemas.topology import load_topology, parse_topology
from tests.support.console import pointsman
from tests.support.topologies import TEXT
from tests.unit.test_docs import ROOT

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with the shipped topology in it."""
    shutil.copy(ROOT / "topology.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("kind", Kind)
def test_what_is_written_passes_its_own_test_and_answers_at_once(kind: Kind, folder: Path, capsys: Capture) -> None:
    name = f"opening_hours_by_{kind}"
    said = pointsman(capsys, "init", "agent", name, "--kind", kind, "--add")
    assert (said.code, said.out) == (ExitCode.OK, "")
    made = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.py"))
    assert made == sorted(map(str, files(kind, name)))
    tests = [f"test_{name}"] if kind is Kind.PYTHON else ["discover", name]
    done = subprocess.run(
        [sys.executable, "-m", "unittest", *tests], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Ran 2 tests" in done.stderr
    topology = load_topology(folder / "topology.yaml")
    assert (topology.agents[name].kind, topology.routes[name].agents) == (kind, (name,))
    assert topology.routes[name].phrases[0].phrase == name.replace("_", " ")
    if kind is not Kind.HTTP:  # that has to be started first
        tried = pointsman(capsys, "agents", "test", name, "When is Lisbon open?", "-o", "jsonl")
        assert (tried.code, tried.rows[0]["answer"]) == (ExitCode.OK, "In Lisbon: 9 to 18.")


def test_without_being_asked_the_topology_is_left_alone(folder: Path, capsys: Capture) -> None:
    before = (folder / "topology.yaml").read_bytes()
    said = pointsman(capsys, "init", "agent", "opening_hours", "--kind", "command")
    assert said.code == ExitCode.OK
    assert said.out == lines(Kind.COMMAND, "opening_hours")
    assert (folder / "topology.yaml").read_bytes() == before


@pytest.mark.parametrize(("kind", "path"), [("python", "test_hours.py"), ("command", "hours/agent.py")])
def test_nothing_is_overwritten_and_nothing_written_beside_it(
    kind: str, path: str, folder: Path, capsys: Capture
) -> None:
    (folder / path).parent.mkdir(exist_ok=True)
    (folder / path).write_text("mine")
    said = pointsman(capsys, "init", "agent", "hours", "--kind", kind, "--add")
    assert (said.code, said.out) == (ExitCode.INVALID, "")
    assert path in said.err
    assert [each.read_text() for each in folder.rglob("*.py")] == ["mine"]
    assert (folder / "topology.yaml").read_text() == (ROOT / "topology.yaml").read_text()


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("Opening-Hours", ExitCode.USAGE, "use lower-case letters, digits and underscores, a letter first"),
        ("2nd", ExitCode.USAGE, "a letter first"),
        ("ünder", ExitCode.USAGE, "lower-case letters"),
        ("../hours", ExitCode.USAGE, "lower-case letters"),
        ("class", ExitCode.USAGE, "a word of Python"),
        ("json", ExitCode.INVALID, "such as json_agent"),
        ("agents", ExitCode.INVALID, "such as agents_agent"),
        ("sql_agent", ExitCode.INVALID, "has an agent sql_agent already"),
    ],
)
def test_a_name_that_cannot_be_gets_the_rule(
    name: str, code: ExitCode, words: str, folder: Path, capsys: Capture
) -> None:
    said = pointsman(capsys, "init", "agent", name, "--add")
    assert (said.code, said.out) == (code, "")
    assert words in said.err
    assert list(folder.rglob("*.py")) == []


def test_a_folder_that_cannot_be_written_is_told(folder: Path, capsys: Capture) -> None:
    (folder / "hours").write_text("a file, where a folder would have to be")
    said = pointsman(capsys, "init", "agent", "hours", "--kind", "http")
    assert said.code == ExitCode.INVALID
    assert "Nothing was written" in said.err


def test_no_topology_to_add_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.chdir(tmp_path)
    said = pointsman(capsys, "init", "agent", "hours", "--add")
    assert said.code == ExitCode.INVALID
    assert "There is no topology" in said.err
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------ the text of a topology

LINES = lines(Kind.PYTHON, "hours")


def added(text: str) -> str:
    return with_agent(text, "topology.yaml", LINES, "hours")


def test_nothing_else_of_the_file_changes() -> None:
    text = (ROOT / "topology.yaml").read_text("utf-8")
    after = added(text).splitlines()
    new = [line for line in LINES.splitlines() if line.startswith(" ")]
    for line in new:
        after.remove(line)
    assert after == text.splitlines()
    assert list(parse_topology(added(text), "x").routes)[-1] == "hours"  # on a tie the earlier route wins


@pytest.mark.parametrize(
    "text",
    [
        TEXT.rstrip("\n"),
        TEXT.replace("\n", "\r\n"),
        TEXT.replace("agents:\n", "agents:  # all of them\n\n", 1),
        TEXT.replace("routes:\n", "\n# what they serve\nroutes:\n", 1),
        TEXT.replace("default_route: money\n", "").replace("prefix: t.", "default_route: money\nprefix: t."),
        "\n".join(" " * (len(line) - len(line.lstrip())) + line for line in TEXT.splitlines()),  # indented by 4
    ],
    ids=[
        "no last newline",
        "CRLF",
        "comment at the key",
        "comment before the next key",
        "routes last",
        "indented by 4",
    ],
)
def test_lines_go_to_the_end_of_their_sections_however_the_file_is_written(text: str) -> None:
    before, after = parse_topology(text, "x"), added(text)
    topology = parse_topology(after, "x")
    assert [*topology.agents] == [*before.agents, "hours"]
    assert [*topology.routes] == [*before.routes, "hours"]
    assert after.count("\r\n") in (0, after.count("\n"))
    if "# what they serve" in text:
        assert "\n\n# what they serve\nroutes:" in after


def test_a_route_of_this_name_stays_what_it_is() -> None:
    text = TEXT.replace("  papers:", "  hours:")
    assert parse_topology(added(text), "x").routes["hours"].agents == ("beta",)


def test_a_file_that_takes_no_lines_is_left_to_its_writer() -> None:
    agents, route = '{a: {run: "m:f", effect: read}}', "r: {agents: [a], fallback: {answer: x}}"
    for text in (
        f"{{agents: {agents}, routes: {{{route}}}, default_route: r}}",
        f"agents: {agents}\nroutes:\n  {route}\ndefault_route: r\n",
    ):
        with pytest.raises(ConfigurationError, match="by hand"):
            added(text)
    with pytest.raises(TopologyError):
        added("agents: 5")
