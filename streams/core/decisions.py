"""How a decision about a task becomes an effect: the slip of a dispatch, the row of a note, the one result.

I/O: none.
"""

from __future__ import annotations

from typing import NamedTuple

from schemas.ids import fact_id
from schemas.reasons import DispatchReason, FailReason, ResultReason
from streams.core.availability import Availability
from streams.core.consensus import Vote
from streams.core.effects import Dispatch, Effects, Note, Result
from streams.core.health import Health
from streams.core.policy import Policy
from streams.core.task import Attempt, Plan, Slip, Task


class Step(NamedTuple):
    """One dispatch to make: who, as which attempt, in which seat, why, and who is next."""

    agent_id: str
    attempt: int
    seat: int
    stage: str
    reason: str
    probe_epoch: int
    chain: tuple[str, ...]


class Decisions:
    """Gathers the effects of one call of the cell."""

    def __init__(self, policy: Policy, availability: Availability, health: Health) -> None:
        self._policy, self._availability, self._health = policy, availability, health
        self.effects = Effects()
        self._slips: dict[tuple[object, ...], tuple[Plan, Slip]] = {}

    def take(self) -> Effects:
        """What was decided since the last call."""
        effects, self.effects = self.effects, Effects()
        self._slips.clear()
        return effects

    def note(
        self,
        task: Task,
        kind: str,
        reason: DispatchReason | FailReason | ResultReason,
        now_ms: int,
        *,
        agent_id: str | None = None,
        slip: Slip | None = None,
    ) -> None:
        attempt, seat, stage = (slip.attempt, slip.seat, slip.stage) if slip else (0, 0, "UNKNOWN")
        event_id = fact_id(*task.id, kind, reason.value, agent_id or "", attempt, stage)
        intent = task.plan.route.intent if task.plan else None
        self.effects.notes.append(
            Note(
                event_id,
                kind,
                reason.value,
                task.id,
                task.key,
                task.identity,
                agent_id,
                attempt,
                seat,
                stage,
                intent,
                now_ms * 1000,
            )
        )

    def finish(
        self,
        task: Task,
        status: str,
        reason: ResultReason,
        now_ms: int,
        *,
        answer: Vote | None = None,
        text: str | None = None,
        confidence: float | None = None,
        agents: tuple[str, ...] = (),
        votes: tuple[Vote, ...] = (),
        dissent: tuple[str, ...] = (),
    ) -> None:
        """The one terminal answer; the task takes no further facts."""
        if answer is not None:
            text = answer.answer
            confidence = answer.confidence if confidence is None else confidence
        self.effects.results.append(
            Result(
                id=task.id,
                key=task.key,
                identity=task.identity,
                status=status,
                reason=reason.value,
                intent=task.plan.route.intent if task.plan else None,
                answer=text,
                payload=answer.payload if answer else None,
                confidence=confidence,
                agents=agents,
                votes=votes,
                dissent=dissent,
                attempts=len(task.attempts),
                cost_microusd=task.cost_microusd,
                tokens=task.tokens,
                decided_at=now_ms * 1000,
                failed_agents=task.failed_agents(),
            )
        )
        task.forget_body()

    def dispatch(self, task: Task, plan: Plan, step: Step, now_ms: int) -> None:
        """One attempt more; its timeout never exceeds what is left of the task's deadline."""
        timeout_ms = min(self._policy.agent(step.agent_id).timeout_ms, max(task.deadline_ms - now_ms, 1))
        slip = self._slip(task, plan, step, timeout_ms, now_ms)
        task.attempts[step.attempt] = Attempt(slip)
        self._health.of(step.agent_id).demand += 1
        if step.probe_epoch:
            self._availability.spend(step.agent_id, step.probe_epoch)
        self.effects.dispatches.append(Dispatch(slip, task.key, task.frame, task.datum))

    def _slip(self, task: Task, plan: Plan, step: Step, timeout_ms: int, now_ms: int) -> Slip:
        """Equal slips of one turn are one object: a batch has few distinct ones, and the shell encodes each once."""
        # Hashing a plan would cost more than making a slip. Its address is its name: kept here, it outlives the turn.
        key = (id(plan), step, timeout_ms, task.cost_microusd, task.tokens)
        known = self._slips.get(key)
        if known is None:
            slip = Slip(
                agent_id=step.agent_id,
                attempt=step.attempt,
                seat=step.seat,
                stage=step.stage,
                intent=plan.route.intent,
                confidence=plan.confidence,
                band=plan.band,
                panel=plan.panel,
                chain=step.chain,
                reason=step.reason,
                route_version=self._policy.version,
                value_tier=plan.tier,
                attempts=step.attempt,
                cost_microusd=task.cost_microusd,
                tokens=task.tokens,
                probe_epoch=step.probe_epoch,
                timeout_ms=timeout_ms,
                deadline_default_ms=plan.deadline_default_ms,
                routed_at=now_ms * 1000,
            )
            known = self._slips[key] = (plan, slip)
        return known[1]
