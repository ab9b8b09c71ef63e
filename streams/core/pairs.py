"""Panels of two while nothing but good answers is heard of them: the first voice is kept, the second may decide.

The same decision as streams/core/panel.py makes of the same votes. I/O: none.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from streams.core.cohort import CONSENSUS, Cohort
from streams.core.consensus import Vote
from streams.core.effects import Result
from streams.core.judge import vote_of
from streams.core.policy import Policy
from streams.core.rows import Rows
from streams.core.task import Outcome, Task


class Voice(NamedTuple):
    """A good answer, and what it says."""

    outcome: Outcome
    vote: Vote


class Pairs:
    """First voices by the number of their task, which is in a cohort."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._first: dict[int, Voice] = {}

    def are_new(self, numbers: Rows, attempt: Rows, times: Rows) -> npt.NDArray[np.bool_]:
        """Whether each row speaks of another attempt than those heard so far, in a batch with so many of its task."""
        first = self._first
        heard = [first[each].outcome.attempt if each in first else 0 for each in numbers.tolist()]
        before = np.array(heard, np.int64)
        new: npt.NDArray[np.bool_] = (before == 0) | ((times == 1) & (before != attempt))
        return new

    def hear(self, number: int, outcome: Outcome, confidence: float) -> tuple[Voice, Voice] | None:
        """Keeps a first voice, or gives both of a task, by seat; what is heard comes from the other attempt."""
        voice = Voice(outcome, vote_of(self._policy.agent(outcome.agent_id), outcome, confidence, outcome.attempt - 1))
        first = self._first.setdefault(number, voice)
        if first is voice:
            return None
        return (first, voice) if first.vote.seat < voice.vote.seat else (voice, first)

    def forget(self, number: int) -> None:
        self._first.pop(number, None)

    def tell(self, number: int, task: Task) -> None:
        """Adds the first voice to the facts of its task."""
        first = self._first.get(number)
        if first is not None:
            task.charge(first.outcome)
            attempt = task.attempts[first.outcome.attempt]
            attempt.event_id, attempt.vote = first.outcome.event_id, first.vote


def agreed(cohort: Cohort, number: int, one: Voice, other: Voice, now_ms: int) -> Result:
    """The answer of the surer one, of equally sure ones the lower seat's; voices by seat."""
    intake, (row, first) = cohort.intake, cohort.origin(number)
    best = other if other.vote.confidence > one.vote.confidence else one
    return Result(
        id=intake.ids[row],
        key=intake.keys[row],
        identity=intake.identity(row),
        status=CONSENSUS.status,
        reason=CONSENSUS.reason.value,
        intent=first.plan.route.intent,
        answer=best.vote.answer,
        payload=best.vote.payload,
        confidence=(one.vote.confidence + other.vote.confidence) / 2,
        agents=(one.vote.agent_id, other.vote.agent_id),
        votes=(one.vote, other.vote),
        dissent=(),
        attempts=2,
        cost_microusd=one.outcome.cost_microusd + other.outcome.cost_microusd,
        tokens=one.outcome.tokens + other.outcome.tokens,
        decided_at=now_ms * 1000,
        failed_agents=0,
    )
