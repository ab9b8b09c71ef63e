"""What docs/guarantees.md says is shown, and by tests that are there; its table of invariants is true."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from console.chaos import verdict
from loadtest import auditor
from loadtest.invariants import INVARIANTS, Mode
from tests.simulation.scenario import draw

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "guarantees.md").read_text()
README = (ROOT / "README.md").read_text()
CITED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
ROW = re.compile(r"^\| ([A-Z]\d+) \| (\w+) \| (\w+) \| (\w+) \|$", re.MULTILINE)


def test_the_tests_that_are_cited_are_there() -> None:
    cited = CITED.findall(PAGE)
    assert len(cited) > 15
    missing = [f"{path}::{name}" for path, name in cited if not re.search(rf"def {name}\(", (ROOT / path).read_text())]
    assert not missing


def test_each_promise_cites_one() -> None:
    promises = section(PAGE, "What is promised")
    assert len(promises) > 5
    assert [promise for promise in promises if not CITED.search(promise)] == []
    uncited = [each for each in section(PAGE, "What is not") if not CITED.search(each)]
    assert len(uncited) == 1, "of what nobody can show here"
    assert "power" in uncited[0]


def test_the_front_page_sends_its_readers_here() -> None:
    assert "docs/guarantees.md" in README.partition("## What it guarantees, and what not")[2].partition("\n## ")[0]


def section(text: str, title: str) -> list[str]:
    """Its list items."""
    body = text.partition(f"## {title}\n")[2].partition("\n## ")[0]
    return re.split(r"^- ", body, flags=re.MULTILINE)[1:]


def test_the_table_says_where_each_invariant_is_checked() -> None:
    table = {name: cells for name, *cells in ROW.findall(PAGE)}
    assert list(table) == list(INVARIANTS)
    checked = (set(simulated()), {*verdict._ASKED, "P12"}, set(auditor.ASKED.values()))
    expected = {name: ["yes" if name in codes else "no" for codes in checked] for name in INVARIANTS}
    assert table == expected


def simulated() -> Iterator[str]:
    """The names that the simulation's judges give what they find."""
    for path in sorted((ROOT / "tests" / "simulation").glob("judge*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Yield) and isinstance(node.value, ast.Tuple):
                first = node.value.elts[0]
                if isinstance(first, ast.Constant) and isinstance(first.value, str):
                    yield first.value
    # All of it, with transactions off.
    if {draw(seed).mode for seed in range(1, 30)} == set(Mode):
        yield "P12"
