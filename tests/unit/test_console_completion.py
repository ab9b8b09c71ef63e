"""Tab completion, as each shell asks for it; and that it never fails loudly."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from console.cli.completion import VARIABLE, Shell, script
from tests.support.console import pointsman

Capture = pytest.CaptureFixture[str]

TOPOLOGY = """
prefix: "eu."
agents:
  alpha_agent: {run: "m:alpha", effect: read}
  beta_agent: {run: "m:beta", effect: read}
routes:
  money: {agents: [alpha_agent]}
  maths: {agents: [beta_agent]}
"""


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object) -> None:
        raise AssertionError("completion opened a socket")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def asked(capsys: Capture, monkeypatch: pytest.MonkeyPatch, line: str) -> list[str]:
    """What bash offers for the last word of `line`."""
    monkeypatch.setenv(VARIABLE, "complete_bash")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(len(line.split(" ")) - 1))
    said = pointsman(capsys)
    assert said.err == ""
    return said.out.split()


@pytest.fixture
def topology(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "topology.yaml"
    path.write_text(TOPOLOGY)
    monkeypatch.chdir(tmp_path)
    return path


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("pointsman sub", ["submit"]),
        ("pointsman task ", ["show"]),
        ("pointsman submit --inte", ["--intent"]),
        ("pointsman submit x --intent m", ["money", "maths"]),
        ("pointsman submit --intent=mon", ["money"]),
        ("pointsman submit --tier h", ["high"]),
        ("pointsman submit --tier ", ["LOW", "MEDIUM", "HIGH"]),
        ("pointsman results -o js", ["json", "jsonl"]),
        ("pointsman completion z", ["zsh"]),
        ("pointsman submit --nonsense m", []),
        ('pointsman submit "half a quo', []),
    ],
)
def test_what_is_offered(
    topology: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, line: str, offered: list[str]
) -> None:
    assert asked(capsys, monkeypatch, line) == offered


def test_names_come_from_the_topology_that_the_line_or_the_environment_names(
    topology: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = topology.with_name("other file.yaml")
    other.write_text(TOPOLOGY.replace("money", "melons"))
    assert asked(capsys, monkeypatch, "pointsman submit --topology nowhere.yaml --intent m") == []
    monkeypatch.setenv("POINTSMAN_TOPOLOGY", str(other))
    assert asked(capsys, monkeypatch, "pointsman submit --intent mel") == ["melons"]
    assert asked(capsys, monkeypatch, f"pointsman submit --topology {topology} --intent mo") == ["money"]


@pytest.mark.parametrize("text", ["", "agents: [", "- 1", "routes: 5", "\0", "routes: {1: {}, m: }", "&a [*a]"])
def test_a_topology_that_is_none_offers_nothing_and_says_nothing(
    topology: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    topology.write_text(text)
    assert asked(capsys, monkeypatch, "pointsman submit --intent x") == []


def test_a_question_that_is_none(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    for value in ("complete_bash", "complete_tcsh", "nonsense", "complete"):
        monkeypatch.setenv(VARIABLE, value)
        said = pointsman(capsys)
        assert (said.code, said.out, said.err) == (1, "", "")


def test_zsh_and_fish(topology: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_TYPER_COMPLETE_ARGS", "pointsman submit --intent mo")
    monkeypatch.setenv(VARIABLE, "complete_zsh")
    assert pointsman(capsys).out == """_arguments '*: :(("money"))'\n"""
    monkeypatch.setenv(VARIABLE, "complete_fish")
    monkeypatch.setenv("_TYPER_COMPLETE_FISH_ACTION", "get-args")
    assert pointsman(capsys).out == "money\n"
    monkeypatch.setenv("_TYPER_COMPLETE_FISH_ACTION", "is-args")
    assert pointsman(capsys).code == 0
    monkeypatch.setenv("_TYPER_COMPLETE_ARGS", "pointsman submit --intent zz")
    assert pointsman(capsys).code == 1


@pytest.mark.parametrize("shell", [*Shell])
def test_the_scripts_ask_through_our_variable(capsys: Capture, shell: Shell) -> None:
    said = pointsman(capsys, "completion", shell.value)
    assert said.code == 0
    assert f"{VARIABLE}=complete_{shell}" in said.out
    assert said.out.rstrip() == script(shell)


def test_real_bash(topology: Path, repository: Path, tmp_path: Path) -> None:
    """Bash reads the script, finds the function that it registered, and calls it as it does at a press of Tab."""
    command = tmp_path / "bin" / "pointsman"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nPYTHONPATH="{repository}" exec "{sys.executable}" -m console.cli.entry "$@"\n')
    command.chmod(0o755)
    session = """
set -eu
eval "$(pointsman completion bash)"
function=$(complete -p pointsman | sed 's/.*-F \\([^ ]*\\).*/\\1/')
press() {
    COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
    "$function" pointsman
    printf '%s|' "${COMPREPLY[@]-}"; echo
}
press pointsman sub
press pointsman submit hello --intent m
press pointsman --ver
"""
    said = subprocess.run(
        ["bash", "--norc", "-c", session],
        env={"PATH": f"{command.parent}:/usr/bin:/bin"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (said.stdout.splitlines(), said.stderr) == (["submit|", "money|maths|", "--version|"], "")
