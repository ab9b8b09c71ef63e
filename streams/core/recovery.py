"""A cell made anew from what the logs hold: fold the facts in any order, then emit what they call for and lack.

Decisions are events, so they are read back, never taken again. Source of the idea: level-triggered reconciliation, as
in Kubernetes controllers. I/O: none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas.reasons import FailReason
from streams.core.cell import Cell
from streams.core.columns import Dispatches, Events, identities, outcomes, slip_of, slips, task_keys
from streams.core.consensus import Vote
from streams.core.effects import Effects
from streams.core.judge import OUTCOMES
from streams.core.routing import PANEL
from streams.core.spill import Spilled
from streams.core.task import Attempt, Identity, Outcome, Plan, Slip, Task, TaskKey


class Fold:
    """Takes in facts silently, in whatever order the topics give them; each topic's own order is kept."""

    def __init__(self, cell: Cell) -> None:
        self._cell = cell
        self._tasks: dict[TaskKey, Task] = {}
        self._ended: dict[TaskKey, int] = {}
        self._first_ms: dict[TaskKey, int] = {}
        self._outcomes: dict[TaskKey, list[Outcome]] = {}
        self._seen_of_ended: dict[TaskKey, list[str]] = {}
        self._failures: dict[TaskKey, dict[int, FailReason]] = {}
        self._conflicts: set[TaskKey] = set()
        self._spilled: dict[TaskKey, dict[str, Any]] = {}
        self.doubtful: dict[TaskKey, int] = {}
        """Append time of the spilled tasks of which nothing is believed: the logs have to be read from there."""

    def dispatches(self, facts: Dispatches) -> None:
        """What was asked of whom."""
        tasks = facts.batch.column("task")
        stated, ids = tasks.field("deadline_ms").to_pylist(), task_keys(tasks)
        self._seen(ids, facts.appended_ms)
        for row, (task_id, identity, slip) in enumerate(zip(ids, identities(tasks), slips(facts.batch), strict=True)):
            task = self._task(task_id, identity)
            if not task.datum or facts.appended_ms[row] < task.appended_ms:
                task.appended_ms = facts.appended_ms[row]
            task.key, task.frame, task.datum = facts.keys[row], facts.frames[row], facts.datums[row]
            task.size = len(task.key) + len(task.datum)
            task.deadline_ms = slip.deadline_default_ms if stated[row] is None else stated[row]
            task.attempts.setdefault(slip.attempt, Attempt(slip))

    def events(self, facts: Events) -> None:
        """What came back."""
        ids = task_keys(facts.batch.column("task"))
        for task_id, outcome in zip(ids, outcomes(facts.batch), strict=True):
            if outcome.kind in OUTCOMES:
                self._outcomes.setdefault(task_id, []).append(outcome)

    def notes(self, batch: pa.RecordBatch) -> None:
        """Which attempts were given up, and which panels were found to disagree: OrchestratorEvent columns."""
        columns = (batch.column(name).to_pylist() for name in ("kind", "reason", "tenant", "task_id", "attempt"))
        for kind, reason, tenant, task_id, attempt in zip(*columns, strict=True):
            if kind == "CASCADED":
                self._failures.setdefault((tenant, task_id), {})[attempt] = _fail_reason(reason)
            elif kind == "CONFLICT":
                self._conflicts.add((tenant, task_id))

    def results(self, batch: pa.RecordBatch, appended_ms: Sequence[int]) -> None:
        """What is finished: TaskResult columns, and the append time of each row."""
        ids, decided_at = task_keys(batch), batch.column("decided_at").to_numpy()
        self._ended.update(zip(ids, (decided_at // 1000).tolist(), strict=True))
        self._seen(ids, appended_ms)

    def are_over(self, ids: Sequence[TaskKey]) -> npt.NDArray[np.bool_]:
        """Which of these tasks have ended, by the results so far. All that is to be known of their dispatches and
        events is what `skim_dispatches` and `skim_events` take: nothing of them is decided any more.
        """
        return np.fromiter(map(self._ended.__contains__, ids), np.bool_, len(ids))

    def skim_dispatches(self, ids: Sequence[TaskKey], appended_ms: Sequence[int]) -> None:
        """Of tasks that are over."""
        self._seen(ids, appended_ms)

    def skim_events(self, ids: Sequence[TaskKey], kinds: pa.StringArray, event_ids: pa.StringArray) -> None:
        """Of tasks that are over."""
        for task_id, kind, event_id in zip(ids, kinds.to_pylist(), event_ids.to_pylist(), strict=True):
            if kind in OUTCOMES:
                self._seen_of_ended.setdefault(task_id, []).append(event_id)

    def spilled(self, facts: Spilled) -> None:
        """What stood whole in the compacted topic: facts that the logs need not give again."""
        column = facts.batch.column
        self.doubtful.update(facts.doubtful)
        tasks = column("task")
        stated, said = tasks.field("deadline_ms").to_pylist(), facts.batch.drop_columns(["task"]).to_pylist()
        ids = task_keys(tasks)
        self._seen(ids, (state["appended_ms"] for state in said))
        for row, (task_id, identity, state) in enumerate(zip(ids, identities(tasks), said, strict=True)):
            task, first = self._task(task_id, identity), slip_of(state["attempts"][0]["slip"])
            task.appended_ms = state["appended_ms"]
            task.key, task.frame, task.datum = state["key"].encode(), facts.frames[row], facts.datums[row]
            task.size = len(task.key) + len(task.datum)
            task.deadline_ms = first.deadline_default_ms if stated[row] is None else stated[row]
            self._spilled[task_id] = state

    def resume(self, now_ms: int) -> Effects:
        """Hands the unfinished tasks to the cell and emits what they lack; after a clean stop that is nothing."""
        # A turn ends its tasks at one time: so there are few.
        for ended_ms, tasks in groupby(sorted(self._ended, key=self._ended.__getitem__), self._ended.__getitem__):
            ended = list(tasks)
            self._cell.finished.add_all(ended, ended_ms, map(self._seen_of, ended))
        for task_id in self._tasks.keys() & self._ended.keys():
            del self._tasks[task_id]
        self._cell.evict(now_ms)
        self._cell.expect_again(self._first_ms)
        # A task without a dispatch in the window is foreign or long over; its outcomes will be noted as late.
        for task in sorted(self._tasks.values(), key=lambda task: task.appended_ms):
            written = self._restore(task)
            self._cell.resume(task, now_ms)
            if written is not None:
                self._cell.spills.found(task.id, is_current=not task.finished and task.stamp() == written)
        for task_id in (self._spilled.keys() & self._ended.keys()) | self.doubtful.keys():
            self._cell.spills.found(task_id, is_current=False)
        return self._cell.machine.decisions.take()

    def _seen_of(self, task_id: TaskKey) -> tuple[str, ...]:
        """The events that were seen of a task that has ended."""
        seen = self._seen_of_ended.pop(task_id, [])
        if task_id in self._outcomes:
            seen += [outcome.event_id for outcome in self._outcomes.pop(task_id)]
        if task_id in self._spilled:
            seen = [*dict.fromkeys([*self._spilled[task_id]["event_ids"], *seen])]
        return tuple(seen)

    def _seen(self, ids: Iterable[TaskKey], appended_ms: Iterable[int]) -> None:
        """A fact about each of these tasks, and when it was appended."""
        first = self._first_ms
        for task_id, at in zip(ids, appended_ms, strict=True):
            if first.setdefault(task_id, at) > at:
                first[task_id] = at

    def _task(self, task_id: TaskKey, identity: Identity) -> Task:
        found = self._tasks.get(task_id)
        if found is None:
            found = self._tasks[task_id] = Task(task_id, b"", b"", b"", identity, 0, 0, 0)
        return found

    def _restore(self, task: Task) -> tuple[object, ...] | None:
        """The task's facts as they would stand had the cell never stopped; gives the stamp of those that were spilled.

        Spilled facts are what the cell knew: what the logs say beside them they say again, or it came later.
        """
        state = self._spilled.get(task.id)
        written = None
        if state is not None:
            known = {attempt.slip.attempt: attempt for attempt in map(self._attempt, state["attempts"])}
            read = task.attempts
            task.attempts, task.event_ids = dict(known), list(state["event_ids"])
            task.closed_seats, task.conflict_noted = set(state["closed_seats"]), state["conflict_noted"]
            task.cost_microusd, task.tokens = state["cost_microusd"], state["tokens"]
            written = task.stamp()
            task.attempts = {**read, **known}
        task.attempts = dict(sorted(task.attempts.items()))
        first = next(iter(task.attempts.values())).slip
        task.plan = _plan(self._cell, first)
        task.conflict_noted = task.conflict_noted or task.id in self._conflicts
        for outcome in self._outcomes.get(task.id, ()):
            self._apply(task, outcome)
        given_up = self._failures.get(task.id, {})
        current = task.current()
        for ordinal, attempt in task.attempts.items():
            if attempt.slip.probe_epoch:
                self._cell.availability.spend(attempt.slip.agent_id, attempt.slip.probe_epoch)
            superseded = attempt.slip.seat in current and current[attempt.slip.seat].slip.attempt > ordinal
            if ordinal in given_up or (superseded and attempt.slip.stage != "REGROUND"):
                # Its answer, if there is one, came after it was given up.
                attempt.vote = None
                attempt.failure = given_up.get(ordinal, attempt.failure or FailReason.TIMED_OUT)
        return written

    def _attempt(self, said: Mapping[str, Any]) -> Attempt:
        """An attempt as it was spilled."""
        slip = slip_of(said["slip"])
        failure = None if said["failure"] is None else _fail_reason(said["failure"])
        if said["vote_key"] is None:
            return Attempt(slip, said["event_id"], failure)
        vote = Vote(
            agent_id=slip.agent_id,
            key=said["vote_key"],
            confidence=said["confidence"],
            weight=self._cell.policy.agent(slip.agent_id).weight,
            seat=slip.seat,
            answer=said["answer"],
            payload=said["payload"],
        )
        return Attempt(slip, said["event_id"], failure, vote)

    def _apply(self, task: Task, outcome: Outcome) -> None:
        if outcome.event_id in task.event_ids:
            return
        task.charge(outcome)
        attempt = task.attempts.get(outcome.attempt)
        if attempt is None or not attempt.is_open:
            return
        if (attempt.slip.agent_id, attempt.slip.stage) == (outcome.agent_id, outcome.stage):
            self._cell.machine.record(attempt, outcome)


def _plan(cell: Cell, first: Slip) -> Plan:
    """The plan that the slips carry."""
    return Plan(
        route=cell.policy.route(first.intent),
        confidence=first.confidence,
        band=PANEL if first.panel else first.band,
        tier=first.value_tier,
        panel=first.panel,
        first=first.panel or (first.agent_id,),
        reasons=(),
        probes=(),
        chain=first.chain,
        deadline_default_ms=first.deadline_default_ms,
    )


def _fail_reason(code: str) -> FailReason:
    """A newer version's code counts as a plain failure."""
    return FailReason(code) if code in FailReason.__members__ else FailReason.FAILED
