"""The page of promised fields covers every command with `-o`; and the judge that holds data against it can say no."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from console.cli.help import leaves
from console.cli.main import program
from tests.support.contract import breaches, promises

TESTS = Path(__file__).resolve().parents[1]
PROMISED = {"id": "string", "n": "integer or null", "at": "time", "votes": "array of object", "votes[].who": "string"}
GOOD: dict[str, Any] = {"id": "a", "n": 1, "at": "2026-03-01T12:00:00.123456Z", "votes": [{"who": "x"}]}


def test_every_command_with_a_form_has_its_fields_on_the_page() -> None:
    with_form = {
        f"pointsman {path}"
        for path, command in leaves(program())
        if any("--output" in parameter.opts for parameter in command.params)
    }
    # A new one needs a section "### pointsman ..." with a table of its fields in docs/output.md.
    assert with_form == {*promises()}


@pytest.mark.parametrize("name", promises())
def test_what_is_promised_is_held_against_what_is_printed(name: str) -> None:
    """Somewhere; a `history` promises no names of its own."""
    held = f'promises()["{name}"]'
    assert name == "pointsman history" or any(held in path.read_text("utf-8") for path in TESTS.rglob("test_*.py"))


def test_what_keeps_the_promise_has_no_breach() -> None:
    assert breaches([GOOD, {**GOOD, "n": None, "votes": []}], PROMISED) == []


@pytest.mark.parametrize(
    "row",
    [
        {name: value for name, value in GOOD.items() if name != "n"},
        {**GOOD, "more": 1},
        {**GOOD, "n": "1"},
        {**GOOD, "n": True},
        {**GOOD, "id": None},
        {**GOOD, "at": "2026-03-01T12:00:00Z"},
        {**GOOD, "votes": [{"whom": "x"}]},
        {**GOOD, "votes": [{"who": 1}]},
        {**GOOD, "votes": ["x"]},
    ],
)
def test_a_breach_is_found(row: dict[str, Any]) -> None:
    assert breaches([row], PROMISED) != []
