"""`pointsman explain`: one code, all codes, and a code that there is not."""

from __future__ import annotations

import io
import json

import pytest

from console.cli.explain import explain_code, page
from console.cli.failures import ExitCode
from console.cli.output import Format, Output
from console.explained.table import table
from tests.support.console import pointsman
from tests.support.contract import breaches, promises

Capture = pytest.CaptureFixture[str]


def test_without_a_code_all_are_listed(capsys: Capture) -> None:
    said = pointsman(capsys, "explain")
    assert said.code == ExitCode.OK
    head, *rows = said.out.splitlines()
    assert head.split() == ["code", "title", "kinds"]
    assert [row.split()[0] for row in rows] == list(table())
    listed = json.loads(pointsman(capsys, "explain", "-o", "json").out)
    assert [row["code"] for row in listed] == list(table())


@pytest.mark.parametrize("given", ["T303", "t303", "[T303]"])
def test_a_code_is_explained_however_it_was_copied(capsys: Capture, given: str) -> None:
    said = pointsman(capsys, "explain", given)
    assert (said.code, said.err) == (ExitCode.OK, "")
    first, where, *rest = said.out.splitlines()
    assert first == "T303: an agent that writes sits in a panel"
    assert where == "(fault of a topology)"
    assert [line[:5] for line in rest if line.startswith(("Why", "Do", "Wrong", "Right"))] == [
        *("Why  ", "Do   ", "Wrong", "Right"),
    ]
    assert "      figures: {panel: [sql_agent, mail_agent]}" in rest


def test_a_reason_that_is_met_in_several_places_says_where(capsys: Capture) -> None:
    row = json.loads(pointsman(capsys, "explain", "LOW_CONFIDENCE", "-o", "json").out)
    assert row["kinds"] == ["why an agent was asked", "why an attempt is no answer", "why a task ended"]
    assert (row["wrong"], row["right"]) == (None, None)
    assert row == pointsman(capsys, "explain", "LOW_CONFIDENCE", "-o", "jsonl").rows[0]


def test_the_fields_are_those_that_are_promised(capsys: Capture) -> None:
    assert breaches(pointsman(capsys, "explain", "-o", "jsonl").rows, promises()["pointsman explain"]) == []


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        ("NO_QUORM", "did you mean NO_QUORUM?"),
        ("T310x", "did you mean T310?"),
        ("&&", "`pointsman explain` lists all."),
    ],
)
def test_a_code_that_there_is_not(capsys: Capture, given: str, hint: str) -> None:
    said = pointsman(capsys, "explain", given)
    assert (said.code, said.out) == (ExitCode.NOT_FOUND, "")
    assert said.err.startswith(f"pointsman: There is no code {given.upper()}; ")
    assert hint in said.err
    assert said.err.endswith(" [E402]\n")


def test_a_terminal_gets_lines_that_fit_and_a_pipe_whole_ones() -> None:
    found = table()["NO_CONSENSUS"]
    assert max(map(len, page(found, 60))) <= 60
    assert found.means in page(found, None)
    out = Output(io.StringIO(), io.StringIO())
    explain_code("NO_CONSENSUS", form=Format.TABLE, out=out)
    assert isinstance(out.out, io.StringIO)
    assert out.out.getvalue().splitlines() == page(found, None)
