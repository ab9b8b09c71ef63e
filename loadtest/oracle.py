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
late outcome cost is not in the result's sums: R12 adds up applied outcomes.

*Results.* `intent` is None where the submission was refused by R2, else the task's. `agents` names whose answer it is:
nobody where there is none. `votes` and `dissent` are filled where a panel was decided by its votes (accepted,
NO_CONSENSUS, NO_QUORUM), and empty in EXPIRED.

*Notes.* Reasons that no rule names: DUPLICATE has DUPLICATE, EXPIRED has DEADLINE, CONFLICT has NO_CONSENSUS,
REGROUNDED has REGROUND, ESCALATED has the result's reason. `agent_id` is the failed agent (CASCADED, WRITE_UNCERTAIN,
WRONG_INPUT of a single agent), the late one, or the one asked again (REGROUNDED); else None.

I/O: none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from loadtest.oracle_actions import Action, Dispatch, Health, Note, Result, Vote
from loadtest.oracle_sums import intent_of, judge, log_odds, tally, verdict_on_health, vote_key

if TYPE_CHECKING:
    from schemas.topology import Route, Topology

__all__ = ["Action", "Dispatch", "Health", "Note", "Oracle", "Result", "Vote"]

DAY_MS = 86_400_000
OUTCOMES = ("COMPLETED", "FAILED", "REFUSED")

Key = tuple[str, str]


@dataclass
class _Task:
    """A task in flight."""

    record: Mapping[str, Any]
    key: Key
    intent: str
    route: Route
    confidence: float
    tier: str
    deadline_ms: int
    band: str = ""
    panel: tuple[str, ...] = ()
    chain: tuple[str, ...] = ()  # of the first slip
    dispatched: list[str] = field(default_factory=list)  # agents, one entry an attempt
    open: dict[int, Dispatch] = field(default_factory=dict)  # by attempt
    votes: dict[int, Vote] = field(default_factory=dict)  # by seat
    seats: int = 0
    seen: set[str] = field(default_factory=set)  # ids of events applied, or noted as late
    cost_microusd: int = 0
    tokens: int = 0
    wrong_input: bool = False
    in_conflict: bool = False
    tie_broken: bool = False
    regrounded: bool = False


@dataclass
class _Finished:
    at_ms: int
    seen: set[str]


