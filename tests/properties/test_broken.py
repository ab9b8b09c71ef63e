"""The laws of memory and replay can fail: each catches a build with one guard removed, within its own examples."""

from __future__ import annotations

import inspect
from pathlib import Path
from types import ModuleType

import pytest

from tests.properties import test_memory, test_modelled, test_replay, test_sentences, test_snapshots
from tests.properties.mutant import Law, broken
from tests.properties.mutants import MUTANTS
from tests.unit import test_memory_apart

BY_TIME = {"test_no_text_costs_more_than_its_length"}
"""A build that costs the square fails by its time-out, a minute later."""
PAGE = Path(__file__).parents[2] / "docs" / "testing.md"


@pytest.mark.filterwarnings("ignore:Generating overly large repr")
@pytest.mark.parametrize(
    ("name", "law"),
    [pytest.param(name, law, id=f"{name}-{law.__name__}") for name in MUTANTS for law in MUTANTS[name].laws],
)
def test_a_broken_build_is_caught(name: str, law: Law) -> None:
    with pytest.raises(MUTANTS[name].error):
        broken(MUTANTS[name], law)


@pytest.mark.parametrize(
    "laws", [test_memory, test_sentences, test_modelled, test_snapshots, test_replay, test_memory_apart]
)
def test_every_law_catches_one(laws: ModuleType) -> None:
    own = {name for name, _ in inspect.getmembers(laws, inspect.isfunction) if name.startswith("test_")}
    assert own - {law.__name__ for mutant in MUTANTS.values() for law in mutant.laws} - BY_TIME == set()


def test_the_page_lists_each_with_the_laws_that_catch_it() -> None:
    text = PAGE.read_text("utf-8")
    caught = {name: dict.fromkeys(f"`{law.__name__}`" for law in mutant.laws) for name, mutant in MUTANTS.items()}
    rows = [f"| {name} | {', '.join(laws)} |" for name, laws in caught.items()]
    assert [row for row in rows if row not in text] == []
