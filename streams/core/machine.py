"""One task's decisions: from its facts to the next dispatch, note or result.

`advance` is level-triggered: it looks at what is known of the task and emits what that calls for and has not been
emitted yet. The same call therefore serves a fresh outcome, a time-out and recovery. Rules R9 to R12 and P of
docs/rules.md. I/O: none.
"""

from __future__ import annotations

from schemas.reasons import DispatchReason, FailReason, ResultReason
from streams.core.availability import Availability
from streams.core.cohort import ending
from streams.core.consensus import Vote
from streams.core.decisions import Decisions, Step
from streams.core.health import Health
from streams.core.judge import AGAINST_THE_AGENT, LEAVES_DOUBT, judge, vote_of
from streams.core.panel import PanelRules
from streams.core.policy import Policy, RoutePolicy
from streams.core.routing import FALLBACK, AtOnce
from streams.core.task import WORK, Attempt, Outcome, Plan, Slip, Task


class Machine:
    """Decides for the tasks of one partition; `decisions` gathers what the current call decided."""

    def __init__(self, policy: Policy, availability: Availability, health: Health) -> None:
        self.policy, self.availability, self.health = policy, availability, health
        self.decisions = Decisions(policy, availability, health)
        self._panel = PanelRules(self)

    def begin(self, task: Task, plan: Plan, now_ms: int) -> None:
        """The first dispatches of a new task."""
        task.plan = plan
        if plan.band == FALLBACK:
            self.decisions.note(task, "ESCALATED", ResultReason.LOW_CONFIDENCE, now_ms)
        for seat in range(len(plan.first)):
            self.dispatch_first(task, plan, seat, now_ms)

    def dispatch_first(self, task: Task, plan: Plan, seat: int, now_ms: int) -> None:
        """What the plan says of one seat; recovery uses it for the seats that a crash cut off."""
        probe = plan.probes[seat] if plan.probes else 0
        reason = plan.reasons[seat] if plan.reasons else DispatchReason.PANEL.value
        step = Step(plan.first[seat], seat + 1, seat, WORK, reason, probe, plan.chain)
        self.decisions.dispatch(task, plan, step, now_ms)

    def dispatch(self, task: Task, agent_id: str, seat: int, stage: str, reason: DispatchReason, now_ms: int) -> None:
        """A further attempt: a cascade, a tie-break or the grounded re-run."""
        plan = _planned(task)
        probe = self.availability.probe_epoch(agent_id) if stage == WORK else 0
        why = DispatchReason.PROBE.value if probe else reason.value
        gone = task.dispatched() | {agent_id}
        chain = tuple(each for each in plan.chain if each not in gone)
        step = Step(agent_id, task.next_attempt(), seat, stage, why, probe, chain)
        self.decisions.dispatch(task, plan, step, now_ms)

    def apply(self, task: Task, attempt: Attempt, outcome: Outcome, now_ms: int) -> None:
        """Takes in the outcome of an open attempt, then decides."""
        self.record(attempt, outcome)
        self._count(attempt, outcome.duration_ms)
        self.advance(task, now_ms)

    def record(self, attempt: Attempt, outcome: Outcome) -> None:
        """Takes in an outcome without deciding or counting: all that recovery does with it."""
        attempt.event_id = outcome.event_id
        agent = self.policy.agent(outcome.agent_id)
        verdict = judge(agent, outcome, self.policy.topology.answers.confidence_min)
        if isinstance(verdict, FailReason):
            attempt.failure = verdict
            return
        attempt.vote = vote_of(agent, outcome, verdict, attempt.slip.seat)

    def time_out(self, task: Task, attempt: Attempt, now_ms: int, *, blame: bool) -> None:
        attempt.failure = FailReason.TIMED_OUT
        if blame:
            self._count(attempt, attempt.slip.timeout_ms)
        self.advance(task, now_ms)

    def expire(self, task: Task, now_ms: int) -> None:
        """The deadline has passed: a terminal event, not silence; a write that may still happen needs a person."""
        writing = next((each for each in task.open_attempts() if self.policy.agent(each.slip.agent_id).write), None)
        if writing is not None:
            self._escalate_write(task, writing, now_ms)
            return
        self.decisions.note(task, "EXPIRED", ResultReason.DEADLINE, now_ms)
        self.decisions.finish(task, "EXPIRED", ResultReason.DEADLINE, now_ms)

    def advance(self, task: Task, now_ms: int) -> None:
        """Emits what the facts call for. A task that is finished or still waits is left alone."""
        if task.finished:
            return
        if _planned(task).panel:
            self._panel.advance(task, now_ms)
        else:
            self._advance_single(task, now_ms)

    def _advance_single(self, task: Task, now_ms: int) -> None:
        plan = _planned(task)
        if not task.attempts:
            self.dispatch_first(task, plan, 0, now_ms)
            return
        latest = task.attempts[max(task.attempts)]
        if latest.vote is not None:
            self._answer_single(task, plan, latest.slip, latest.vote, now_ms)
        elif latest.failure is not None:
            self._fail_single(task, plan, latest, latest.failure, now_ms)

    def _answer_single(self, task: Task, plan: Plan, slip: Slip, vote: Vote, now_ms: int) -> None:
        status, reason = ending(plan.route, plan.band, vote.agent_id, slip.reason)
        self.decisions.finish(task, status, reason, now_ms, answer=vote, agents=(vote.agent_id,))

    def _fail_single(self, task: Task, plan: Plan, failed: Attempt, failure: FailReason, now_ms: int) -> None:
        if failure is FailReason.WRONG_INPUT:
            self.reject(task, ResultReason.WRONG_INPUT, now_ms, agent_id=failed.slip.agent_id)
        elif failure in LEAVES_DOUBT and self.policy.agent(failed.slip.agent_id).write:
            self._escalate_write(task, failed, now_ms)
        else:
            successor = self._successor(task, plan, now_ms)
            if successor is None:
                self.fall_back(task, plan.route, now_ms)
            else:
                self.cascade(task, failed, successor, now_ms)

    def _successor(self, task: Task, plan: Plan, now_ms: int) -> str | None:
        """Who is next in the chain; nobody once the deadline has passed."""
        if now_ms >= task.deadline_ms:
            return None
        gone = task.dispatched()
        return next((each for each in plan.chain if each not in gone and self.availability.is_available(each)), None)

    def cascade(self, task: Task, failed: Attempt, successor: str, now_ms: int) -> None:
        """Hands the failed attempt's seat to the next agent."""
        failure = failed.failure or FailReason.FAILED
        slip = failed.slip
        self.decisions.note(task, "CASCADED", failure, now_ms, agent_id=slip.agent_id, slip=slip)
        self.dispatch(task, successor, slip.seat, WORK, DispatchReason.CASCADE, now_ms)

    def end_at_once(self, task: Task, ending: AtOnce, now_ms: int) -> None:
        """A new task of which nobody is asked."""
        if ending.is_unsure:
            self.decisions.note(task, "ESCALATED", ResultReason.LOW_CONFIDENCE, now_ms)
        self.decisions.finish(task, ending.status, ending.reason, now_ms, text=ending.text)

    def fall_back(self, task: Task, route: RoutePolicy, now_ms: int) -> None:
        """The end of the chain: the route's own answer, else an honest failure."""
        if route.fallback_answer is None:
            self.decisions.finish(task, "FAILED", ResultReason.CHAIN_EXHAUSTED, now_ms)
        else:
            self.decisions.finish(task, "DEGRADED", ResultReason.FALLBACK_ANSWER, now_ms, text=route.fallback_answer)

    def reject(self, task: Task, reason: ResultReason, now_ms: int, *, agent_id: str | None = None) -> None:
        self.decisions.note(task, "REFUSED", reason, now_ms, agent_id=agent_id)
        self.decisions.finish(task, "REJECTED", reason, now_ms)

    def _escalate_write(self, task: Task, attempt: Attempt, now_ms: int) -> None:
        self.decisions.note(
            task, "ESCALATED", ResultReason.WRITE_UNCERTAIN, now_ms, agent_id=attempt.slip.agent_id, slip=attempt.slip
        )
        self.decisions.finish(task, "ESCALATED", ResultReason.WRITE_UNCERTAIN, now_ms)

    def _count(self, attempt: Attempt, duration_ms: int) -> None:
        slip = attempt.slip
        slow_ms = self.policy.topology.breaker.slow_ms
        slow = slow_ms is not None and duration_ms >= slow_ms
        if attempt.vote is not None:
            self.health.of(slip.agent_id).success(slow=slow, probe_epoch=slip.probe_epoch)
        elif attempt.failure in AGAINST_THE_AGENT:
            self.health.of(slip.agent_id).failure(slow=slow, probe_epoch=slip.probe_epoch)


def _planned(task: Task) -> Plan:
    assert task.plan is not None, "a task decides only once its plan is known"
    return task.plan
