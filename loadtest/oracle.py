"""The independent judge of every decision about tasks: one record at a time, plain dictionaries, no shortcut.

It is written from the rules of the task cell alone (R1 to R12 and P, for panels) and shares no code with
`streams.core`, so that a mistake has to be made twice, by two people, to pass unseen.

Where the rules leave a choice, this is what the oracle does:

*Identity.* A finished task is remembered while `now - finished <= duplicate_horizon_ms`, and of those the newest
`finished_tasks_max`. Refused and expired tasks are finished tasks. An empty task id is an identity like any other: its
first submission is REJECTED, a second one is a DUPLICATE.

*Probes.* A probe's reason is PROBE wherever an available agent is chosen, be it first, seat, cascade or tie-break;
PANEL_TOO_SMALL alone goes before it (the epoch is on the slip all the same) and before BREAKER_FLOOR. Asking an agent
whatever its breaker says (fallback band, floor, re-grounding) is no probe and uses none up. A probe is used up by its
dispatch, not by being looked at. A breaker state of unknown name counts as closed.

*Slips.* Each later slip carries the panel of the first, and the first one's chain without everyone dispatched so far.

*Deadline.* Nothing is dispatched at or after the deadline: whoever could be asked counts as not there. An outcome that
comes after it, but before the tick that notices, is applied.

*Panels.* A failed seat is given to its replacement first, and the panel decided after that, even where the votes would
have sufficed without it. Weights are added in seat order. After a re-run that still disagrees, a tie-break that no one
could be asked for before is made if someone can be now; after a re-run that failed, the task escalates at once.

*Outcomes.* STARTED, NOTE and kinds of unknown name do nothing, for any task. A late outcome is noted once per event id
while its task is in flight or remembered, and each time when the task is not known at all. What a time-out or an
expiry decided is not an outcome: the event that comes after it is late. An expiry says nothing to the breaker. What a
late outcome cost is in the sums, once per event id, as long as its task is in flight: it is spent, and the sums are the
same in whatever order outcomes are read. (R12's letter, which speaks of applied outcomes, would leave it out.)

*Results.* `intent` is None where the submission was refused by R2, else the task's. `agents` names whose answer it is:
nobody where there is none. `votes` and `dissent` are filled where a panel was decided by its votes (accepted,
NO_CONSENSUS, NO_QUORUM), and empty in EXPIRED.

*Notes.* Reasons that no rule names: DUPLICATE has DUPLICATE, EXPIRED has DEADLINE, CONFLICT has NO_CONSENSUS,
REGROUNDED has REGROUND, ESCALATED has the result's reason. `agent_id` is the failed agent (CASCADED, WRITE_UNCERTAIN,
WRONG_INPUT of a single agent), the late one, or the one asked again (REGROUNDED); else None.

I/O: none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from loadtest.oracle_actions import Action, Dispatch, Health, Note, Result, Vote
from loadtest.oracle_desk import Key, Task
from loadtest.oracle_panels import Panels
from loadtest.oracle_sums import intent_of, judge

__all__ = ["Action", "Dispatch", "Health", "Note", "Oracle", "Result", "Vote"]

DAY_MS = 86_400_000
OUTCOMES = ("COMPLETED", "FAILED", "REFUSED")


class Oracle(Panels):
    """What one partition must do. Every call returns the actions that it asks for, in order.

    Records are dictionaries in the shape of their Avro schemas (AgentEvent with `slip` and `task` inside); fields that
    are left out have the schema's defaults. `health` gathers what outcomes say to the breakers.
    """

    # ------------------------------------------------------------------ what happens to it

    def set_breaker(self, agent_id: str, state: Mapping[str, Any] | None) -> None:
        """The view of `agent_id`'s breaker: a BreakerState record, or None when there is none."""
        if state is None:
            self._breakers.pop(agent_id, None)
        else:
            self._breakers[agent_id] = state

    def set_paused(self, agents: frozenset[str]) -> None:
        """Whom people have paused or retired."""
        self._paused = agents

    def submit(self, record: Mapping[str, Any], now_ms: int) -> list[Action]:
        """A TaskSubmitted arrives."""
        self._submit(record, now_ms)
        return self._taken()

    def outcome(self, event: Mapping[str, Any], now_ms: int) -> list[Action]:
        """An AgentEvent arrives."""
        if event["kind"] in OUTCOMES:
            self._outcome(event, now_ms)
        return self._taken()

    def tick(self, now_ms: int, unread: Callable[[str, int], bool] = lambda _agent, _routed_ms: False) -> list[Action]:
        """R11: time passes. `unread`: whether a dispatch to this agent that was routed then may lie unread."""
        for task in list(self._tasks.values()):
            if now_ms >= task.deadline_ms:
                self._expire(task, now_ms)
                continue
            for dispatch in list(task.open.values()):
                grace_ms = self.topology.limits.timeout_grace_ms
                routed_ms, waits_ms = dispatch.routed_at_ms, 0
                is_unread = unread(dispatch.agent_id, routed_ms)
                if is_unread:
                    waits_ms = min(self.topology.limits.dispatch_wait_ms, (task.deadline_ms - routed_ms) // 2)
                overdue = now_ms >= routed_ms + dispatch.timeout_ms + grace_ms + waits_ms
                if overdue and task.key in self._tasks:  # an earlier time-out may have ended the task
                    del task.open[dispatch.attempt]
                    if not is_unread:
                        self._say_health(dispatch, "TIMED_OUT")
                    self._failed(task, dispatch, "TIMED_OUT", now_ms)
        return self._taken()

    @property
    def in_flight(self) -> tuple[Key, ...]:
        """(tenant, task id) of what is unfinished, oldest first."""
        return tuple(self._tasks)

    # ------------------------------------------------------------------ R1 to R6: a submission

    def _submit(self, record: Mapping[str, Any], now_ms: int) -> None:
        key = (record.get("tenant", "default"), record["task_id"])
        if key in self._tasks or self._remembered(key, now_ms):
            self._actions.append(Note("DUPLICATE", "DUPLICATE", *key))
            return
        refusal = self._refusal(record, now_ms)
        if refusal is not None:
            self._actions.append(Note("REFUSED", refusal, *key))
            self._end_at_once(record, "REJECTED", refusal, now_ms)
            return

        intent, confidence = self._intent(record)
        route = self.topology.routes[intent]
        stated_ms = record.get("deadline_ms")
        if stated_ms is not None and stated_ms <= now_ms:
            self._actions.append(Note("EXPIRED", "DEADLINE", *key))
            self._end_at_once(record, "EXPIRED", "DEADLINE", now_ms, intent=intent)
            return
        given_ms = self._default(record, "deadline_ms") if route.deadline_ms is None else route.deadline_ms
        deadline_ms = now_ms + given_ms if stated_ms is None else stated_ms

        tier = record.get("value_tier", "UNKNOWN")
        if tier not in ("LOW", "MEDIUM", "HIGH"):
            tier = self._default(record, "value_tier")
        if tier == "LOW" and route.low_value_answer is not None:
            answer = route.low_value_answer.replace("{intent}", intent)
            self._end_at_once(record, "COMPLETED", "RULE", now_ms, intent=intent, answer=answer)
            return

        task = Task(record, key, intent, route, confidence, tier, deadline_ms)
        self._tasks[key] = task
        self._route(task, now_ms)

    def _default(self, record: Mapping[str, Any], name: str) -> Any:
        """Of the task's tenant, else of everyone."""
        own = self.topology.tenants.get(record.get("tenant", "default"))
        value = None if own is None else getattr(own, name)
        return getattr(self.topology.defaults, name) if value is None else value

    def _refusal(self, record: Mapping[str, Any], now_ms: int) -> str | None:
        """R2: the first check that fails."""
        limits = self.topology.limits
        confidence, budget = record.get("confidence"), record.get("budget_microusd")
        deadline_ms, intent = record.get("deadline_ms"), record.get("intent")
        farthest_ms = now_ms + limits.deadline_max_ms
        latest_us = (now_ms + DAY_MS) * 1000
        checks = {
            "INVALID_TASK_ID": record["task_id"] != "",
            "INVALID_CONFIDENCE": confidence is None or 0.0 <= confidence <= 1.0,  # NaN fails both
            "INVALID_BUDGET": budget is None or budget >= 0,
            "INVALID_DEADLINE": deadline_ms is None or 0 < deadline_ms <= farthest_ms,
            "INVALID_DEPTH": 0 <= record.get("depth", 0) <= limits.depth_max,
            "INVALID_SUBMITTED_AT": 0 <= record.get("submitted_at", 0) <= latest_us,
            "UNKNOWN_INTENT": intent is None or intent in self.topology.routes,
        }
        return next((reason for reason, holds in checks.items() if not holds), None)

    def _intent(self, record: Mapping[str, Any]) -> tuple[str, float]:
        """R4."""
        stated_intent, stated_confidence = record.get("intent"), record.get("confidence")
        if stated_intent is not None:
            return stated_intent, 1.0 if stated_confidence is None else stated_confidence
        intent, confidence = intent_of(self.topology, record["text"])
        return intent, confidence if stated_confidence is None else stated_confidence

    def _route(self, task: Task, now_ms: int) -> None:
        """R6."""
        bands, consensus = self.topology.bands, self.topology.consensus
        if task.tier == "HIGH":
            size = consensus.high_value_panel_size
        elif task.confidence > bands.single_above:
            self._route_to_one(task, now_ms)
            return
        elif task.confidence > bands.panel_above:
            size = consensus.panel_size
        else:
            self._route_to_fallback(task, now_ms)
            return
        if not self._seat_panel(task, size, now_ms):
            self._route_to_one(task, now_ms, reason="PANEL_TOO_SMALL")

    def _route_to_one(self, task: Task, now_ms: int, reason: str | None = None) -> None:
        first = task.route.agents[0]
        available = [agent for agent in task.route.agents if self._available(agent)]
        working = [agent for agent in self._plan_without(task, ()) if agent not in self._paused]
        if not working:
            self._nobody(task, now_ms)
            return
        chosen = available[0] if available else working[0]
        passed_over = "AGENT_PAUSED" if first in self._paused else "BREAKER_OPEN"
        task.band = "SINGLE"
        task.chain = self._plan_without(task, (chosen,))
        if not available:
            forced = "BREAKER_FLOOR" if chosen in task.route.agents else passed_over
            self._dispatch(task, chosen, 0, reason or forced, now_ms, whatever_its_breaker=True)
        elif reason is not None:
            self._dispatch(task, chosen, 0, reason, now_ms, tell_probe=False)
        else:
            self._dispatch(task, chosen, 0, "ROUTED" if chosen == first else passed_over, now_ms)

    def _route_to_fallback(self, task: Task, now_ms: int) -> None:
        self._note(task, "ESCALATED", "LOW_CONFIDENCE")
        fallback = task.route.fallback
        if fallback.agent is None:
            self._finish(task, "DEGRADED", "LOW_CONFIDENCE", now_ms, answer=fallback.answer)
            return
        if fallback.agent in self._paused:
            self._nobody(task, now_ms)
            return
        task.band = "FALLBACK"
        self._dispatch(task, fallback.agent, 0, "LOW_CONFIDENCE", now_ms, whatever_its_breaker=True)

    def _nobody(self, task: Task, now_ms: int) -> None:
        """People have paused everyone who could be asked."""
        answer = task.route.fallback.answer
        self._finish(task, "FAILED" if answer is None else "DEGRADED", "AGENTS_PAUSED", now_ms, answer=answer)

    # ------------------------------------------------------------------ R7 to R9: an outcome

    def _outcome(self, event: Mapping[str, Any], now_ms: int) -> None:
        """R8: apply it if it answers an open dispatch."""
        slip, identity = event["slip"], event["task"]
        key = (identity["tenant"], identity["task_id"])
        task = self._tasks.get(key)
        if task is not None:
            dispatch = task.open.get(slip["attempt"])
            if dispatch and (dispatch.agent_id, dispatch.stage) == (slip["agent_id"], slip["stage"]):
                del task.open[dispatch.attempt]
                task.seen.add(event["event_id"])
                self._apply(task, dispatch, event, now_ms)
                return
        seen = None
        if task is not None:
            if event["event_id"] not in task.seen:
                _charge(task, event)
            seen = task.seen
        elif self._remembered(key, now_ms):
            seen = self._finished[key].seen
        if seen is not None:
            if event["event_id"] in seen:
                return
            seen.add(event["event_id"])
        self._actions.append(Note("LATE_VOTE", event["kind"], *key, slip["agent_id"]))

    def _apply(self, task: Task, dispatch: Dispatch, event: Mapping[str, Any], now_ms: int) -> None:
        """R7, and R12's sums."""
        _charge(task, event)
        agent = self.topology.agents[dispatch.agent_id]
        judgement = judge(event, agent, dispatch.stage, self.topology.answers.confidence_min)
        self._say_health(dispatch, judgement.fail)
        if judgement.fail is not None:
            self._failed(task, dispatch, judgement.fail, now_ms)
        elif task.panel:
            self._voted(task, dispatch, event, judgement.confidence, now_ms)
        else:
            self._answered(task, dispatch, event, judgement.confidence, now_ms)

    def _failed(self, task: Task, dispatch: Dispatch, fail: str, now_ms: int) -> None:
        """R9, else R10 or P."""
        if self._writes(dispatch.agent_id) and fail in ("TIMED_OUT", "UNKNOWN_OUTCOME"):
            self._escalate_write(task, dispatch.agent_id, now_ms)
        elif task.panel:
            self._seat_failed(task, dispatch, fail, now_ms)
        else:
            self._single_failed(task, dispatch, fail, now_ms)

    def _escalate_write(self, task: Task, agent_id: str, now_ms: int) -> None:
        self._note(task, "ESCALATED", "WRITE_UNCERTAIN", agent_id)
        self._finish(task, "ESCALATED", "WRITE_UNCERTAIN", now_ms)

    def _expire(self, task: Task, now_ms: int) -> None:
        """R11, at the deadline."""
        writing = [dispatch.agent_id for dispatch in task.open.values() if self._writes(dispatch.agent_id)]
        if writing:
            self._escalate_write(task, writing[0], now_ms)
        else:
            self._note(task, "EXPIRED", "DEADLINE")
            self._finish(task, "EXPIRED", "DEADLINE", now_ms)

    # ------------------------------------------------------------------ R10: one agent at a time

    def _answered(
        self, task: Task, dispatch: Dispatch, event: Mapping[str, Any], confidence: float, now_ms: int
    ) -> None:
        agent = dispatch.agent_id
        if task.band == "FALLBACK":
            status, reason = "DEGRADED", "LOW_CONFIDENCE"
        elif agent == task.route.fallback.agent and agent not in task.route.agents:
            status, reason = "DEGRADED", "FALLBACK_AGENT"
        elif dispatch.reason == "BREAKER_FLOOR":
            status, reason = "DEGRADED", "BREAKER_FLOOR"
        else:
            status, reason = "COMPLETED", "ANSWERED"
        answer, payload = event["answer"], event.get("payload")
        self._finish(
            task, status, reason, now_ms, answer=answer, payload=payload, confidence=confidence, agents=(agent,)
        )

    def _single_failed(self, task: Task, dispatch: Dispatch, fail: str, now_ms: int) -> None:
        if fail == "WRONG_INPUT":
            self._note(task, "REFUSED", "WRONG_INPUT", dispatch.agent_id)
            self._finish(task, "REJECTED", "WRONG_INPUT", now_ms)
            return
        following = [agent for agent in task.chain if self._may_be_asked(task, agent, now_ms)]
        if following:
            self._note(task, "CASCADED", fail, dispatch.agent_id)
            self._dispatch(task, following[0], 0, "CASCADE", now_ms)
        else:
            self._exhausted(task, now_ms)


def _charge(task: Task, event: Mapping[str, Any]) -> None:
    """R12's sums. What an outcome cost while its task was in flight is spent, even when it came too late to count."""
    task.cost_microusd += event.get("cost_microusd", 0)
    task.tokens += event.get("tokens_in", 0) + event.get("tokens_out", 0)
