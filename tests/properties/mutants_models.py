"""Broken builds of model-made summaries: of what they may be made, when they are shown, and which one counts.

I/O: none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import reduce

from agents.memory import fold, rebuild
from agents.memory.fold import _Folding
from agents.memory.model import (
    Key,
    State,
    Summary,
    SummaryLine,
)
from tests.properties import test_memory as memory
from tests.properties import test_modelled as models
from tests.properties.mutant import Mutant


class _ModelsLost(_Folding):
    def state(self) -> State:
        return replace(super().state(), models=())


def _any_model(state: State, summary: Summary) -> State:
    """Of whatever it was made."""
    others = [each for each in state.models if each.first != summary.first]
    if not any(each.first == summary.first for each in state.chunks):
        return state
    return replace(state, models=tuple(sorted([*others, summary], key=lambda each: each.first)))


def _last_read(state: State, summary: Summary) -> State:
    """Of several models' summaries the last one that is read counts."""
    held = next((each for each in state.chunks if each.first == summary.first), None)
    return state if held is None or held.members != summary.members else _any_model(state, summary)


def _at_once(state: State, after: int, before: int) -> Iterator[tuple[Summary, tuple[SummaryLine, ...]]]:
    """A model's summary is shown from when it is there."""
    held = {each.first: each for each in state.models}
    for chunk in state.chunks:
        shown = held.get(chunk.first, chunk)
        yield shown, tuple(line for line in shown.lines if shown.kind == "model" or after < line.ordinal < before)


def _without_earlier_models(self: rebuild._Tail, key: Key) -> State:
    if self.base is not None and not self.dropped:
        begun: State = reduce(fold.fold, self.last, replace(self.base, models=()))
        return reduce(fold.with_model, self.models, begun)
    return fold.refold(key, self.last, facts_before=self.facts, models=self.models)


MODELS: Mapping[str, Mutant] = {
    "a model's summary outlives what it was made of": Mutant(
        "agents.memory.fold.with_model",
        _any_model,
        (
            memory.test_nothing_derived_holds_what_was_revoked,
            models.test_nothing_derived_holds_what_was_revoked_and_the_rest_is_taken_once_made_again,
        ),
    ),
    "the next interaction loses models' summaries": Mutant(
        "agents.memory.fold._Folding",
        _ModelsLost,
        (models.test_memory_is_the_same_wherever_the_fold_begins_and_whenever_summaries_come,),
    ),
    "a rebuild forgets the models' summaries of its snapshot": Mutant(
        "agents.memory.rebuild._Tail.state", _without_earlier_models, (models.test_a_snapshot_holds_them,)
    ),
    "of models' summaries the last one read counts": Mutant(
        "agents.memory.fold.with_model",
        _last_read,
        (models.test_of_several_the_newest_hosts_counts_in_whatever_order_they_come,),
    ),
    "a model's summary may lack facts": Mutant(
        "agents.memory.modelled.missing",
        lambda _summary, _members: [],
        (models.test_what_is_taken_states_every_fact_and_keeps_its_cap,),
    ),
    "a model's summary is shown to the call that was under way": Mutant(
        "agents.memory.modelled.AHEAD", 0, (models.test_what_the_log_has_is_what_was_made,)
    ),
    "a note's summary is taken as it comes": Mutant(
        "agents.memory.modelled._is_whole",
        lambda _summary: True,
        (models.test_whatever_a_note_holds_is_a_whole_summary_or_none,),
    ),
    "a model's summary is shown beside what it stands for": Mutant(
        "agents.memory.window._standing",
        _at_once,
        (models.test_a_model_stands_in_the_place_of_exactly_its_range_once_that_is_shown_no_more,),
    ),
    "the form of a model's summary is another one": Mutant(
        "agents.memory.modelled.FORMAT", 2, (models.test_what_a_host_of_this_format_wrote_stays_readable,)
    ),
    "a model's summary does not say whose words it had": Mutant(
        "agents.memory.modelled._mark", lambda _source: "", (models.test_a_summary_of_another_agents_words_says_so,)
    ),
}
