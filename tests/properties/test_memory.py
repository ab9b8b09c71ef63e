"""The laws of memory: fold is refold from anywhere, the newest host's word counts, and what is revoked is gone."""

from __future__ import annotations

from dataclasses import replace
from functools import reduce

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agents.memory.canonical import state_bytes, state_of, window_bytes
from agents.memory.fold import facts_of, fold, pin, reach, refold, with_model
from agents.memory.lines import fact_line, tool_text
from agents.memory.model import (
    HEADINGS,
    Caps,
    Directives,
    Diverged,
    Fact,
    ForeignInteraction,
    Instruction,
    Interaction,
    State,
    ToolCall,
)
from agents.memory.render import messages, text
from agents.memory.tokens import estimate
from agents.memory.window import window
from tests.support.examples import examples
from tests.support.memories import KEY, TEXTS, histories, history, interaction, interactions, mark


def folded(all_: list[Interaction]) -> State:
    return reduce(fold, all_, State(KEY))


@examples(25)
@given(histories(), st.data())
def test_memory_is_the_same_wherever_the_fold_begins(all_: list[Interaction], data: st.DataObject) -> None:
    live = folded(all_)
    start = data.draw(st.integers(1, reach(len(all_))))
    facts = [
        Fact.of(KEY, said, origin=each.id, ordinal=each.ordinal, at=each.at)
        for each in all_[: start - 1]
        for said in each.facts
        if said.strip()
    ]
    cold = refold(KEY, all_[start - 1 :], facts_before=facts)
    assert state_bytes(cold) == state_bytes(live)
    assert window_bytes(window(cold)) == window_bytes(window(live))


@examples(25)
@given(histories(), st.data())
def test_a_crash_at_any_point_changes_nothing(all_: list[Interaction], data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(all_)))
    again = data.draw(st.integers(0, at))  # what was folded before the crash is read again
    snapshot = state_of(state_bytes(folded(all_[:at])))
    assert state_bytes(reduce(fold, all_[again:], snapshot)) == state_bytes(folded(all_))


@examples(25)
@given(histories((11, 20, 25, 121)), st.data())
def test_nothing_derived_holds_what_was_revoked(all_: list[Interaction], data: st.DataObject) -> None:
    """Wherever the fold begins, wherever it was cut by a crash, and with a model's summaries of every chunk."""
    gone = data.draw(st.sets(st.sampled_from([each.ordinal for each in all_]), min_size=1))
    revoked = frozenset(each.id for each in all_ if each.ordinal in gone)
    start = data.draw(st.integers(1, reach(len(all_))))
    facts = [fact for each in all_[: start - 1] for fact in facts_of(each)]
    models = [replace(each, kind="model") for each in folded(all_).chunks]
    state = refold(KEY, all_[start - 1 :], facts_before=facts, models=models, revoked=revoked)
    assert_gone(state, all_, gone)
    at = data.draw(st.integers(start - 1, len(all_)))
    before = state_of(state_bytes(refold(KEY, all_[start - 1 : at], facts_before=facts, revoked=revoked)))
    after = reduce(lambda held, each: fold(held, each, revoked), all_[max(at, start - 1) :], before)
    assert_gone(after, all_, gone)
    if at > start - 1 or start == 1:
        assert state_bytes(reduce(with_model, models, after)) == state_bytes(state)


def assert_gone(state: State, all_: list[Interaction], gone: set[int]) -> None:
    shown = window(state, Caps(20_000, 40_000))
    held = state_bytes(state).decode() + text(shown) + str(messages(shown))
    assert not [number for number in gone if mark(number) in held]
    assert all(each.id not in held for each in all_ if each.ordinal in gone)


@examples(40)
@given(st.integers(1, 24), st.integers(1, 8), st.integers(1, 8), st.randoms(use_true_random=False))
def test_the_newest_hosts_word_counts_in_whatever_order_it_is_read(
    before: int, zombies: int, own: int, random: object
) -> None:
    common = history(before)
    stale = [interaction(before + at, asked=f"stale {at}", epoch=1) for at in range(1, zombies + 1)]
    new = [interaction(before + at, asked=f"new {at}", epoch=2) for at in range(1, own + 1)]
    writes = common + stale + new
    random.shuffle(writes)  # type: ignore[attr-defined]
    expected = state_bytes(refold(KEY, common + new))
    assert state_bytes(refold(KEY, writes)) == expected
    assert state_bytes(folded(common + new)) == expected


@examples(40)
@given(st.lists(st.booleans(), min_size=2, max_size=12))
def test_folding_two_hosts_one_by_one_is_right_or_says_that_it_is_not(turns: list[bool]) -> None:
    writes: list[Interaction] = []
    counts = {True: 0, False: 0}
    for newer in turns:
        counts[newer] += 1
        writes.append(interaction(counts[newer], asked=f"{newer} {counts[newer]}", epoch=2 if newer else 1))
    if any(turns) and not turns[0]:  # the newer host begins where the other one has written
        with pytest.raises(Diverged):
            folded(writes)
        return
    one_by_one = folded(writes)
    assert state_bytes(one_by_one) == state_bytes(refold(KEY, writes))


