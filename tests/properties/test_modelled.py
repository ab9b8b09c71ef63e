"""The laws of model-made summaries: they are events like others, lose no fact, and outlive no revocation."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from agents.memory.canonical import state_bytes, state_of, window_bytes
from agents.memory.extractive import CHUNK_TOKENS_MAX, bounds
from agents.memory.fold import fold, reach, refold, with_model
from agents.memory.model import CHUNK, RECENT, Caps, Interaction, Source, State, Summary
from agents.memory.modelled import AHEAD, Unfit, missing, modelled, payload_of, summary_of
from agents.memory.rebuild import Rebuild
from agents.memory.render import text
from agents.memory.snapshot import Position, Snapshot
from agents.memory.window import window
from tests.support.examples import examples
from tests.support.memories import KEY, TEXTS, histories, history, mark

VERSION = "model 1+00000000"


def said_of(members: Sequence[Interaction]) -> str:
    """What a model says that keeps every fact, and the marks of all that it was given."""
    facts = [fact for each in members for fact in each.facts]
    return "\n".join(["In short: " + " ".join(mark(each.ordinal) for each in members), *facts])


def made(members: Sequence[Interaction], *, epoch: int = 1, count: int = 0, said: str | None = None) -> Summary:
    found = modelled(members, said or said_of(members), VERSION, CHUNK_TOKENS_MAX, epoch=epoch, count=count)
    assert isinstance(found, Summary), found
    return found


def chunks(all_: Sequence[Interaction]) -> list[list[Interaction]]:
    """All that are complete."""
    return [list(all_[at : at + CHUNK]) for at in range(0, len(all_) - CHUNK + 1, CHUNK)]


@examples(25)
@given(histories((20, 25, 121, 135)), st.data())
def test_memory_is_the_same_wherever_the_fold_begins_and_whenever_summaries_come(
    all_: list[Interaction], data: st.DataObject
) -> None:
    """As the log has them: anywhere behind what they stand for; read one by one, across a crash, or anew."""
    events: list[Interaction | Summary] = list(all_)
    models = []
    for members in chunks(all_):
        count = data.draw(st.integers(members[-1].ordinal, len(all_)))
        model = made(members, count=count)
        models.append(model)
        events.insert(events.index(all_[count - 1]) + 1, model)
    cut = data.draw(st.integers(0, len(events)))

    def folded(state: State, some: Sequence[Interaction | Summary]) -> State:
        for each in some:
            state = with_model(state, each) if isinstance(each, Summary) else fold(state, each)
        return state

    live = folded(State(KEY), events)
    assert state_bytes(folded(state_of(state_bytes(folded(State(KEY), events[:cut]))), events[cut:])) == state_bytes(
        live
    )
    start = data.draw(st.integers(1, reach(len(all_))))
    facts = [fact for fact in live.facts if fact.ordinal < start]
    cold = refold(KEY, all_[start - 1 :], facts_before=facts, models=data.draw(st.permutations(models)))
    assert (cold.chunks, cold.models) == (live.chunks, live.models)
    assert window_bytes(window(refold(KEY, all_, models=models))) == window_bytes(window(live))


@examples(25)
@given(histories((20, 25, 121, 135)), st.data())
def test_a_snapshot_holds_them(all_: list[Interaction], data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(all_)))
    models = [made(members) for members in chunks(all_)]

    def taken(memory: Rebuild, first: int, last: int) -> Rebuild:
        for each in all_[first:last]:
            memory.take(each)
            for model in models:
                if model.last == each.ordinal:
                    memory.take_model(KEY, model)
        return memory

    before = taken(Rebuild(), 0, cut).state_bytes()
    after = taken(Rebuild(Snapshot(KEY.agent_id, 0, 1, Position(0, 0), before)), cut, len(all_))
    assert after.states() == {KEY: refold(KEY, all_, models=models)}


@examples(40)
@given(st.lists(st.tuples(st.integers(1, 3), st.integers(10, 14), st.sampled_from("ab")), min_size=1), st.data())
def test_of_several_the_newest_hosts_counts_in_whatever_order_they_come(
    writes: list[tuple[int, int, str]], data: st.DataObject
) -> None:
    all_ = history(30)
    models = [made(all_[:10], epoch=epoch, count=count + 8, said=said) for epoch, count, said in writes]
    (kept,) = refold(KEY, all_, models=models).models
    assert kept.epoch == max(each.epoch for each in models)
    assert refold(KEY, all_, models=data.draw(st.permutations(models))).models == (kept,)


@examples(40)
@given(histories((20, 25, 121)), st.data())
def test_nothing_derived_holds_what_was_revoked_and_the_rest_is_taken_once_made_again(
    all_: list[Interaction], data: st.DataObject
) -> None:
    gone = data.draw(st.sets(st.sampled_from([each.ordinal for each in all_]), min_size=1))
    revoked = frozenset(each.id for each in all_ if each.ordinal in gone)
    old = [made(members) for members in chunks(all_)]
    again = [
        made(left, epoch=data.draw(st.integers(1, 2)))
        for members in chunks(all_)
        if (left := [each for each in members if each.id not in revoked])
    ]
    for models in (old, old + again, again + old):
        state = refold(KEY, all_, models=models, revoked=revoked)
        held = state_bytes(state).decode() + text(window(state, Caps(20_000, 40_000)))
        assert not [number for number in gone if mark(number) in held]
        assert not [id_ for id_ in revoked if id_ in held]
    in_reach = [each for each in again if each.first >= reach(len(all_))]
    assert refold(KEY, all_, models=old + again, revoked=revoked).models == tuple(in_reach)


@given(histories((10,)), st.sampled_from([*TEXTS, "\ud800", "\n\n", None, 7, "x " * 5_000]), st.integers(16, 1_600))
def test_what_is_taken_states_every_fact_and_keeps_its_cap(
    all_: list[Interaction], said: object, tokens_max: int
) -> None:
    found = modelled(all_, said, VERSION, tokens_max, epoch=1, count=10)
    if isinstance(found, Unfit):
        return
    assert all("".join(fact.split()) in "".join(found.text.split()) for each in all_ for fact in each.facts)
    assert sum(line.tokens for line in found.lines) <= tokens_max
    assert not missing(found, all_)


@given(histories((10,)), st.text(min_size=1), st.integers(10, 200))
def test_what_the_log_has_is_what_was_made(all_: list[Interaction], said: str, count: int) -> None:
    plain = [replace(each, facts=()) for each in all_]
    found = modelled(plain, said, VERSION, CHUNK_TOKENS_MAX, epoch=3, count=count)
    if isinstance(found, Summary):
        assert summary_of(payload_of(found), 3) == found
        assert found.since >= max(count + AHEAD, found.last + RECENT)
        assert (found.first, found.last) == bounds(all_[0].ordinal)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)


@examples(100)
@given(st.data())
def test_whatever_a_note_holds_is_a_whole_summary_or_none(data: st.DataObject) -> None:
    held: dict[str, Any] = json.loads(payload_of(made(history(10))))
    name = data.draw(st.sampled_from(sorted(held["summary"])))
    held["summary"][name] = data.draw(_JSON)
    found = summary_of(data.draw(st.just(json.dumps(held)) | st.text() | st.none()), 1)
    if found is not None:
        assert (found.first, found.last) == bounds(found.first), "one chunk, whole"
        ordinals = [ordinal for ordinal, _ in found.members]
        assert ordinals == sorted({*ordinals} & {*range(found.first, found.last + 1)})
        assert found.since >= found.last + RECENT, "never beside what it stands for"
        assert all(line.text.strip() for line in found.lines)
        assert found.lines
        state = refold(KEY, history(30), models=[found])
        assert sum(line.tokens for each in state.models for line in each.lines) <= CHUNK_TOKENS_MAX
        assert window(state).tokens <= 8_000


def test_a_model_stands_in_the_place_of_exactly_its_range_once_that_is_shown_no_more() -> None:
    all_ = history(40)
    model = made(all_[10:20], count=28)
    assert model.since == 30
    shown = [text(window(refold(KEY, all_[:n], models=[model]))) for n in range(20, 41)]
    assert ["In short" in each for each in shown] == [n >= 30 for n in range(20, 41)]
    late = made(all_[10:20], count=33)  # its host knew of so many when it wrote it: calls before saw none
    shown = [text(window(refold(KEY, all_[:n], models=[late]))) for n in range(30, 41)]
    assert ["In short" in each for each in shown] == [n >= 35 for n in range(30, 41)]
    last = window(reduce(fold, all_[:35], refold(KEY, all_[:30], models=[model])))
    assert last.summary is not None
    assert [line.text for line in last.summary.lines if line.origins == model.ids] == [
        line.text for line in model.lines
    ]
    kept = {origin for line in last.summary.lines if len(line.origins) == 1 for origin in line.origins}
    assert kept == {each.id for each in all_[:25]} - set(model.ids), "the others have their own lines"


STORED = (
    '{"summary":{"format":1,"first":1,"last":10,"since":20,"members":[[1,"a"],[2,"b"],[10,"c"]],'
    '"maker":"notes:brief 1+0a1b2c3d","lines":["In short: the budget is 5,000."],"source":["searcher","task t1"]}}'
)


def test_what_a_host_of_this_format_wrote_stays_readable() -> None:
    """Logs are kept for long: whoever changes the form reads this one, too, or leaves it to the extractive summary."""
    found = summary_of(STORED, 7)
    assert found is not None
    assert (found.first, found.last, found.since, found.epoch) == (1, 10, 20, 7)
    assert found.members == ((1, "a"), (2, "b"), (10, "c"))
    assert found.version == "notes:brief 1+0a1b2c3d"
    assert found.text == "(partly from searcher) In short: the budget is 5,000."
    assert payload_of(found) == STORED
    assert summary_of(STORED.replace('"format":1', '"format":2'), 7) is None
    assert summary_of('{"declared":{"version":"1"}}', 7) is None, "what a claim holds"


def test_a_summary_of_another_agents_words_says_so() -> None:
    all_ = [replace(each, source=Source("searcher", "task t0")) if each.ordinal == 3 else each for each in history(10)]
    found = made(all_)
    assert all(line.text.startswith("(partly from searcher) ") for line in found.lines)
    assert {line.source for line in found.lines} == {Source("searcher", "task t0")}
    assert summary_of(payload_of(found), 1) == found
