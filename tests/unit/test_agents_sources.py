"""Cold memory out of two sources: nothing is forgotten where one is behind, away, cut off or somebody else's."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.context import Contexts
from agents.conversation import Conversation
from agents.inbox import Inbox
from agents.memory.canonical import state_hash
from agents.memory.fold import refold
from agents.memory.model import RECENT, Interaction, Key
from agents.memory.ports import Remembered
from agents.outcome import Outcome
from agents.sources import REST_S, SHORT_MAX, KnownLog, Recalled, Sources
from tests.support.agents_attempts import attempt_of
from tests.support.agents_bench import make_topology
from tests.support.examples import examples
from tests.support.memories import KEY, history, interaction, mark
from tests.support.memory_sources import Logs, Shelf

OTHER = KEY._replace(conversation_id="c2")
LONG = 2 * SHORT_MAX
TO_HAND = 1 << 20


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def asked(sources: Sources, known: KnownLog) -> Recalled:
    return sources.recall(KEY.agent_id, 0, known, frozenset([KEY]))


def hash_of(remembered: Remembered) -> str:
    return state_hash(refold(KEY, remembered.interactions, facts_before=remembered.facts_before))


@examples(60)
@given(st.integers(0, 140), st.data())
def test_what_two_sources_hold_together_is_remembered_wherever_either_ends(n: int, data: st.DataObject) -> None:
    """The history behind by anything, the log without a beginning that the history has, and the log long or short."""
    said = history(n)
    through = data.draw(st.integers(0, n))
    begin = data.draw(st.integers(0, through))
    logs = Logs(n + data.draw(st.sampled_from([0, LONG])), {KEY: said}, begin)
    known = data.draw(st.sampled_from([KnownLog(), KnownLog(seen={hash(KEY)})]))
    found = asked(Sources(logs, Shelf(through, {KEY: said}), TO_HAND), known)
    assert hash_of(found.memories[KEY]) == state_hash(refold(KEY, said))


def test_a_long_log_is_read_from_where_the_history_ends() -> None:
    said = history(30)
    logs, shelf = Logs(LONG, {KEY: said}), Shelf(LONG - 5, {KEY: said})
    found = asked(Sources(logs, shelf, TO_HAND), KnownLog())
    assert (logs.read_from, found.seen) == ([LONG - 5], None)


def test_a_log_of_which_the_history_has_little_is_read_as_a_whole_once() -> None:
    said = history(30)
    logs, known = Logs(LONG, {KEY: said}), KnownLog()
    sources = Sources(logs, Shelf(3, {KEY: said}), TO_HAND)
    found = asked(sources, known)
    assert (found.seen, found.begin) == ({hash(KEY)}, 0)
    known.seen, known.begin = found.seen, found.begin
    assert sources.new(known, OTHER) == Remembered()
    assert sources.new(known, KEY) is None
    asked(sources, known)
    assert logs.read_from == [0, 3]


def test_a_short_log_is_read_as_a_whole_and_brings_others_to_hand() -> None:
    said = {KEY: history(5), OTHER: history(7, OTHER)}
    shelf = Shelf(7, said)
    found = asked(Sources(Logs(12, said), shelf, TO_HAND), KnownLog())
    assert set(found.memories) == {KEY, OTHER}
    assert shelf.asked == 0


def test_what_a_log_without_its_beginning_says_of_others_is_not_kept() -> None:
    """The history may have what the log lacks of them."""
    said = {KEY: history(50), OTHER: history(50, OTHER)}
    logs = Logs(50, said, begin=45)
    found = asked(Sources(logs, Shelf(0, said), TO_HAND), KnownLog())
    assert set(found.memories) == {KEY}
    assert set(asked(Sources(logs, None, TO_HAND), KnownLog()).memories) == {KEY, OTHER}


def test_a_history_that_is_away_is_left_alone_for_a_while_and_longer_each_time() -> None:
    said = history(30)
    clock, shelf = Clock(), Shelf(30, {KEY: said})
    shelf.is_away = True
    sources = Sources(Logs(LONG, {KEY: said}), shelf, TO_HAND, clock)
    known = KnownLog(seen={hash(KEY)})
    for rest, times in ((REST_S, 1), (2 * REST_S, 2), (4 * REST_S, 3)):
        for _ in range(3):
            assert hash_of(asked(sources, known).memories[KEY]) == state_hash(refold(KEY, said))
        assert shelf.asked == times
        clock.now += rest
    shelf.is_away = False
    for _ in range(3):
        asked(sources, known)
    assert shelf.asked == 6, "it is asked each time again"


def test_who_is_new_is_asked_of_the_history_where_the_log_lost_its_beginning_and_it_is_there() -> None:
    clock, shelf = Clock(), Shelf(0, {})
    sources = Sources(Logs(LONG, {}, begin=10), shelf, TO_HAND, clock)
    known = KnownLog(seen=set(), begin=10)
    assert sources.new(known, KEY) is None
    shelf.is_away = True
    asked(sources, known)
    assert sources.new(known, KEY) == Remembered(numbered=10), "nobody waits for a history that is away"
    clock.now += REST_S
    assert sources.new(known, KEY) is None
    assert Sources(Logs(LONG, {}, begin=10), None, TO_HAND).new(known, KEY) == Remembered()
    assert Sources(Logs(LONG, {}), None, TO_HAND).new(KnownLog(), KEY) is None, "not before the log was read"


@examples(40)
@given(st.integers(1, 140), st.booleans(), st.integers(0, 3), st.data())
def test_no_number_is_given_twice_though_the_log_lost_its_beginning_and_the_history_is_away(
    n: int, is_read: bool, more: int, data: st.DataObject
) -> None:
    """What only the history has is not written over: once it is back, what came meanwhile stands behind all of it."""
    said = history(n)
    begin = n + data.draw(st.integers(0, 50))  # other conversations' events stand among them
    shelf = Shelf(n, {KEY: said})
    shelf.is_away = True
    known = KnownLog(seen=set() if is_read else None, begin=begin if is_read else 0)
    logs = Logs(begin + LONG, {}, begin)
    sources = Sources(logs, shelf, TO_HAND)
    found = asked(sources, known).memories[KEY]
    contexts = Contexts(make_topology("", {KEY.agent_id: {}}))
    mine = Conversation(KEY.agent_id, 0, KEY.tenant, KEY.conversation_id)
    assert contexts.put(mine, found)
    new = []
    for number in range(more):
        done = contexts.note(mine, attempt_of(f"new{number}", inbox=inbox()), Outcome("COMPLETED", "x"))
        new.append(interaction(done.ordinal, epoch=2))
    assert [each.ordinal for each in new] == list(range(begin + 1, begin + 1 + more))
    both = refold(KEY, [*said, *new])
    assert [each.ordinal for each in both.recent if each.epoch == 2] == [each.ordinal for each in new][-RECENT:]
    assert both.count == (new[-1].ordinal if new else n)


def inbox() -> Inbox:
    return Inbox(KEY.agent_id, f"agents.{KEY.agent_id}.inbox.v1", 0, epoch=2)


def test_where_there_is_no_history_numbers_begin_again_for_nobody_has_the_old_ones() -> None:
    found = asked(Sources(Logs(LONG, {}, begin=10), None, TO_HAND), KnownLog(seen=set(), begin=10))
    assert found.memories[KEY].numbered == 0


def test_a_history_of_another_log_is_not_believed() -> None:
    """Topics that were made anew count from 0 again."""
    said, forged = history(5), [each for each in history(40) if each.ordinal]
    found = asked(Sources(Logs(5, {KEY: said}), Shelf(40, {KEY: forged}), TO_HAND), KnownLog(seen={hash(KEY)}))
    assert hash_of(found.memories[KEY]) == state_hash(refold(KEY, said))
    assert mark(6) not in str(found)


def test_a_history_that_read_on_while_the_log_was_looked_at_is_believed() -> None:
    said = history(30)

    class Growing(Logs):
        def span(self, agent_id: str, partition: int) -> tuple[int, int]:
            span = super().span(agent_id, partition)
            self.end = LONG + 1
            return span

    logs = Growing(LONG, {KEY: said})
    asked(Sources(logs, Shelf(LONG + 1, {KEY: said}), TO_HAND), KnownLog(seen=set()))
    assert logs.read_from == [LONG + 1]


@pytest.mark.parametrize("error", [KeyError("column"), OSError("no route")])
def test_no_answer_depends_on_what_the_history_does_wrong(error: Exception) -> None:
    class Broken:
        def recall(self, partition: int, keys: Collection[Key]) -> tuple[Mapping[Key, Remembered], Mapping[str, int]]:
            raise error

    said: list[Interaction] = history(3)
    sources = Sources(Logs(LONG, {KEY: said}), Broken(), TO_HAND)
    assert hash_of(asked(sources, KnownLog()).memories[KEY]) == state_hash(refold(KEY, said))
