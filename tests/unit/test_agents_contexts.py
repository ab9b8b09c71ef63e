"""Conversations at hand: what an agent is shown is what the pure fold makes of the log, whoever was in between."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib import import_module
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.context import Contexts
from agents.contract import EMPTY_CONTEXT
from agents.conversation import HELD_BYTES, PACKED_BYTES, UNSEEN_MAX, UNSEEN_SLACK, Conversation
from agents.inbox import Inbox
from agents.memory.canonical import window_hash
from agents.memory.fold import refold
from agents.memory.model import NO_DIRECTIVES, Directives, ForeignInteraction, Interaction, Key, Place
from agents.memory.ports import Remembered
from agents.memory.window import window
from agents.noted import Noted
from agents.outcome import Outcome
from agents.recognition import AttemptId
from agents.recollection import Recollection
from agents.sources import joined
from agents.wire import context_fields
from schemas.topology import Topology
from tests.support.agents_attempts import attempt_of
from tests.support.agents_bench import make_topology
from tests.support.examples import examples
from tests.support.memories import history
from tests.support.memory_sources import Logs

TOPOLOGY = make_topology("", {"a": {}, "b": {}, "rows": {"kind": "batch"}, "quiet": {"context": False}})
MINE = Conversation("a", 0, "default", "c")
TEXTS = st.text() | st.text(st.characters(codec=None))  # half surrogates, too


class Told:
    """What people said, as a test says it."""

    def __init__(self) -> None:
        self.version, self.said = 0, dict[Key, Directives]()

    def say(self, key: Key, directives: Directives) -> None:
        self.said[key] = directives
        self.version += 1

    def of(self, key: Key) -> Directives:
        return self.said.get(key, NO_DIRECTIVES)


class Log:
    """An agent's log without a broker: what was noted, in order."""

    def __init__(self, contexts: Contexts) -> None:
        self.contexts, self.interactions, self.offset = contexts, list[Interaction](), 0

    def ask(self, conversation: Conversation, text: str, **fields: Any) -> Outcome:
        """One call of the agent, from its context to its log."""
        self.offset += 1
        inbox = Inbox(
            conversation.agent_id, f"agents.{conversation.agent_id}.inbox.v1", conversation.partition, epoch=3
        )
        attempt = attempt_of(
            text=text, inbox=inbox, conversation=conversation, offset=self.offset, labels=fields.pop("labels", [])
        )
        attempt.id = AttemptId(conversation.tenant, f"t{self.offset}", 1, "WORK")
        self.contexts.begin(conversation)
        done = Outcome("COMPLETED", f"answer to {text}", started_at=self.offset, finished_at=self.offset + 1, **fields)
        done = self.contexts.note(conversation, attempt, done)
        self.contexts.left(conversation)
        self.interactions.append(
            Interaction(
                conversation.key,
                f"t{self.offset}",
                text,
                done.answer,
                ordinal=done.ordinal,
                epoch=3,
                facts=done.facts,
                asked_at=self.offset,
                at=self.offset + 1,
                agent_version="1",
                inbox=Place(inbox.topic, inbox.partition, self.offset),
            )
        )
        return done

    def of(self, key: Key) -> Remembered:
        return Remembered(tuple(each for each in self.interactions if each.key == key))


def made(topology: Topology = TOPOLOGY) -> tuple[Contexts, Log, Told]:
    told = Told()
    contexts = Contexts(topology, told)
    return contexts, Log(contexts), told


class Text(str):
    """An agent's own kind of text."""

    __slots__ = ()

    def __str__(self) -> str:
        return "something else"


class Count(int):
    """An agent's own kind of number."""


