"""What an agent is shown: the ladder of verbatim, summary and facts, the caps, and what is said of what did not fit."""

from __future__ import annotations

from dataclasses import replace
from functools import reduce

import pytest

from agents.memory.canonical import UnknownFormat, state_bytes, state_of, summary_hash
from agents.memory.extractive import CHUNK_TOKENS_MAX, VERSION, summarise
from agents.memory.fold import fold, refold, with_model
from agents.memory.model import (
    NO_DIRECTIVES,
    Caps,
    Directives,
    Diverged,
    Fact,
    ForeignInteraction,
    Instruction,
    Interaction,
    Key,
    Source,
    State,
    Summary,
    SummaryLine,
    ToolCall,
)
from agents.memory.render import messages, text
from agents.memory.tokens import estimate
from agents.memory.window import window
from tests.support.memories import KEY, history, interaction, mark


def folded(all_: list[Interaction]) -> State:
    return reduce(fold, all_, State(KEY))


def test_the_last_ten_are_shown_verbatim_and_a_summary_stands_for_the_hundred_before() -> None:
    shown = window(folded(history(125)), Caps(50_000, 50_000))
    assert [each.ordinal for each in shown.interactions] == list(range(116, 126))
    assert shown.summary is not None
    assert (shown.summary.first, shown.summary.last) == (16, 115)
    assert {ordinal for ordinal, _ in shown.summary.members} == set(range(16, 116))
    assert all(15 < line.ordinal < 116 for line in shown.summary.lines)
    assert mark(15) not in text(shown)


def test_a_summary_is_made_once_for_ten_and_before_any_of_them_leaves() -> None:
    state = folded(history(10))
    (chunk,) = state.chunks
    assert [each.ordinal for each in state.recent] == list(range(1, 11))
    later = reduce(fold, [interaction(number) for number in range(11, 20)], state)
    assert later.chunks == (chunk,)
    assert later.chunks[0] is chunk, "not made again"


def test_a_long_conversation_needs_no_more_memory_than_a_short_one() -> None:
    sizes = [len(state_bytes(folded(history(n)))) for n in (200, 400)]
    assert sizes[1] < sizes[0] * 1.05


def test_every_line_says_what_it_comes_from() -> None:
    all_ = history(12)
    fact = Fact.of(KEY, "The fiscal year begins in April.", by="ada")
    state = folded([*all_, interaction(13, facts=("EMEA is a region.",))])
    shown = window(state, directives=Directives((Instruction("i1", "planner", "Be brief."),), (fact,)))
    ids = {each.id for each in [*all_, interaction(13)]}
    assert {line.section for line in shown.lines} == {"instruction", "fact", "summary", "interaction"}
    for line in shown.lines:
        if line.section in {"summary", "interaction"}:
            assert set(line.origins) <= ids
    assert [line.origins for line in shown.lines if line.section == "fact"] == [
        (fact.id,),
        (Fact.of(KEY, "EMEA is a region.").id, interaction(13).id),
    ]


def test_an_answer_without_content_and_ten_calls_in_one_turn_are_shown_for_what_they_are() -> None:
    calls = tuple(ToolCall(f"call{n}", "find", f'{{"n": {n}}}', None if n == 7 else f"found {n}") for n in range(10))
    shown = window(folded([interaction(1, asked="", answer=None, status="FAILED", error="quota", tool_calls=calls)]))
    assert "answered: (no answer: failed: quota)" in text(shown)
    assert 'tool: find({"n": 7}) -> (no result)' in text(shown)
    assert [each.tool_calls for each in shown.interactions] == [calls]


def test_calls_that_do_not_fit_go_with_their_results_the_oldest_first() -> None:
    calls = tuple(ToolCall(f"call{n}", "find", "{}", f"result{n} " * 40) for n in range(10))
    shown = window(folded([interaction(1, tool_calls=calls)]), Caps(600, 600))
    (kept,) = [each.tool_calls for each in shown.interactions]
    assert kept == calls[-len(kept) :]
    assert 0 < len(kept) < 10
    assert shown.omitted.tool_calls == 10 - len(kept)
    for call in calls:
        assert (f"{call.result}" in text(shown)) == (call in kept)


