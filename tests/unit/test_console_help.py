"""What `--help` says: every command on one screen, in its section, with examples that can be run."""

from __future__ import annotations

import pytest

from console.cli.help import EXAMPLES, SECTIONS, first_line, leaves
from console.cli.main import program
from tests.support.console import pointsman
from tests.unit.test_docs import command_exists

ROOT = program()
LEAVES = dict(leaves(ROOT))
SCREEN_LINES = 48

ASKING = {"agents resume", "agents retire", "chaos run", "context revoke", "dlq redrive", "topics apply"}
TAKEN_BACK_BY = {
    "agents pause": "agents resume",
    "agents resume": "agents pause",
    "topics pause": "topics resume",
    "topics resume": "topics pause",
    "facts pin": "facts unpin",
    "facts unpin": "facts pin",
    "instruct": "context withdraw",
    "context withdraw": "instruct",
}

Capture = pytest.CaptureFixture[str]


@pytest.mark.parametrize("path", sorted(LEAVES))
def test_each_fits_a_screen_and_says_what_it_does(capsys: Capture, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    said = pointsman(capsys, *path.split(), "--help")
    assert said.code == 0
    assert len(said.out.splitlines()) <= SCREEN_LINES
    assert all(len(line) <= 100 for line in said.out.splitlines())
    assert first_line(LEAVES[path]).endswith(".")
    for example in EXAMPLES.get(path, ()):
        assert f"\n    {example}\n" in said.out


def test_what_no_command_takes_back_asks_and_the_rest_does_not(capsys: Capture) -> None:
    assert {path for path, command in LEAVES.items() if any("--yes" in each.opts for each in command.params)} == ASKING
    for path, back in TAKEN_BACK_BY.items():
        assert back in LEAVES
        assert path not in ASKING or path == "agents resume", "it asks about an agent that was retired"
        if path not in ASKING:
            for flag in ("--yes", "-y"):
                said = pointsman(capsys, *path.split(), flag)
                assert f"No such option: {flag}; this command does not ask" in said.err


def test_every_example_can_be_run() -> None:
    for path, lines in EXAMPLES.items():
        assert path in LEAVES
        for line in lines:
            command = line.split(" | ")[-1] if "| pointsman" in line else line.partition(" | ")[0].partition(" > ")[0]
            assert command_exists(command), line
            assert command.startswith(f"pointsman {path}"), line


def test_the_root_shows_every_command_uncut_in_its_section(capsys: Capture) -> None:
    said = pointsman(capsys, "--help")
    text = " ".join(said.out.split())
    for name, command in ROOT.commands.items():
        assert f" {name} {first_line(command)}" in text
    assert [title for title in SECTIONS if f"{title}:" in said.out] == [*SECTIONS]
    assert "..." not in said.out.replace("[ARGS]...", "")


@pytest.mark.parametrize("path", sorted({path.rpartition(" ")[0] for path in LEAVES} - {""}))
def test_a_group_shows_its_commands_uncut(capsys: Capture, path: str) -> None:
    text = " ".join(pointsman(capsys, path, "--help").out.split())
    for name, command in LEAVES.items():
        if name.startswith(f"{path} "):
            assert f" {name.removeprefix(f'{path} ')} {first_line(command)}" in text


def test_a_group_alone_and_nothing_at_all_get_the_help_text(capsys: Capture) -> None:
    for words in ([], ["task"]):
        said = pointsman(capsys, *words)
        assert (said.code, said.out) == (2, "")
        assert said.err.startswith("Usage: pointsman")


def test_the_version(capsys: Capture) -> None:
    said = pointsman(capsys, "--version")
    assert (said.code, said.err) == (0, "")
    assert said.out.split()[0] == "pointsman"
    assert said.out.split()[1][0].isdigit()
