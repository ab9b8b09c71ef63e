"""Panels of two while nothing but good answers is heard of them: the first voice is kept, the second may decide.

The same decision as streams/core/panel.py makes of the same votes. I/O: none.
"""

from __future__ import annotations

from collections.abc import Iterator
from operator import add
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from streams.core.cohort import CONSENSUS, Cohort
from streams.core.consensus import Vote, vote_key
from streams.core.effects import Result
from streams.core.hearing import Hearing
from streams.core.policy import Policy
from streams.core.rows import Rows
from streams.core.task import Task


class Voice(NamedTuple):
    """A good answer: what it says, and what a task is charged with."""

    vote: Vote
    attempt: int
    event_id: str
    cost_microusd: int
    tokens: int


def voices(policy: Policy, batch: pa.RecordBatch, hearing: Hearing, rows: Rows) -> Iterator[Voice]:
    """Of these rows, which are good answers of agents that the policy names (AgentEvent columns)."""
    places = pa.array(rows)
    answers, payloads, stated, events = (
        batch.column(name).take(places).to_pylist() for name in ("answer", "payload", "vote_key", "event_id")
    )
    numbers = ("cost_microusd", "tokens_in", "tokens_out")
    costs, tokens_in, tokens_out = (batch.column(name).to_numpy()[rows].tolist() for name in numbers)
    agents, attempts = hearing.agent[rows], hearing.attempt[rows]
    votes = map(
        Vote,
        map(hearing.names.__getitem__, agents.tolist()),
        map(vote_key, stated, answers),
        hearing.confidence[rows].tolist(),
        policy.agent_columns.weights[agents].tolist(),
        (attempts - 1).tolist(),
        answers,
        payloads,
    )
    return map(Voice, votes, attempts.tolist(), events, costs, map(add, tokens_in, tokens_out))


class Pairs:
    """First voices by the number of their task, which is in a cohort."""

    def __init__(self) -> None:
        self._first: dict[int, Voice] = {}

    def are_new(self, numbers: Rows, attempt: Rows, times: Rows) -> npt.NDArray[np.bool_]:
        """Whether each row speaks of another attempt than those heard so far, in a batch with so many of its task."""
        first = self._first
        heard = [first[each].attempt if each in first else 0 for each in numbers.tolist()]
        before = np.array(heard, np.int64)
        new: npt.NDArray[np.bool_] = (before == 0) | ((times == 1) & (before != attempt))
        return new

    def hear(self, number: int, voice: Voice) -> tuple[Voice, Voice] | None:
        """Keeps a first voice, or gives both of a task, by seat; what is heard comes from the other attempt."""
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
            task.charge(first)
            attempt = task.attempts[first.attempt]
            attempt.event_id, attempt.vote = first.event_id, first.vote


def agreed(cohort: Cohort, number: int, one: Voice, other: Voice, now_ms: int) -> tuple[Result, int]:
    """The answer of the surer one, of equally sure ones the lower seat's; voices by seat. And the task's size."""
    intake, (row, first) = cohort.intake, cohort.origin(number)
    best = other.vote if other.vote.confidence > one.vote.confidence else one.vote
    result = Result(
        id=intake.ids[row],
        key=intake.keys[row],
        identity=intake.identity(row),
        status=CONSENSUS.status,
        reason=CONSENSUS.reason.value,
        intent=first.plan.route.intent,
        answer=best.answer,
        payload=best.payload,
        confidence=(one.vote.confidence + other.vote.confidence) / 2,
        agents=(one.vote.agent_id, other.vote.agent_id),
        votes=(one.vote, other.vote),
        dissent=(),
        attempts=2,
        cost_microusd=one.cost_microusd + other.cost_microusd,
        tokens=one.tokens + other.tokens,
        decided_at=now_ms * 1000,
        failed_agents=0,
    )
    return result, int(intake.sizes[row])
