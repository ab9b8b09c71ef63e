"""What the oracle knows (tasks, their memory, breakers, probes) and the three things it can say.

I/O: none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from loadtest.oracle_actions import Action, Dispatch, Health, Note, Result, Vote
from loadtest.oracle_sums import verdict_on_health
from schemas.topology import Route, Topology

Key = tuple[str, str]


@dataclass
class Task:
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
class Finished:
    at_ms: int
    seen: set[str]


class Desk:
    """The state of one partition, and what every rule needs of it."""

    def __init__(self, topology: Topology, partition: int = 0) -> None:
        self.topology = topology
        self.partition = partition
        self.health: list[Health] = []
        self._tasks: dict[Key, Task] = {}
        self._finished: dict[Key, Finished] = {}  # oldest first
        self._breakers: dict[str, Mapping[str, Any]] = {}
        self._paused: frozenset[str] = frozenset()
        self._probes_used: set[tuple[str, int]] = set()
        self._actions: list[Action] = []

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
        if agent_id in self._paused:
            return False
        if self._breakers.get(agent_id, {}).get("state") not in ("OPEN", "HALF_OPEN"):
            return True
        return self._probe_epoch(agent_id) is not None

    def _may_be_asked(self, task: Task, agent_id: str, now_ms: int) -> bool:
        """As the next one, after a failure or a conflict."""
        return agent_id not in task.dispatched and self._available(agent_id) and now_ms < task.deadline_ms

    def _plan_without(self, task: Task, agents: tuple[str, ...]) -> tuple[str, ...]:
        plan = list(task.route.agents)
        fallback = task.route.fallback.agent
        if fallback is not None and fallback not in plan:
            plan.append(fallback)
        return tuple(agent for agent in plan if agent not in agents)

    # ------------------------------------------------------------------ what it says

    def _dispatch(
        self,
        task: Task,
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

    def _exhausted(self, task: Task, now_ms: int) -> None:
        answer = task.route.fallback.answer
        if answer is not None:
            self._finish(task, "DEGRADED", "FALLBACK_ANSWER", now_ms, answer=answer)
        else:
            self._finish(task, "FAILED", "CHAIN_EXHAUSTED", now_ms)

    def _note(self, task: Task, kind: str, reason: str, agent_id: str | None = None) -> None:
        self._actions.append(Note(kind, reason, *task.key, agent_id))

    def _say_health(self, dispatch: Dispatch, fail: str | None) -> None:
        self.health.append(Health(dispatch.agent_id, verdict_on_health(fail), dispatch.probe_epoch))

    def _finish(self, task: Task, status: str, reason: str, now_ms: int, **what: Any) -> None:
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
        self._finished[key] = Finished(now_ms, seen)
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
