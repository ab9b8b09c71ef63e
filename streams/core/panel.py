"""Several agents, one answer: seats, replacements, the tie-break, the grounded re-run and the end of patience.

Rule P of docs/rules.md. I/O: none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from schemas.reasons import DispatchReason, FailReason, ResultReason
from streams.core.consensus import Verdict, Vote, tally
from streams.core.task import REGROUND, WORK, Attempt, Plan, Task

if TYPE_CHECKING:
    from streams.core.machine import Machine


class PanelRules:
    """The panel half of the machine."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def advance(self, task: Task, now_ms: int) -> None:
        plan = task.plan
        assert plan is not None
        self._fill_seats(task, plan, now_ms)
        votes = votes_of(task)
        consensus = self._machine.policy.topology.consensus
        open_attempts = task.open_attempts()
        open_weight = sum(self._machine.policy.agent(each.slip.agent_id).weight for each in open_attempts)
        verdict = tally(votes, open_weight, consensus.quorum, consensus.accept_share)
        if verdict.accepted:
            self._accept(task, votes, verdict, now_ms)
        elif not open_attempts:
            self._settle(task, plan, votes, verdict, now_ms)

    def _fill_seats(self, task: Task, plan: Plan, now_ms: int) -> None:
        """Dispatches what seats lack: the first attempt (after a crash) or a replacement."""
        current = task.current()
        for seat in range(len(plan.first)):
            if seat not in current:
                self._machine.dispatch_first(task, plan, seat, now_ms)
        for seat, attempt in current.items():
            if attempt.failure is None or seat in task.closed_seats:
                continue
            successor = None if attempt.failure is FailReason.WRONG_INPUT else self._eligible(task, plan, now_ms)
            if successor is None:
                task.closed_seats.add(seat)
            else:
                self._machine.cascade(task, attempt, successor, now_ms)

    def _eligible(self, task: Task, plan: Plan, now_ms: int) -> str | None:
        """The next agent who may vote: in the chain and among the route's voters, not asked yet, available, in time."""
        if now_ms >= task.deadline_ms:
            return None
        gone = task.dispatched()
        for agent in plan.chain:
            if agent in plan.route.voters and agent not in gone and self._machine.availability.is_available(agent):
                return agent
        return None

    def _accept(self, task: Task, votes: list[Vote], verdict: Verdict, now_ms: int) -> None:
        reason = ResultReason.CONSENSUS if task.reground() is None else ResultReason.REGROUNDED
        self._machine.decisions.finish(
            task,
            "COMPLETED",
            reason,
            now_ms,
            answer=verdict.best,
            confidence=verdict.confidence,
            agents=verdict.agents,
            votes=tuple(votes),
            dissent=verdict.dissent,
        )

    def _settle(self, task: Task, plan: Plan, votes: list[Vote], verdict: Verdict, now_ms: int) -> None:
        """Nobody is left to wait for and nothing is accepted."""
        if len(votes) >= 2:  # noqa: PLR2004 - two voices are what a disagreement takes
            self._disagree(task, plan, votes, verdict, now_ms)
        elif len(votes) == 1:
            self._lone_vote(task, plan, votes[0], now_ms)
        elif any(each.failure is FailReason.WRONG_INPUT for each in task.current().values()):
            self._machine.reject(task, ResultReason.WRONG_INPUT, now_ms)
        else:
            self._machine.fall_back(task, plan.route, now_ms)

    def _disagree(self, task: Task, plan: Plan, votes: list[Vote], verdict: Verdict, now_ms: int) -> None:
        machine = self._machine
        if not task.conflict_noted:
            task.conflict_noted = True
            machine.decisions.note(task, "CONFLICT", ResultReason.NO_CONSENSUS, now_ms)
        rerun = task.reground()
        rerun_failed = rerun is not None and rerun.failure is not None
        third = None if rerun_failed or _tie_broken(task) else self._eligible(task, plan, now_ms)
        if third is not None:
            seat = max(each.slip.seat for each in task.attempts.values()) + 1
            machine.dispatch(task, third, seat, WORK, DispatchReason.TIEBREAK, now_ms)
        elif rerun is None and now_ms < task.deadline_ms:
            best = max(votes, key=lambda vote: (vote.weight, -vote.seat))
            machine.decisions.note(task, "REGROUNDED", DispatchReason.REGROUND, now_ms, agent_id=best.agent_id)
            machine.dispatch(task, best.agent_id, best.seat, REGROUND, DispatchReason.REGROUND, now_ms)
        else:
            machine.decisions.note(task, "ESCALATED", ResultReason.NO_CONSENSUS, now_ms)
            machine.decisions.finish(
                task, "ESCALATED", ResultReason.NO_CONSENSUS, now_ms, votes=tuple(votes), dissent=verdict.dissent
            )

    def _lone_vote(self, task: Task, plan: Plan, vote: Vote, now_ms: int) -> None:
        if plan.tier == "HIGH":
            self._machine.decisions.note(task, "ESCALATED", ResultReason.NO_QUORUM, now_ms)
            self._machine.decisions.finish(task, "ESCALATED", ResultReason.NO_QUORUM, now_ms, votes=(vote,))
        else:
            self._machine.decisions.finish(
                task, "DEGRADED", ResultReason.NO_QUORUM, now_ms, answer=vote, agents=(vote.agent_id,), votes=(vote,)
            )


def votes_of(task: Task) -> list[Vote]:
    """One vote per agent in seat order; an agent's grounded re-run replaces what it said before."""
    by_agent: dict[str, Vote] = {}
    for attempt in _counting(task):
        if attempt.vote is not None:
            by_agent[attempt.vote.agent_id] = attempt.vote
    return sorted(by_agent.values(), key=lambda vote: vote.seat)


def _counting(task: Task) -> list[Attempt]:
    reground = task.reground()
    current = list(task.current().values())
    return current if reground is None else [*current, reground]


def _tie_broken(task: Task) -> bool:
    """Whether a third voice was asked for: a seat beyond those of the plan exists (a probe hides the reason's name)."""
    assert task.plan is not None
    return any(seat >= len(task.plan.first) for seat in task.current())
