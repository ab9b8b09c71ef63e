"""Whether what an agent said counts as an answer, its vote then, and whom a failure counts against.

Rule R7 of docs/rules.md. I/O: none.
"""

from __future__ import annotations

from schemas.reasons import ErrorClass, FailReason
from streams.core.consensus import Vote, vote_key
from streams.core.policy import AgentPolicy
from streams.core.task import REGROUND, Outcome

OUTCOMES = frozenset({"COMPLETED", "FAILED", "REFUSED"})

FAILURES = frozenset({"FAILED", "REFUSED"})

_BY_ERROR_CLASS: dict[str, FailReason] = {
    ErrorClass.TIMEOUT: FailReason.TIMED_OUT,
    ErrorClass.OVERLOADED: FailReason.OVERLOADED,
    ErrorClass.QUOTA: FailReason.OVERLOADED,
    ErrorClass.PAUSED: FailReason.PAUSED,
    ErrorClass.WRONG_INPUT: FailReason.WRONG_INPUT,
    ErrorClass.UNKNOWN_OUTCOME: FailReason.UNKNOWN_OUTCOME,
}

AGAINST_THE_AGENT = frozenset(
    {FailReason.FAILED, FailReason.TIMED_OUT, FailReason.UNKNOWN_OUTCOME, FailReason.INVALID_CONFIDENCE}
)
"""Failures that its breaker counts: not an honest doubt, a refusal, overload, a pause or wrong input."""

LEAVES_DOUBT = frozenset({FailReason.TIMED_OUT, FailReason.UNKNOWN_OUTCOME})
"""Failures after which a write may have happened all the same."""


def failure_of(kind: str, error_class: str | None) -> FailReason:
    """What a failure of this kind (FAILURES) says of itself."""
    return FailReason.REFUSED if kind == "REFUSED" else _BY_ERROR_CLASS.get(error_class or "", FailReason.FAILED)


def judge(agent: AgentPolicy, outcome: Outcome, confidence_min: float) -> FailReason | float:
    """The confidence of a good answer, or why it is none."""
    if outcome.kind in FAILURES:
        return failure_of(outcome.kind, outcome.error_class)
    confidence = agent.confidence_when_unstated if outcome.confidence is None else outcome.confidence
    if not 0.0 <= confidence <= 1.0:  # NaN compares false, so it is refused here too
        return FailReason.INVALID_CONFIDENCE
    if confidence < confidence_min:
        return FailReason.LOW_CONFIDENCE
    if (agent.grounded or outcome.stage == REGROUND) and not outcome.cited:
        return FailReason.UNGROUNDED
    return FailReason.FAILED if outcome.answer is None else confidence


def vote_of(agent: AgentPolicy, outcome: Outcome, confidence: float, seat: int) -> Vote:
    """What a good answer, of this confidence, says in a panel."""
    answer = outcome.answer or ""
    key = vote_key(outcome.vote_key, answer)
    return Vote(outcome.agent_id, key, confidence, agent.weight, seat, answer, outcome.payload)