def test_the_newest_interaction_is_cut_rather_than_left_out_and_the_cut_is_said() -> None:
    shown = window(folded([interaction(1, asked="word " * 5_000)]), Caps(500, 600))
    assert shown.tokens <= 500
    assert f"[cut: {shown.omitted.characters} characters left out]" in text(shown)


def test_interactions_that_do_not_fit_are_summed_up() -> None:
    all_ = [
        interaction(number, answer=f"The total is {number} dollars. {'filler words ' * 60}") for number in range(1, 9)
    ]
    shown = window(folded(all_), Caps(1_500, 2_000))
    assert shown.omitted.interactions == 8 - len(shown.interactions) > 0
    assert shown.summary is not None
    assert shown.summary.last == 8 - len(shown.interactions)
    assert "The total is 1 dollars." in text(shown)


def test_pinned_facts_are_kept_whatever_else_has_to_go() -> None:
    facts = tuple(Fact.of(KEY, f"fact {mark(number)}", at=number) for number in range(200))
    shown = window(folded(history(50)), Caps(1_000, 8_000), Directives(pinned=facts))
    assert shown.facts == facts
    assert shown.omitted.facts == 0
    assert 1_000 < shown.tokens <= 8_000, "they may take what is between the caps"
    assert shown.interactions, "and a part of the soft cap is left to the conversation"


def test_facts_beyond_the_hard_cap_are_left_out_oldest_first_and_what_people_pinned_last() -> None:
    own = Fact.of(KEY, "pinned by hand", by="ada")
    state = folded(
        [interaction(number, facts=(f"fact {mark(number)} {'and so on ' * 30}",)) for number in range(1, 60)]
    )
    shown = window(state, Caps(1_000, 2_000), Directives(pinned=(own,)))
    assert own in shown.facts
    kept = [fact for fact in shown.facts if fact != own]
    assert kept == list(state.facts[-len(kept) :])
    assert shown.omitted.facts == 59 - len(kept) > 0
    assert shown.tokens <= 2_000


def test_an_unpinned_fact_stays_away_though_an_answer_states_it_again() -> None:
    state = folded([interaction(1, facts=("Nuts are fine.",)), interaction(2, facts=("Nuts  are fine.",))])
    assert len(state.facts) == 1
    assert not window(state, directives=Directives(unpinned=frozenset({state.facts[0].id}))).facts


def test_words_of_another_agent_are_marked_with_their_source() -> None:
    source = Source("searcher", "task t0")
    state = folded([interaction(number, source=source if number == 3 else None) for number in range(1, 14)])
    shown = window(state)
    (line,) = [line for line in shown.lines if line.source == source]
    assert (line.section, line.text) == ("summary", f"from searcher: Question {mark(3)}?")
    near = text(window(folded([interaction(1, source=source)])))
    assert f"asked: [from agent searcher, task t0] Question {mark(1)}?" in near


def test_no_memory_takes_what_is_anothers() -> None:
    for other in (Key("acme2", "planner", "c1"), Key("acme", "writer", "c1"), Key("acme", "planner", "c")):
        with pytest.raises(ForeignInteraction):
            fold(State(KEY), interaction(1, other))


def test_ids_of_neighbours_never_meet() -> None:
    ids = {interaction(1, Key(*parts)).id for parts in (("a", "bc", "d"), ("ab", "c", "d"), ("a", "b", "cd"))}
    assert len(ids) == 3
    each = interaction(1)
    assert replace(each, task_id="another").id not in {each.id, ""}, "an id that is kept is no other's"
    assert len({Fact.of(Key(*parts), "x").id for parts in (("a", "bc", "d"), ("ab", "c", "d"))}) == 2


def test_what_a_newer_host_wrote_in_the_place_of_another_has_to_be_folded_anew() -> None:
    state = folded(history(3))
    with pytest.raises(Diverged):
        fold(state, interaction(3, epoch=2, asked="something else"))
    newer = fold(state, interaction(4, epoch=2))
    assert fold(newer, interaction(5, epoch=1)) is newer, "a zombie"


