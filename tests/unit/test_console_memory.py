"""Words of people on what agents know: what says nothing is refused before anybody hears of it, and what they revoked
is not counted among what an agent gets."""

from __future__ import annotations

import io
import json
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import pytest

from agents.directives import Directive
from agents.memory.fold import refold
from agents.memory.model import Caps, Directives, Interaction
from agents.memory.ports import Remembered
from agents.memory.window import window
from console.cli import memory, memory_checks
from console.cli.deployment import Deployment
from console.cli.failures import ExitCode, UsageError
from console.cli.memory import Counts, counted
from console.cli.memory_checks import compare, revoke
from console.cli.output import Format, Output
from schemas.settings import Settings
from tests.support.console import pointsman
from tests.support.history_memory import TOPOLOGY
from tests.support.memories import KEY, history, interaction

DEPLOYMENT = Deployment(Settings.resolve({}, {}), TOPOLOGY, Path("topology.yaml"))


@pytest.mark.parametrize("nothing", ["", " ", "\n"])
@pytest.mark.parametrize(
    "words",
    [
        ("instruct", "planner"),
        ("facts", "pin", "planner", "c1"),
        ("context", "revoke", "planner", "c1", "t1", "--why"),
    ],
    ids=["instruct", "pin", "revoke"],
)
def test_what_says_nothing_is_no_word(capsys: pytest.CaptureFixture[str], words: tuple[str, ...], nothing: str) -> None:
    said = pointsman(capsys, *words, nothing)
    assert said.code == ExitCode.USAGE
    assert "it says nothing" in said.err


def counts_of(said: list[Interaction], revoked: Collection[str], tokens: int = 4_000) -> Counts:
    directives = Directives(revoked=frozenset(revoked))
    shown = window(refold(KEY, said, revoked=directives.revoked), Caps(tokens), directives)
    return counted(shown, said, revoked)


def test_what_was_revoked_is_counted_apart_from_what_the_agent_gets() -> None:
    said = history(130)
    ids = [each.id for each in said]
    assert counts_of(said, []) == (10, 100, 0)
    assert counts_of(said, [ids[129], ids[60], ids[61], ids[0]]) == (9, 98, 4)
    assert counts_of(said[:2], [ids[1]]) == (1, 0, 1)
    assert counts_of(said[:2], ids[:2]) == (0, 0, 2)
    fenced = replace(interaction(2, epoch=0), task_id="fenced")
    assert counts_of([*said[:2], fenced], [fenced.id]) == (2, 0, 0), "nobody was ever shown it"
    assert counts_of(said, [ids[129]], 20).summarised == 0, "there is no room for a line of it"
    log, stored = Remembered(tuple(said)), Remembered(tuple(said[:129]))
    found = compare(KEY, log, stored, Caps(), Directives(revoked=frozenset(ids[127:])))
    assert (found.log.count, found.revoked, found.behind, found.same) == (129, 2, 1, True)


@pytest.mark.parametrize(
    ("n", "revoked", "told"),
    [
        (2, (), "tokens, 2 of 2 interactions, "),
        (2, (2,), "tokens, 1 of 2 interactions, 1 revoked, "),
        (130, (1, 130), "tokens, 109 of 130 interactions (100 as a summary), 2 revoked, "),
    ],
)
def test_people_are_told_what_the_agent_gets_of_how_many(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    n: int,
    revoked: Collection[int],
    told: str,
) -> None:
    said = tuple(history(n))
    directives = Directives(revoked=frozenset(said[number - 1].id for number in revoked))
    known = refold(KEY, said, revoked=directives.revoked), directives, Remembered(said)
    monkeypatch.setattr(memory, "memory_of", lambda *_: known)
    memory.show_context(DEPLOYMENT, KEY, form=Format.TABLE, out=Output())
    assert told in capsys.readouterr().err
    memory.show_context(DEPLOYMENT, KEY, form=Format.JSON, out=Output())
    whole = json.loads(capsys.readouterr().out)
    assert (whole["interactions"], whole["revoked"]) == (n, len(revoked))
    assert (whole["verbatim"] + whole["summarised"]) == int(told.split()[1])


class Terminal(io.StringIO):
    """A person who types this."""

    def isatty(self) -> bool:
        return True


def test_what_no_command_takes_back_is_shown_and_asked_about_first(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[Directive] = []
    known = tuple(history(3))
    monkeypatch.setattr(memory_checks, "memory_of", lambda *_: (None, None, Remembered(known)))
    monkeypatch.setattr(memory_checks, "say", lambda _, words: said.extend(words))
    out = Output(io.StringIO(), err := io.StringIO())

    def revoked(answers: io.StringIO, *, yes: bool = False) -> ExitCode:
        return revoke(DEPLOYMENT, KEY, ["t2"], why="forged", yes=yes, form=Format.JSONL, out=out, answers=answers)

    with pytest.raises(UsageError, match="--yes"):
        revoked(io.StringIO("y\n"))
    assert err.getvalue() == "", "nobody reads it"
    with pytest.raises(UsageError, match="Nothing was revoked"):
        revoked(Terminal("\n"))
    assert known[1].asked in err.getvalue()
    assert known[0].asked not in err.getvalue()
    assert said == []
    assert revoked(Terminal("y\n")) == revoked(io.StringIO(), yes=True) == ExitCode.OK
    assert [each.interactions for each in said] == [(known[1].id,)] * 2
