"""Broken builds of memory and replay: the product with one guard removed, which the laws named beside it must catch.

A law that cannot fail is worth nothing. A place within a test's own module is that of a function which the law calls
itself. Those of the fold are here. I/O: none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from agents.memory import canonical, fold
from agents.memory.fold import _Folding
from agents.memory.model import (
    Interaction,
    State,
)
from agents.memory.tokens import estimate
from tests.properties import test_memory as memory
from tests.properties import test_modelled as models
from tests.properties.mutant import Mutant
from tests.properties.mutants_apart import APART
from tests.properties.mutants_models import MODELS
from tests.properties.mutants_replay import REPLAYS
from tests.properties.mutants_sentences import SENTENCES
from tests.properties.mutants_snapshots import SNAPSHOTS
from tests.properties.mutants_windows import WINDOWS

_pin, _interaction = fold.pin, canonical._interaction


class _CutWhereItBegan(_Folding):
    """A chunk's summary lacks what was folded before."""

    def _end_chunk(self, ordinal: int) -> None:
        super()._end_chunk(ordinal)
        ended, members = self._ended[-1]
        self._ended[-1] = ended, [each for each in members if each.ordinal > self._begun.count]


class _FoldsAgain(_Folding):
    """What is folded is folded again."""

    def _is_folded(self, ordinal: int, epoch: int) -> bool:
        del ordinal
        return epoch < self._epoch


class _Older(_Folding):
    """What a fenced host wrote is folded where it is behind the rest."""

    def _is_folded(self, ordinal: int, epoch: int) -> bool:
        return ordinal <= self._count and super()._is_folded(ordinal, epoch)


class _Silent(_Folding):
    """Nobody says that a newer host contradicts what is folded."""

    def _is_folded(self, ordinal: int, epoch: int) -> bool:
        return epoch < self._epoch or ordinal <= self._count


class _Anybodys(_Folding):
    def take(self, interaction: Interaction) -> None:
        super().take(replace(interaction, key=self._key))


class _SummedUpAll(_Folding):
    """Summaries are made of what was revoked, too; it is not shown itself, and its facts are not."""

    def take(self, interaction: Interaction) -> None:
        revoked, self._revoked = self._revoked, fold.NOTHING_REVOKED
        plain = replace(interaction, facts=()) if interaction.id in revoked else interaction
        super().take(plain)
        self._revoked = revoked

    def state(self) -> State:
        state = super().state()
        return replace(state, recent=tuple(each for each in state.recent if each.id not in self._revoked))


class _FactsStay(_Folding):
    """The facts of an answer outlive its revocation."""

    def take(self, interaction: Interaction) -> None:
        super().take(interaction)
        if interaction.id in self._revoked:
            self._new_facts += fold.facts_of(interaction)


def _forgets(held: object, new: Sequence[Any]) -> tuple[Any, ...]:
    del held
    return _pin((), new)


def _lets_older_pass(held: tuple[Any, ...], new: Sequence[Any]) -> tuple[Any, ...]:
    """A fact that is too large does not end what is kept."""
    by_id = {fact.id: fact for fact in held}
    for fact in new:
        by_id.pop(fact.id, None)
        by_id[fact.id] = fact
    kept, left = [], fold.FACTS_TOKENS_MAX
    for fact in reversed(by_id.values()):
        if (size := estimate(fact.text)) <= left:
            left -= size
            kept.append(fact)
    return tuple(reversed(kept))


def _without_source(each: Interaction) -> dict[str, Any]:
    found = _interaction(each)
    found.pop("source", None)
    return found


FOLD: Mapping[str, Mutant] = {
    "a chunk's summary lacks what was folded before": Mutant(
        "agents.memory.fold._Folding",
        _CutWhereItBegan,
        (memory.test_memory_is_the_same_wherever_the_fold_begins,),
    ),
    "a fact is forgotten as the next one is pinned": Mutant(
        "agents.memory.fold.pin", _forgets, (memory.test_memory_is_the_same_wherever_the_fold_begins,)
    ),
    "what is read again is folded again": Mutant(
        "agents.memory.fold._Folding", _FoldsAgain, (memory.test_a_crash_at_any_point_changes_nothing,)
    ),
    "a state's bytes do not say whose words were handed over": Mutant(
        "agents.memory.canonical._interaction", _without_source, (memory.test_a_crash_at_any_point_changes_nothing,)
    ),
    "a summary is made of what was revoked": Mutant(
        "agents.memory.fold._Folding",
        _SummedUpAll,
        (
            memory.test_nothing_derived_holds_what_was_revoked,
            models.test_nothing_derived_holds_what_was_revoked_and_the_rest_is_taken_once_made_again,
        ),
    ),
    "a fact outlives the revocation of its answer": Mutant(
        "agents.memory.fold._Folding", _FactsStay, (memory.test_nothing_derived_holds_what_was_revoked,)
    ),
    "in one place the older epoch counts": Mutant(
        "agents.memory.fold._precedence",
        lambda each: (-each.epoch, each.id),
        (memory.test_the_newest_hosts_word_counts_in_whatever_order_it_is_read,),
    ),
    "what a fenced host wrote behind the rest is folded": Mutant(
        "agents.memory.fold._Folding",
        _Older,
        (memory.test_folding_two_hosts_one_by_one_is_right_or_says_that_it_is_not,),
    ),
    "a newer host's contradiction is passed over": Mutant(
        "agents.memory.fold._Folding",
        _Silent,
        (memory.test_folding_two_hosts_one_by_one_is_right_or_says_that_it_is_not,),
        pytest.fail.Exception,
    ),
    "another memory's interaction is folded": Mutant(
        "agents.memory.fold._Folding",
        _Anybodys,
        (memory.test_nothing_of_another_memory_is_folded,),
        pytest.fail.Exception,
    ),
    "older facts pass one that is too large": Mutant(
        "tests.properties.test_memory.pin",
        _lets_older_pass,
        (memory.test_facts_can_be_pinned_one_by_one_or_all_at_once,),
    ),
}

MUTANTS: Mapping[str, Mutant] = {**FOLD, **WINDOWS, **SENTENCES, **MODELS, **SNAPSHOTS, **APART, **REPLAYS}
