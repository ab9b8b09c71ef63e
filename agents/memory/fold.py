"""Interactions folded into memory, one by one or anew: the same history gives the same bytes, wherever it is read from.

The state reaches as far back as a window does and no further, and it does not matter where the fold began, as long as
that is no later than `reach`. So it is the same in a host that saw everything, in one that read the history, and in one
that read the log. I/O: none.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import reduce

from agents.memory.extractive import bounds, summarise
from agents.memory.lines import sizes
from agents.memory.model import (
    CHUNK,
    RECENT,
    SUMMARISED,
    Diverged,
    Fact,
    ForeignInteraction,
    Interaction,
    Key,
    State,
    Summary,
)
from agents.memory.tokens import MESSAGE, estimate

FACTS_TOKENS_MAX = 8_000
"""Facts in a state: no window shows more. Older ones stay in the log and in the history."""

NOTHING_REVOKED: frozenset[str] = frozenset()


def reach(count: int) -> int:
    """The first ordinal that a state of so many interactions depends on, apart from facts: that of a chunk."""
    return max(bounds(max(count - RECENT - SUMMARISED, 0) + 1)[0], 1)


def fold(state: State, interaction: Interaction, revoked: frozenset[str] = NOTHING_REVOKED) -> State:
    """One more interaction. What is folded already, and what a fenced host wrote, changes nothing; of several outcomes
    of one attempt the first counts, as it does for workers, whichever host wrote the others.

    Raises Diverged where a newer host wrote it in the place of one that is folded; ForeignInteraction.
    """
    if interaction.key != state.key:
        raise ForeignInteraction(f"{interaction.key} is not {state.key}")
    ordinal = interaction.ordinal or state.count + 1
    if interaction.epoch < state.epoch:
        return state
    if ordinal <= state.count and interaction.epoch > state.epoch:
        raise Diverged
    if ordinal <= state.count or _is_known(state, interaction):
        return state
    interaction = replace(interaction, ordinal=ordinal, sizes=sizes(interaction, estimate))
    recent, chunks = state.recent, state.chunks
    if state.count % CHUNK and bounds(ordinal) != bounds(state.count):  # some are missing
        chunks = (*chunks, _sealed(recent, state.count))
    shown = not revoked or interaction.id not in revoked
    if shown:
        recent = (*recent, interaction)
    if ordinal % CHUNK == 0:
        chunks = (*chunks, _sealed(recent, ordinal))
    facts = state.facts
    if interaction.facts and shown:
        facts = pin(facts, facts_of(interaction))
    horizon = reach(ordinal)
    return State(
        state.key,
        ordinal,
        interaction.epoch,
        tuple(each for each in recent if each.ordinal > ordinal - RECENT),
        tuple(each for each in chunks if each.first >= horizon),
        tuple(each for each in state.models if each.first >= horizon),
        facts,
    )


def _is_known(state: State, interaction: Interaction) -> bool:
    """Whether it, or another outcome of the same attempt, is among the recent ones."""
    attempt = _attempt(interaction)  # as good as its id, in one memory, and nothing to compute
    return any(_attempt(each) == attempt for each in state.recent)


def _attempt(interaction: Interaction) -> tuple[str, int, str]:
    return interaction.task_id, interaction.attempt, interaction.stage


def _sealed(recent: tuple[Interaction, ...], ordinal: int) -> Summary:
    """The summary of an interaction's chunk, made ahead of need: all of them are still shown verbatim."""
    first, last = bounds(ordinal)
    return summarise([each for each in recent if each.ordinal >= first], first, last)


def refold(
    key: Key,
    interactions: Iterable[Interaction],
    *,
    facts_before: Iterable[Fact] = (),
    models: Iterable[Summary] = (),
    revoked: frozenset[str] = NOTHING_REVOKED,
) -> State:
    """Memory anew, from interactions with ordinals in any order, with copies and with what fenced hosts wrote.

    They must begin at `reach` of the last one or before; `facts_before` are those of older ones, oldest first.
    """
    kept = resolve(interactions)
    facts = pin((), [fact for fact in facts_before if fact.origin not in revoked])
    # Of what stands further back only the facts are left; RECENT more, for one that is known from those before it.
    begin = reach(kept[-1].ordinal) - RECENT if kept else 0
    older = [each for each in kept if each.ordinal < begin]
    facts = pin(facts, [fact for each in older for fact in facts_of(each) if fact.origin not in revoked])
    kept = kept[len(older) :]
    state = State(key, kept[0].ordinal - 1 if kept else 0, facts=facts)
    state = reduce(lambda held, each: fold(held, each, revoked), kept, state)
    return reduce(with_model, models, state)


def resolve(interactions: Iterable[Interaction]) -> list[Interaction]:
    """What counts, in order: in each place the newest epoch's, and behind it nothing of an older one.

    Those without an ordinal were written by a host that did not count: they stand before all others, in their order.
    """
    best: dict[int, Interaction] = {}
    uncounted: dict[str, Interaction] = {}
    for each in interactions:
        if not each.ordinal:
            held = uncounted.setdefault(each.id, each)
            if each.epoch > held.epoch:
                uncounted[each.id] = each
        elif each.ordinal not in best or _precedence(each) > _precedence(best[each.ordinal]):
            best[each.ordinal] = each
    begin = min(best, default=len(uncounted) + 1) - len(uncounted)
    for ordinal, each in enumerate(uncounted.values(), begin):
        if ordinal > 0:
            best[ordinal] = replace(each, ordinal=ordinal)
    kept: list[Interaction] = []
    for _, each in sorted(best.items()):
        if not kept or each.epoch >= kept[-1].epoch:
            kept.append(each)
    return kept


def _precedence(interaction: Interaction) -> tuple[int, str]:
    return interaction.epoch, interaction.id


def facts_of(interaction: Interaction) -> list[Fact]:
    """The facts of an answer, pinned by reference to it."""
    return [
        Fact.of(interaction.key, text, origin=interaction.id, ordinal=interaction.ordinal, at=interaction.at)
        for text in interaction.facts
        if text.strip()
    ]


def pin(held: tuple[Fact, ...], new: Sequence[Fact]) -> tuple[Fact, ...]:
    """The newest distinct ones within FACTS_TOKENS_MAX, oldest first."""
    by_id = {fact.id: fact for fact in held}
    for fact in new:
        by_id.pop(fact.id, None)
        by_id[fact.id] = fact
    kept: list[Fact] = []
    left = FACTS_TOKENS_MAX
    for fact in reversed(by_id.values()):
        left -= estimate(fact.text) + MESSAGE
        if left < 0:
            break
        kept.append(fact)
    return tuple(reversed(kept))


def with_model(state: State, summary: Summary) -> State:
    """A model's summary of a chunk beside the extractive one. One that stands for anything else than that chunk does
    now, because it is old or an interaction was revoked since, is not taken. Of several the newest host's counts, in
    whatever order they come."""
    chunk = next((each for each in state.chunks if (each.first, each.last) == (summary.first, summary.last)), None)
    if summary.kind != "model" or chunk is None or chunk.members != summary.members:
        return state
    others = [each for each in state.models if each.first != summary.first]
    held = [each for each in state.models if each.first == summary.first and each.members == chunk.members]
    kept = max([*held, summary], key=lambda each: (each.epoch, each.since, each.version, each.text))
    return replace(state, models=tuple(sorted([*others, kept], key=lambda each: each.first)))