@examples(30)
@given(
    st.lists(st.tuples(TEXTS, st.none() | TEXTS, st.none() | TEXTS), max_size=20),
    st.sampled_from([0, 110, 155, 300]),
    st.sampled_from([(str, int), (Text, Count)]),
)
def test_what_is_noted_packed_is_what_was_noted_field_by_field(
    said: list[tuple[str, str | None, str | None]], before: int, kinds: tuple[type[str], type[int]]
) -> None:
    contexts, _, _ = made()
    contexts.put(MINE, Remembered())
    text, count = kinds
    expected = []
    for number, (asked, answer, calls) in enumerate([("", None, None)] * before + said, 1):
        inbox = Inbox("a", "agents.a.inbox.v1", 0, epoch=number)
        attempt = attempt_of(text=asked, inbox=inbox, conversation=MINE, offset=number, labels=[("k", asked)])
        attempt.id, attempt.cause_id = AttemptId("default", f"t{number}", 1, "WORK"), answer
        outcome = Outcome("COMPLETED", None if answer is None else text(answer), "key", "{}", 0.5, ("cited",))
        outcome = outcome._replace(facts=(text("a fact"),) if answer else (), error_class="CLASS", error=calls)
        outcome = outcome._replace(tokens_in=count(1), tokens_out=count(2), cost_microusd=count(3))
        outcome = outcome._replace(started_at=4, finished_at=5, tool_calls=calls)
        assert contexts.note(MINE, attempt, outcome).ordinal == number
        expected.append(
            Noted(
                asked=asked,
                task_id=f"t{number}",
                attempt=1,
                stage="WORK",
                labels=[("k", asked)],
                cause_id=answer,
                offset=number,
                epoch=number,
                kind="COMPLETED",
                answer=answer,
                facts=("a fact",) if answer else (),
                error=calls,
                tokens_in=1,
                tokens_out=2,
                cost_microusd=3,
                started_at=4,
                finished_at=5,
                ordinal=number,
                tool_calls=calls,
            )
        )
    held = contexts._held[MINE]
    assert min(len(expected), UNSEEN_MAX) <= len(held.unseen) < UNSEEN_MAX + UNSEEN_SLACK
    found = [Noted.of(each) for each in held.unseen]
    assert [each._replace(labels=list(each.labels or ())) for each in found] == expected[len(expected) - len(found) :]
    assert all(type(each.answer) in (str, type(None)) and type(each.tokens_in) is int for each in found)
    assert contexts.bytes == held.bytes == HELD_BYTES + sum(len(each) + PACKED_BYTES for each in held.unseen)


@examples(40)
@given(st.lists(st.sampled_from(["ask", "look", "evict"]), max_size=60), st.data())
def test_a_context_is_what_the_fold_makes_of_the_log_however_often_it_was_let_go(
    steps: list[str], data: st.DataObject
) -> None:
    contexts, log, _ = made()
    contexts.put(MINE, Remembered())
    looked = contexts.of(MINE)
    for number, step in enumerate(["ask"] * data.draw(st.sampled_from([0, 9, 130])) + steps):
        match step:
            case "ask":
                log.ask(MINE, f"question {number}", facts=(f"fact {number}",) if number % 7 == 0 else ())
            case "look":
                looked = contexts.of(MINE)
                assert looked.hash
            case "evict":
                contexts.evict(MINE)
                assert contexts.put(MINE, log.of(MINE.key))
    expected = window(refold(MINE.key, log.interactions))
    assert contexts.of(MINE).hash == window_hash(expected)


def _counted(calls: Counter[str], name: str, real: Callable[..., Any], *given: Any) -> Any:
    calls[name] += 1
    return real(*given)


def test_of_a_context_only_what_is_looked_at_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    makers = {"agents.shown": ("text", "messages", "window_hash"), "agents.context": ("window",)}
    calls: Counter[str] = Counter()
    for module, names in makers.items():
        for name in names:
            real = getattr(import_module(module), name)
            monkeypatch.setattr(f"{module}.{name}", partial(_counted, calls, name, real))
    contexts, log, _ = made()
    contexts.put(MINE, Remembered())
    log.ask(MINE, "question")
    looked = contexts.of(MINE)
    assert not calls
    assert looked.messages is looked.messages
    assert calls == {"window": 1, "messages": 1}
    assert (looked.text, looked.hash) == (looked.text, looked.hash)
    assert calls == {"window": 1, "messages": 1, "text": 1, "window_hash": 1}


def test_what_was_let_go_is_not_taken_back_before_its_last_outcome_is_in_the_log() -> None:
    contexts, log, _ = made()
    contexts.put(MINE, Remembered())
    log.ask(MINE, "one")
    contexts.evict(MINE)
    assert not contexts.put(MINE, Remembered())
    assert contexts.put(MINE, log.of(MINE.key))
    assert log.ask(MINE, "two").ordinal == 2


def test_a_context_does_not_change_under_a_call_that_holds_it() -> None:
    contexts, log, _ = made()
    contexts.put(MINE, Remembered())
    log.ask(MINE, "one")
    held = contexts.of(MINE)
    log.ask(MINE, "two")
    assert [each.asked for each in held.interactions] == ["one"]


