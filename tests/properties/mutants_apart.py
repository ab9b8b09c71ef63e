"""Broken builds of what keeps memories apart: each lets a text of one into another's, which the tests of
tests/unit/test_memory_apart.py must see. Those of windows and snapshots are with their like. I/O: none.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import wraps
from typing import Any, NamedTuple

import pytest

from agents.memory.fold import _Folding
from agents.memory.model import Interaction
from agents.questions import Question, Questions
from streams.core.decisions import Decisions
from streams.core.effects import Dispatch
from tests.properties.mutant import Law, Mutant
from tests.unit import test_memory_apart as apart

_dispatch, _take = Decisions.dispatch, _Folding.take


def case(law: Law, **arguments: Any) -> Law:
    """One case of a test that has several."""

    @wraps(law)
    def own() -> None:
        law(**arguments)

    return own


def _by_task(self: Questions, attempt: Any, _conversation_id: str, routed_at: int) -> Question | None:
    """Whatever conversation it was asked in."""
    held = [each for (own, _), questions in self._held.items() if own == attempt for each in questions]
    return next((each for each in held if each.routed_at == routed_at), held[0] if held else None)


def _by_id(self: Questions, attempt: Any, _conversation_id: str, _routed_at: int) -> Question | None:
    """Whatever conversation it was asked in, and whenever."""
    return next((questions[0] for (own, _), questions in self._held.items() if own == attempt), None)


def _by_conversation(self: Questions, attempt: Any, conversation_id: str, _routed_at: int) -> Question | None:
    """Whenever it was asked."""
    held = self._held.get((attempt, conversation_id))
    return held[0] if held else None


def _whatever_was_asked(self: _Folding, interaction: Interaction) -> None:
    """An attempt is known by its id."""
    ids = [attempt[:3] for attempt in self._attempts]
    if (interaction.task_id, interaction.attempt, interaction.stage) not in ids:
        _take(self, interaction)


class _Anything:
    """Is what anybody says it is."""

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]


class _Anybodys(NamedTuple):
    """A fact of every memory."""

    id: _Anything

    @classmethod
    def of(cls, *_: Any) -> _Anybodys:
        return cls(_Anything())


def _told(self: Decisions, task: Any, plan: Any, step: Any, now_ms: int) -> None:
    """Whoever is asked next hears the last answer."""
    said = [each.vote.answer for each in task.attempts.values() if each.vote is not None]
    _dispatch(self, task, plan, step._replace(reason=f"{step.reason}: {said[-1]}") if said else step, now_ms)


class _Neighbours:
    """A dispatch bears the text of the one before it."""

    def __init__(self) -> None:
        self.before: bytes | None = None

    def __call__(self, slip: Any, key: bytes, frame: bytes, datum: bytes) -> Dispatch:
        text, self.before = self.before or datum, datum
        return Dispatch(slip, key, frame, text)


def gone(read: Any) -> Law:
    law = apart.test_a_question_that_is_gone_is_not_what_another_conversation_asked_under_its_id
    return case(law, read=read)


def again(read: Any) -> Law:
    law = apart.test_a_task_id_that_comes_again_in_its_conversation_stands_beside_what_was_asked_then
    return case(law, read=read, first=5)


APART: Mapping[str, Mutant] = {
    "a question is whichever conversation's has its task id": Mutant(
        "agents.questions.Questions.of", _by_task, (gone(apart.from_the_log), gone(apart.rebuilt))
    ),
    "a question is the first under its id": Mutant(
        "agents.questions.Questions.of", _by_conversation, (again(apart.from_the_log),)
    ),
    "a question is the first under its id, whoever's": Mutant(
        "agents.questions.Questions.of",
        _by_id,
        (
            case(
                apart.test_a_task_id_that_two_conversations_use_tells_neither_what_the_other_asked,
                read=apart.from_the_log,
                copies=1,
                batch=100,
            ),
        ),
    ),
    "a task id that comes again is the task of before": Mutant(
        "agents.memory.fold._Folding.take", _whatever_was_asked, (again(apart.from_the_log), again(apart.rebuilt))
    ),
    "a fact is anybody's": Mutant(
        "agents.conversation.Fact",
        _Anybodys,
        (apart.test_a_fact_of_another_memory_is_refused_where_one_is_read,),
        pytest.fail.Exception,
    ),
    "the next agent hears what the last one answered": Mutant(
        "streams.core.decisions.Decisions.dispatch",
        _told,
        (apart.test_the_orchestrator_hands_no_agent_what_another_one_answered,),
    ),
    "a dispatch bears its neighbour's text": Mutant(
        "streams.core.decisions.Dispatch",
        _Neighbours(),
        (apart.test_the_orchestrator_hands_no_agent_what_another_one_answered,),
    ),
}