@examples(25)
@given(histories((0, 1, 11, 25, 121)), st.integers(0, 3_000), st.integers(0, 3_000), st.data())
def test_a_window_keeps_its_caps_and_each_tool_call_its_result(
    all_: list[Interaction], soft: int, more: int, data: st.DataObject
) -> None:
    caps = Caps(soft, soft + more)
    said = data.draw(st.lists(st.sampled_from([each for each in TEXTS if each]), max_size=5))
    directives = Directives(
        tuple(Instruction(f"i{at}", KEY.agent_id, each) for at, each in enumerate(said)),
        tuple(Fact.of(KEY, f"{each} {at}") for at, each in enumerate(said)),
    )
    shown = window(folded(all_), caps, directives)
    assert estimate(text(shown)) <= shown.tokens <= max(caps.hard, 0) or not shown.lines
    calls = {tool_text(call) for each in all_ for call in each.tool_calls}
    assert all(line.text in calls for line in shown.lines if line.role == "tool")
    by_id = {each.id: each for each in all_}
    for each in shown.interactions[:-1]:
        assert (each.asked, each.answer) == (by_id[each.id].asked, by_id[each.id].answer), "verbatim"


LOOKED_UP = ToolCall("call1", "look_up", "{}", "found")


@examples(25)
@given(histories((3, 11, 25)), st.integers(0, 3_000))
@example([interaction(1, tool_calls=(LOOKED_UP,))], 3_000)  # room for it, and nothing else to say
def test_what_a_tool_said_stands_behind_what_it_was_asked(all_: list[Interaction], most: int) -> None:
    shown = window(folded(all_), Caps(most, most))
    calls = {tool_text(call) for each in all_ for call in each.tool_calls}
    assert {line.text for line in shown.lines if line.role == "tool"} <= calls


@examples(25)
@given(histories((0, 1, 25)), st.integers(0, 3_000), st.integers(0, 3_000), st.integers(1, 40))
@example([], 0, 506, 20)  # all of them fit, and just so
def test_what_people_pinned_is_shown_as_far_as_the_hard_cap_allows(
    all_: list[Interaction], soft: int, more: int, pins: int
) -> None:
    """Whatever else there is to say: the soft cap is no reason to leave one out."""
    pinned = tuple(Fact.of(KEY, f"{TEXTS[1 + at % 3]} {at}") for at in range(pins))
    shown = window(folded(all_), Caps(soft, soft + more), Directives(pinned=pinned))
    if HEADINGS + sum(fact_line(each, estimate).tokens for each in pinned) <= soft + more:
        assert {*pinned} <= {*shown.facts}
        assert {each.text for each in pinned} <= {line.text for line in shown.lines}


@given(histories((0, 1, 11)), st.sampled_from(["tenant", "agent_id", "conversation_id"]), st.booleans())
def test_nothing_of_another_memory_is_folded(all_: list[Interaction], part: str, anew: bool) -> None:
    """One part of the key is enough to be another's, and the state is as it was."""
    state = folded(all_)
    before = state_bytes(state)
    foreign = interaction(len(all_) + 1, KEY._replace(**{part: "another"}))
    with pytest.raises(ForeignInteraction):
        refold(KEY, [*all_, foreign]) if anew else fold(state, foreign)
    assert state_bytes(state) == before


SAID = ("a", "b", "c" * 9_000, "d" * 16_000, "e" * 5_000, "f" * 3_000)


@given(st.lists(st.tuples(st.sampled_from(SAID), st.integers(0, 3)), max_size=30))
@example([(SAID[4], 0), (SAID[2], 1), (SAID[5], 2), (SAID[4], 3)])  # what made room came after what left for want of it
def test_facts_can_be_pinned_one_by_one_or_all_at_once(said: list[tuple[str, int]]) -> None:
    facts = [Fact.of(KEY, f"{word}{number}", ordinal=at) for at, (word, number) in enumerate(said)]
    held: tuple[Fact, ...] = ()
    for fact in facts:
        held = pin(held, [fact])
    assert held == pin((), facts)


@given(interactions(3))
def test_what_is_rendered_cannot_pass_for_a_heading(one: Interaction) -> None:
    lines = text(window(folded([interaction(1), interaction(2), one]))).splitlines()
    heads = [line for line in lines if not line.startswith(("- ", "  ", "asked: ", "answered: ", "tool: "))]
    assert len(heads) == len(set(heads)) <= 4
    assert "Instructions from people:" not in heads


@given(st.text())
def test_no_text_has_more_tokens_than_bytes_or_none_where_there_are_words(said: str) -> None:
    assert 0 <= estimate(said) <= 3 * len(said)
    assert estimate(said) or not any(each.isalnum() for each in said)