def test_nobody_sees_anothers_conversation_and_a_given_up_partition_is_forgotten() -> None:
    contexts, log, _ = made()
    others = [MINE._replace(agent_id="b"), MINE._replace(tenant="default2"), MINE._replace(conversation_id="c2")]
    others += [MINE._replace(tenant="", conversation_id="defaultc")]
    for each in (MINE, *others):
        contexts.put(each, Remembered())
        log.ask(each, f"secret of {each.key}", facts=(f"fact of {each.key}",))
    for each in (MINE, *others):
        seen = repr(context_fields(contexts.of(each)))
        assert [other for other in (MINE, *others) if repr(other.key) in seen] == [each]
    contexts.forget("a", 1)
    assert contexts.is_at_hand(MINE)
    contexts.forget("a", 0)
    assert contexts.of(MINE) is EMPTY_CONTEXT
    assert contexts.is_at_hand(MINE._replace(agent_id="b"))


def test_another_hosts_records_of_another_conversation_are_refused() -> None:
    contexts, log, _ = made()
    other = MINE._replace(conversation_id="other")
    contexts.put(other, Remembered())
    log.ask(other, "secret")
    with pytest.raises(ForeignInteraction):
        contexts.put(MINE, log.of(other.key))


def test_memory_is_bounded_and_what_is_called_stays() -> None:
    limits = {**TOPOLOGY.limits.model_dump(), "context_bytes_max": 10 * HELD_BYTES}
    contexts, log, _ = made(TOPOLOGY.model_copy(update={"limits": TOPOLOGY.limits.model_validate(limits)}))
    contexts.put(MINE, Remembered())
    contexts.begin(MINE)
    for number in range(40):
        conversation = MINE._replace(conversation_id=f"c{number}")
        contexts.put(conversation, Remembered())
        log.ask(conversation, "x" * 500)
        assert contexts.bytes <= 11 * HELD_BYTES + 1_000
    assert contexts.is_at_hand(MINE)
    assert len(contexts) < 12


def test_who_asks_for_no_context_has_none() -> None:
    contexts, _, _ = made()
    assert [name for name in TOPOLOGY.agents if contexts.remembers(name)] == ["a", "b"]
    none = TOPOLOGY.model_copy(update={"limits": TOPOLOGY.limits.model_copy(update={"context_interactions": 0})})
    assert not Contexts(none).remembers("a")


def test_a_revoked_interaction_is_gone_once_the_conversation_is_read_again() -> None:
    contexts, log, told = made()
    contexts.put(MINE, Remembered())
    for text in ("poison", "water"):
        log.ask(MINE, text, facts=(f"{text} is good",))
    assert "poison" in contexts.of(MINE).text
    told.say(MINE.key, Directives(revoked=frozenset({log.interactions[0].id})))
    assert not contexts.is_at_hand(MINE)
    assert contexts.put(MINE, log.of(MINE.key))
    assert "poison" not in repr(context_fields(contexts.of(MINE)))
    assert contexts.of(MINE).facts == ("water is good",)
    assert log.ask(MINE, "next").ordinal == 3, "numbers stay as they are"


async def test_who_waits_for_the_same_partition_shares_a_reading() -> None:
    contexts, _, _ = made()
    logs = Logs(40, {MINE.key: history(40, MINE.key)})
    memory = Recollection(contexts, logs)
    memory.own(Inbox("a", "agents.a.inbox.v1", 0))
    wanted = [MINE._replace(conversation_id=f"c{number}") for number in range(50)]
    await asyncio.gather(*(memory.ready([each]) for each in [*wanted, MINE]))
    assert len(logs.read_from) == 1
    assert all(map(contexts.is_at_hand, wanted))
    assert contexts.count_of(MINE) == 40
    memory.close()


async def test_one_that_came_and_went_is_not_new_again_when_nobody_counts_it_any_more() -> None:
    contexts, log, _ = made()
    logs = Logs(0, {})
    memory = Recollection(contexts, logs)
    memory.own(Inbox("a", "agents.a.inbox.v1", 0))
    await memory.ready([MINE._replace(conversation_id="another")])
    await memory.ready([MINE])
    log.ask(MINE, "one")
    logs.held[MINE.key] = log.interactions
    contexts.forget("a", 0)  # as where more were let go than are counted
    await memory.ready([MINE])
    assert log.ask(MINE, "two").ordinal == 2
    memory.close()


def test_the_log_continues_what_the_history_has() -> None:
    contexts, log, _ = made()
    contexts.put(MINE, Remembered())
    for number in range(30):
        log.ask(MINE, f"question {number}")
    stored, tail = log.interactions[:20], log.interactions[15:]  # they overlap: the history has read on since
    both = joined(Remembered(tuple(stored)), Remembered(tuple(replace(each) for each in tail)))
    whole = refold(MINE.key, log.interactions)
    assert refold(MINE.key, both.interactions) == whole
