"""P2 and P7: what the logs hold folds to one state, in whatever order topics are read, and however often."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from loadtest.invariants import differences
from tests.properties.test_cell import TOPOLOGY, World, calm
from tests.simulation.judge_folds import state_of
from tests.support.examples import examples

FACTS = 4
"""Kinds of facts that a World folds: dispatches, events, notes, results."""


def played(script: list[tuple[str, Any]]) -> World:
    world = World(TOPOLOGY)
    for step in script:
        world.take(step)
    return world


scripts = st.lists(calm, min_size=1, max_size=8)


@examples(150)
@given(scripts, st.permutations(range(FACTS)), st.lists(st.integers(0, FACTS - 1), max_size=4))
def test_a_fold_is_the_same_in_any_order_and_with_everything_repeated(
    script: list[tuple[str, Any]], order: list[int], again: list[int]
) -> None:
    world = played(script)
    plain, shuffled = world.recover(range(FACTS)), world.recover([*order, *again])
    assert differences("P2", state_of(*plain), state_of(*shuffled)) == []


@examples(100)
@given(scripts)
def test_a_replay_gives_the_same_state_each_time_and_changes_nothing_that_was_read(
    script: list[tuple[str, Any]],
) -> None:
    world = played(script)
    once, twice = world.recover(range(FACTS)), world.recover(range(FACTS))
    assert differences("P7", state_of(*once), state_of(*twice)) == []