class Oracle:
    """What one partition must do. Every call returns the actions that it asks for, in order.

    Records are dictionaries in the shape of their Avro schemas (AgentEvent with `slip` and `task` inside); fields that
    are left out have the schema's defaults. `health` gathers what outcomes say to the breakers.
    """

    def __init__(self, topology: Topology, partition: int = 0) -> None:
        self.topology = topology
        self.partition = partition
        self.health: list[Health] = []
        self._tasks: dict[Key, _Task] = {}
        self._finished: dict[Key, _Finished] = {}  # oldest first
        self._breakers: dict[str, Mapping[str, Any]] = {}
        self._probes_used: set[tuple[str, int]] = set()
        self._actions: list[Action] = []

    # ------------------------------------------------------------------ what happens to it

    def set_breaker(self, agent_id: str, state: Mapping[str, Any] | None) -> None:
        """The view of `agent_id`'s breaker: a BreakerState record, or None when there is none."""
        if state is None:
            self._breakers.pop(agent_id, None)
        else:
            self._breakers[agent_id] = state

    def submit(self, record: Mapping[str, Any], now_ms: int) -> list[Action]:
        """A TaskSubmitted arrives."""
        self._submit(record, now_ms)
        return self._taken()

    def outcome(self, event: Mapping[str, Any], now_ms: int) -> list[Action]:
        """An AgentEvent arrives."""
        if event["kind"] in OUTCOMES:
            self._outcome(event, now_ms)
        return self._taken()

    def tick(self, now_ms: int) -> list[Action]:
        """R11: time passes."""
        for task in list(self._tasks.values()):
            if now_ms >= task.deadline_ms:
                self._expire(task, now_ms)
                continue
            for dispatch in list(task.open.values()):
                grace_ms = self.topology.limits.timeout_grace_ms
                overdue = now_ms >= dispatch.routed_at_ms + dispatch.timeout_ms + grace_ms
                if overdue and task.key in self._tasks:  # an earlier time-out may have ended the task
                    del task.open[dispatch.attempt]
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
        given_ms = self.topology.defaults.deadline_ms if route.deadline_ms is None else route.deadline_ms
        deadline_ms = now_ms + given_ms if stated_ms is None else stated_ms

        tier = record.get("value_tier", "UNKNOWN")
        if tier not in ("LOW", "MEDIUM", "HIGH"):
            tier = self.topology.defaults.value_tier
        if tier == "LOW" and route.low_value_answer is not None:
            answer = route.low_value_answer.replace("{intent}", intent)
            self._end_at_once(record, "COMPLETED", "RULE", now_ms, intent=intent, answer=answer)
            return

        task = _Task(record, key, intent, route, confidence, tier, deadline_ms)
        self._tasks[key] = task
        self._route(task, now_ms)

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

    def _route(self, task: _Task, now_ms: int) -> None:
        """R6."""
        bands, consensus = self.topology.bands, self.topology.consensus
        if task.tier == "HIGH":
            self._route_to_panel(task, consensus.high_value_panel_size, now_ms)
        elif task.confidence > bands.single_above:
            self._route_to_one(task, now_ms)
        elif task.confidence > bands.panel_above:
            self._route_to_panel(task, consensus.panel_size, now_ms)
        else:
            self._route_to_fallback(task, now_ms)

    def _plan_without(self, task: _Task, agents: tuple[str, ...]) -> tuple[str, ...]:
        plan = list(task.route.agents)
        fallback = task.route.fallback.agent
        if fallback is not None and fallback not in plan:
            plan.append(fallback)
        return tuple(agent for agent in plan if agent not in agents)

    def _route_to_one(self, task: _Task, now_ms: int, reason: str | None = None) -> None:
        first = task.route.agents[0]
        available = [agent for agent in task.route.agents if self._available(agent)]
        chosen = available[0] if available else first
        task.band = "SINGLE"
        task.chain = self._plan_without(task, (chosen,))
        if not available:
            self._dispatch(task, chosen, 0, reason or "BREAKER_FLOOR", now_ms, whatever_its_breaker=True)
        elif reason is not None:
            self._dispatch(task, chosen, 0, reason, now_ms, tell_probe=False)
        else:
            self._dispatch(task, chosen, 0, "ROUTED" if chosen == first else "BREAKER_OPEN", now_ms)

    def _route_to_panel(self, task: _Task, size: int, now_ms: int) -> None:
        quorum = self.topology.consensus.quorum
        voters = [agent for agent in task.route.agents if not self._writes(agent)]
        if task.route.panel is not None:
            voters = list(task.route.panel)
        seated = [agent for agent in voters if self._available(agent)][:size]
        forced = [agent for agent in voters if not self._available(agent)][: max(0, quorum - len(seated))]
        if len(seated) + len(forced) < quorum:
            self._route_to_one(task, now_ms, reason="PANEL_TOO_SMALL")
            return
        task.band = "PANEL"
        task.panel = (*seated, *forced)
        task.chain = self._plan_without(task, task.panel)
        task.seats = len(task.panel)
        for seat, agent in enumerate(task.panel):
            if agent in forced:
                self._dispatch(task, agent, seat, "BREAKER_FLOOR", now_ms, whatever_its_breaker=True)
            else:
                self._dispatch(task, agent, seat, "PANEL", now_ms)

    def _route_to_fallback(self, task: _Task, now_ms: int) -> None:
        self._note(task, "ESCALATED", "LOW_CONFIDENCE")
        fallback = task.route.fallback
        if fallback.agent is None:
            self._finish(task, "DEGRADED", "LOW_CONFIDENCE", now_ms, answer=fallback.answer)
            return
        task.band = "FALLBACK"
        self._dispatch(task, fallback.agent, 0, "LOW_CONFIDENCE", now_ms, whatever_its_breaker=True)

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
            seen = task.seen
        elif self._remembered(key, now_ms):
            seen = self._finished[key].seen
        if seen is not None:
            if event["event_id"] in seen:
                return
            seen.add(event["event_id"])
        self._actions.append(Note("LATE_VOTE", event["kind"], *key, slip["agent_id"]))

    def _apply(self, task: _Task, dispatch: Dispatch, event: Mapping[str, Any], now_ms: int) -> None:
        """R7, and R12's sums."""
        task.cost_microusd += event.get("cost_microusd", 0)
        task.tokens += event.get("tokens_in", 0) + event.get("tokens_out", 0)
        agent = self.topology.agents[dispatch.agent_id]
        judgement = judge(event, agent, dispatch.stage, self.topology.answers.confidence_min)
        self._say_health(dispatch, judgement.fail)
        if judgement.fail is not None:
            self._failed(task, dispatch, judgement.fail, now_ms)
        elif task.panel:
            task.votes[dispatch.seat] = Vote(
                dispatch.seat,
                dispatch.agent_id,
                vote_key(event),
                judgement.confidence,
                log_odds(agent.accuracy),
                event["answer"],
                event.get("payload"),
            )
            self._decide(task, now_ms)
        else:
            self._answered(task, dispatch, event, judgement.confidence, now_ms)

    def _failed(self, task: _Task, dispatch: Dispatch, fail: str, now_ms: int) -> None:
        """R9, else R10 or P."""
        if self._writes(dispatch.agent_id) and fail in ("TIMED_OUT", "UNKNOWN_OUTCOME"):
            self._escalate_write(task, dispatch.agent_id, now_ms)
        elif task.panel:
            self._seat_failed(task, dispatch, fail, now_ms)
        else:
            self._single_failed(task, dispatch, fail, now_ms)

    def _escalate_write(self, task: _Task, agent_id: str, now_ms: int) -> None:
        self._note(task, "ESCALATED", "WRITE_UNCERTAIN", agent_id)
        self._finish(task, "ESCALATED", "WRITE_UNCERTAIN", now_ms)

    def _expire(self, task: _Task, now_ms: int) -> None:
        """R11, at the deadline."""
        writing = [dispatch.agent_id for dispatch in task.open.values() if self._writes(dispatch.agent_id)]
        if writing:
            self._escalate_write(task, writing[0], now_ms)
        else:
            self._note(task, "EXPIRED", "DEADLINE")
            self._finish(task, "EXPIRED", "DEADLINE", now_ms)

    # ------------------------------------------------------------------ R10: one agent at a time

    def _answered(
        self, task: _Task, dispatch: Dispatch, event: Mapping[str, Any], confidence: float, now_ms: int
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

    def _single_failed(self, task: _Task, dispatch: Dispatch, fail: str, now_ms: int) -> None:
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

    def _exhausted(self, task: _Task, now_ms: int) -> None:
        answer = task.route.fallback.answer
        if answer is not None:
            self._finish(task, "DEGRADED", "FALLBACK_ANSWER", now_ms, answer=answer)
        else:
            self._finish(task, "FAILED", "CHAIN_EXHAUSTED", now_ms)

    # ------------------------------------------------------------------ P: panels

    def _seat_failed(self, task: _Task, dispatch: Dispatch, fail: str, now_ms: int) -> None:
        if dispatch.stage == "REGROUND":
            self._no_consensus(task, now_ms)
            return
        if fail == "WRONG_INPUT":
            task.wrong_input = True
        else:
            substitute = self._substitute(task, now_ms)
            if substitute is not None:
                self._note(task, "CASCADED", fail, dispatch.agent_id)
                self._dispatch(task, substitute, dispatch.seat, "CASCADE", now_ms)
        self._decide(task, now_ms)

    def _substitute(self, task: _Task, now_ms: int) -> str | None:
        """Who may take a seat that became free, or a new one."""
        for agent in task.chain:
            invited = task.route.panel is None or agent in task.route.panel
            of_the_route = agent in task.route.agents
            if invited and of_the_route and not self._writes(agent) and self._may_be_asked(task, agent, now_ms):
                return agent
        return None

    def _decide(self, task: _Task, now_ms: int) -> None:
        votes = self._votes(task)
        open_weights = [log_odds(self.topology.agents[dispatch.agent_id].accuracy) for dispatch in task.open.values()]
        consensus = self.topology.consensus
        count = tally(votes, open_weights, consensus.quorum, consensus.accept_share)
        if count.accepted:
            best = max(count.leading, key=lambda vote: vote.confidence)  # the lowest seat of equals
            self._finish(
                task,
                "COMPLETED",
                "REGROUNDED" if task.regrounded else "CONSENSUS",
                now_ms,
                answer=best.answer,
                payload=best.payload,
                confidence=sum(vote.confidence for vote in count.leading) / len(count.leading),
                agents=tuple(vote.agent_id for vote in count.leading),
                votes=votes,
                dissent=tuple(vote.agent_id for vote in votes if vote not in count.leading),
            )
        elif task.open:
            return
        elif len(votes) > 1:
            self._settle_conflict(task, now_ms)
        elif len(votes) == 1:
            self._no_quorum(task, votes[0], now_ms)
        elif task.wrong_input:
            self._note(task, "REFUSED", "WRONG_INPUT")
            self._finish(task, "REJECTED", "WRONG_INPUT", now_ms)
        else:
            self._exhausted(task, now_ms)

    def _settle_conflict(self, task: _Task, now_ms: int) -> None:
        """Two or more votes, no consensus, nobody left to wait for: a third voice, a re-run, a human."""
        if not task.in_conflict:
            task.in_conflict = True
            self._note(task, "CONFLICT", "NO_CONSENSUS")
        substitute = None if task.tie_broken else self._substitute(task, now_ms)
        if substitute is not None:
            task.tie_broken = True
            task.seats += 1
            self._dispatch(task, substitute, task.seats - 1, "TIEBREAK", now_ms)
        elif not task.regrounded and now_ms < task.deadline_ms:
            task.regrounded = True
            heaviest = max(self._votes(task), key=lambda vote: vote.weight)  # the lowest seat of equals
            self._note(task, "REGROUNDED", "REGROUND", heaviest.agent_id)
            self._dispatch(
                task, heaviest.agent_id, heaviest.seat, "REGROUND", now_ms, stage="REGROUND", whatever_its_breaker=True
            )
        else:
            self._no_consensus(task, now_ms)

    def _no_consensus(self, task: _Task, now_ms: int) -> None:
        votes, consensus = self._votes(task), self.topology.consensus
        leading = tally(votes, (), consensus.quorum, consensus.accept_share).leading
        dissent = tuple(vote.agent_id for vote in votes if vote not in leading)
        self._note(task, "ESCALATED", "NO_CONSENSUS")
        self._finish(task, "ESCALATED", "NO_CONSENSUS", now_ms, votes=votes, dissent=dissent)

    def _no_quorum(self, task: _Task, vote: Vote, now_ms: int) -> None:
        if task.tier == "HIGH":
            self._note(task, "ESCALATED", "NO_QUORUM")
            self._finish(task, "ESCALATED", "NO_QUORUM", now_ms, votes=(vote,))
            return
        self._finish(
            task,
            "DEGRADED",
            "NO_QUORUM",
            now_ms,
            answer=vote.answer,
            payload=vote.payload,
            confidence=vote.confidence,
            agents=(vote.agent_id,),
            votes=(vote,),
        )

    @staticmethod
    def _votes(task: _Task) -> tuple[Vote, ...]:
        return tuple(task.votes[seat] for seat in sorted(task.votes))

    # ------------------------------------------------------------------ who can be asked

    def _writes(self, agent_id: str) -> bool:
        return self.topology.agents[agent_id].effect == "write"

    def _probe_epoch(self, agent_id: str) -> int | None:
        """Epoch of the probe that this partition may still send, if it may."""
        state = self._breakers.get(agent_id, {})
        if state.get("state") != "HALF_OPEN" or self._writes(agent_id):
            return None
        epoch: int = state["epoch"]
        ours = self.partition in state.get("probe_partitions", ())
        return epoch if ours and (agent_id, epoch) not in self._probes_used else None

    def _available(self, agent_id: str) -> bool:
        if self._breakers.get(agent_id, {}).get("state") not in ("OPEN", "HALF_OPEN"):
            return True
        return self._probe_epoch(agent_id) is not None

    def _may_be_asked(self, task: _Task, agent_id: str, now_ms: int) -> bool:
        """As the next one, after a failure or a conflict."""
        return agent_id not in task.dispatched and self._available(agent_id) and now_ms < task.deadline_ms

    # ------------------------------------------------------------------ what it says

    def _dispatch(
        self,
        task: _Task,
        agent_id: str,
        seat: int,
        reason: str,
        now_ms: int,
        *,
        stage: str = "WORK",
        whatever_its_breaker: bool = False,
        tell_probe: bool = True,
    ) -> None:
        epoch = None if whatever_its_breaker else self._probe_epoch(agent_id)
        if epoch is not None:
            self._probes_used.add((agent_id, epoch))
        task.dispatched.append(agent_id)
        attempt = len(task.dispatched)
        # The first slips of a panel leave together and name the same chain: nobody of the panel is in it anyway.
        task.open[attempt] = Dispatch(
            *task.key,
            agent_id,
            attempt,
            seat,
            stage,
            "PROBE" if epoch is not None and tell_probe else reason,
            task.band,
            task.panel,
            tuple(agent for agent in task.chain if agent not in task.dispatched),
            task.intent,
            task.confidence,
            task.tier,
            epoch or 0,
            min(self.topology.agents[agent_id].timeout_ms, task.deadline_ms - now_ms),
            now_ms,
            task.deadline_ms,
            task.cost_microusd,
            task.tokens,
        )
        self._actions.append(task.open[attempt])

    def _note(self, task: _Task, kind: str, reason: str, agent_id: str | None = None) -> None:
        self._actions.append(Note(kind, reason, *task.key, agent_id))

    def _say_health(self, dispatch: Dispatch, fail: str | None) -> None:
        self.health.append(Health(dispatch.agent_id, verdict_on_health(fail), dispatch.probe_epoch))

    def _finish(self, task: _Task, status: str, reason: str, now_ms: int, **what: Any) -> None:
        """Ends a task in flight; dispatches that are still open are abandoned."""
        del self._tasks[task.key]
        self._end(
            task.record,
            status,
            reason,
            now_ms,
            task.seen,
            intent=task.intent,
            attempts=len(task.dispatched),
            cost_microusd=task.cost_microusd,
            tokens=task.tokens,
            **what,
        )

    def _end_at_once(self, record: Mapping[str, Any], status: str, reason: str, now_ms: int, **what: Any) -> None:
        self._end(record, status, reason, now_ms, set(), **what)

    def _end(
        self, record: Mapping[str, Any], status: str, reason: str, now_ms: int, seen: set[str], **what: Any
    ) -> None:
        """R12: the result, and the memory of it."""
        key = (record.get("tenant", "default"), record["task_id"])
        self._finished.pop(key, None)  # of before the horizon; the new one goes to the end
        self._finished[key] = _Finished(now_ms, seen)
        self._actions.append(
            Result(
                *key,
                status,
                reason,
                conversation_id=record.get("conversation_id"),
                labels=dict(record.get("labels", {})),
                traceparent=record.get("traceparent"),
                submitted_at=record.get("submitted_at", 0),
                decided_at_ms=now_ms,
                route_version=self.topology.version,
                **what,
            )
        )

    def _remembered(self, key: Key, now_ms: int) -> bool:
        """R1: finished within the horizon, and among the last `finished_tasks_max`."""
        limits = self.topology.limits
        for other in list(self._finished)[: -limits.finished_tasks_max]:
            del self._finished[other]
        finished = self._finished.get(key)
        return finished is not None and now_ms - finished.at_ms <= limits.duplicate_horizon_ms

    def _taken(self) -> list[Action]:
        actions, self._actions = self._actions, []
        return actions
