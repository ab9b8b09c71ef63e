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
    of one attempt the first counts, as it does for workers, whichever host wrote the others. An attempt is known by
    what was asked, too: an id that comes again with another question is another task's.

    Raises Diverged where a newer host wrote it in the place of one that is folded; ForeignInteraction.
    """
    folding = _Folding(state, revoked)
    folding.take(interaction)
    return folding.state()


class _Folding:
    """A state in the making: what is dropped again before its end, and what only the end needs, costs nothing."""

    def __init__(self, state: State, revoked: frozenset[str]) -> None:
        self._begun, self._revoked = state, revoked
        self._key, self._count, self._epoch = state.key, state.count, state.epoch
        self._recent = list(state.recent)
        # Better than their ids, in one memory, and nothing to compute.
        self._attempts = [(each.task_id, each.attempt, each.stage, each.asked) for each in self._recent]
        self._ended: list[tuple[int, list[Interaction]]] = []
        self._new_facts: list[Fact] = []

    def take(self, interaction: Interaction) -> None:
        """As `fold`."""
        if interaction.key != self._key:
            raise ForeignInteraction(f"{interaction.key} is not {self._key}")
        ordinal = interaction.ordinal or self._count + 1
        attempt = interaction.task_id, interaction.attempt, interaction.stage, interaction.asked
        if self._is_folded(ordinal, interaction.epoch) or attempt in self._attempts:
            return
        if interaction.ordinal != ordinal:
            interaction = replace(interaction, ordinal=ordinal)
        if self._count % CHUNK and bounds(ordinal) != bounds(self._count):  # some are missing
            self._end_chunk(self._count)
        if not self._revoked or interaction.id not in self._revoked:
            self._recent.append(interaction)
            self._attempts.append(attempt)
            if interaction.facts:
                self._new_facts += facts_of(interaction)
        if ordinal % CHUNK == 0:
            self._end_chunk(ordinal)
        while self._recent and self._recent[0].ordinal <= ordinal - RECENT:
            del self._recent[0], self._attempts[0]
        self._count, self._epoch = ordinal, interaction.epoch

    def _is_folded(self, ordinal: int, epoch: int) -> bool:
        """Or a fenced host's."""
        if epoch > self._epoch and ordinal <= self._count:
            raise Diverged
        return epoch < self._epoch or ordinal <= self._count

    def _end_chunk(self, ordinal: int) -> None:
        """A chunk is summed up ahead of need: all of its interactions are still shown verbatim."""
        first, _ = bounds(ordinal)
        self._ended.append((ordinal, [each for each in self._recent if each.ordinal >= first]))

    def state(self) -> State:
        """What was taken so far, folded."""
        if self._count == self._begun.count:
            return self._begun
        horizon = reach(self._count)
        ended = [(bounds(ordinal), members) for ordinal, members in self._ended]
        return State(
            self._key,
            self._count,
            self._epoch,
            tuple(map(_sized, self._recent)),
            (
                *(each for each in self._begun.chunks if each.first >= horizon),
                *(summarise(members, *chunk) for chunk, members in ended if chunk[0] >= horizon),
            ),
            tuple(each for each in self._begun.models if each.first >= horizon),
            pin(self._begun.facts, self._new_facts) if self._new_facts else self._begun.facts,
        )


def _sized(interaction: Interaction) -> Interaction:
    return interaction if interaction.sizes else replace(interaction, sizes=sizes(interaction, estimate))


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
    folding = _Folding(State(key, kept[0].ordinal - 1 if kept else 0, facts=facts), revoked)
    for each in kept:
        folding.take(each)
    return reduce(with_model, models, folding.state())


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