def test_of_an_attempt_that_two_hosts_ran_the_first_outcome_counts() -> None:
    state = folded(history(3))
    again = replace(interaction(2, epoch=2, answer="another host's"), ordinal=4)
    assert fold(state, again) is state
    later = [replace(interaction(number, epoch=2), ordinal=number + 1) for number in (4, 5)]
    expected = refold(KEY, [*history(3), again, *later])
    assert reduce(fold, [again, *later], state) == expected
    assert [each.ordinal for each in expected.recent] == [1, 2, 3, 5, 6]


def test_an_id_that_comes_again_with_another_question_is_another_task_which_is_revoked_with_the_first() -> None:
    again = replace(interaction(2, asked="What else?", answer="More."), ordinal=4)
    said = [*history(3), again, replace(interaction(5), ordinal=5)]
    assert folded(said) == refold(KEY, said)
    assert [each.asked for each in folded(said).recent] == [each.asked for each in said]
    without = refold(KEY, said, revoked=frozenset({again.id}))
    assert [each.ordinal for each in without.recent] == [1, 3, 5]


def test_a_models_summary_stands_for_its_chunk_until_that_slides_out_or_changes() -> None:
    state = folded(history(40))
    chunk = state.chunks[0]
    model = Summary("model", "gpt-x", 1, 10, chunk.members, (SummaryLine("All ten were questions.", chunk.ids, 10),))
    shown = window(with_model(state, model))
    assert shown.summary is not None
    assert (shown.summary.kind, shown.summary.version) == ("model", f"{VERSION}+gpt-x")
    assert "All ten were questions." in text(shown)
    assert mark(1) not in text(shown)
    longer = reduce(fold, history(111)[40:], with_model(state, model))
    assert "All ten were questions." not in text(window(longer)), "one of the ten is out of the hundred"
    revoked = refold(KEY, history(40), models=(model,), revoked=frozenset({interaction(4).id}))
    assert not revoked.models


def test_a_summary_keeps_decisions_and_numbers_before_small_talk_and_says_nothing_twice() -> None:
    chunk = [
        interaction(1, asked="Hello there, how are you doing today my friend?", answer="Great, thanks for asking!"),
        interaction(2, asked="We decided to ship on 2026-03-14.", answer="Confirmed: shipping on 2026-03-14."),
        interaction(3, asked="We decided to ship on 2026-03-14.", answer="Confirmed: shipping on 2026-03-14."),
        *[
            interaction(n, asked=f"Sure, tell me more about it number {n} " * 8, answer="Okay. " * 30)
            for n in range(4, 11)
        ],
    ]
    made = summarise(chunk)
    assert made.text.count("asked: We decided to ship on 2026-03-14.") == 1
    assert summary_hash(made) == summary_hash(summarise(chunk))
    assert sum(line.tokens for line in made.lines) <= CHUNK_TOKENS_MAX


def test_bytes_of_another_format_are_refused() -> None:
    for data in (b"", b"[]", b'{"format": 0}', b'{"format": 1}'):
        with pytest.raises(UnknownFormat):
            state_of(data)


def test_an_empty_memory_shows_nothing() -> None:
    shown = window(State(KEY), directives=NO_DIRECTIVES)
    assert (text(shown), messages(shown), shown.tokens, shown.summary) == ("", [], 0, None)


def test_messages_are_what_a_chat_model_takes() -> None:
    state = folded([interaction(1, facts=("EMEA is a region.",), tool_calls=(ToolCall("c", "find", "{}", "x"),))])
    assert messages(window(state)) == [
        {"role": "system", "content": "Facts to remember:\n- EMEA is a region."},
        {"role": "user", "content": f"Question {mark(1)}?"},
        {"role": "assistant", "content": "[tool] find({}) -> x"},
        {"role": "assistant", "content": f"Answer {mark(1)} is 7."},
    ]


# Counted with the vocabularies o200k_base and cl100k_base: the larger of the two.
COUNTED = {
    "What was the revenue of EMEA in Q3?": 11,
    "Please book flight LH123 on 2026-03-14 for $431.50.": 19,
    "550e8400-e29b-41d4-a716-446655440000": 18,
    "def f(x):\n    return x + 1\n\nprint(f(2))": 16,
}


@pytest.mark.parametrize("said", COUNTED)
def test_the_estimate_errs_upwards(said: str) -> None:
    assert COUNTED[said] <= estimate(said) <= 1.5 * COUNTED[said]
