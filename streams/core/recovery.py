"""A cell made anew from what the logs hold: fold the facts in any order, then emit what they call for and lack.

Decisions are events, so they are read back, never taken again. Source of the idea: level-triggered reconciliation, as
in Kubernetes controllers. I/O: none.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from schemas.reasons import FailReason
from streams.core.cell import Cell
from streams.core.columns import Dispatches, Events, identities, outcomes, slips, task_keys
from streams.core.effects import Effects
from streams.core.judge import OUTCOMES
from streams.core.routing import PANEL
from streams.core.task import Attempt, Identity, Outcome, Plan, Slip, Task, TaskKey


class Fold:
    """Takes in facts silently, in whatever order the topics give them; each topic's own order is kept."""

    def __init__(self, cell: Cell) -> None:
        self._cell = cell
        self._tasks: dict[TaskKey, Task] = {}
        self._ended: dict[TaskKey, int] = {}
        self._first_ms: dict[TaskKey, int] = {}
        self._outcomes: dict[TaskKey, list[Outcome]] = {}
        self._failures: dict[TaskKey, dict[int, FailReason]] = {}
        self._conflicts: set[TaskKey] = set()

    def dispatches(self, facts: Dispatches) -> None:
        """What was asked of whom."""
        tasks = facts.batch.column("task")
        stated = tasks.field("deadline_ms").to_pylist()
        rows = zip(task_keys(tasks), identities(tasks), slips(facts.batch), strict=True)
        for row, (task_id, identity, slip) in enumerate(rows):
            task = self._task(task_id, identity)
            self._seen(task_id, facts.appended_ms[row])
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
        ids = task_keys(batch)
        for task_id, decided_at, at in zip(ids, batch.column("decided_at").to_pylist(), appended_ms, strict=True):
            self._ended[task_id] = decided_at // 1000
            self._seen(task_id, at)

    def resume(self, now_ms: int) -> Effects:
        """Hands the unfinished tasks to the cell and emits what they lack; after a clean stop that is nothing."""
        for task_id, ended_ms in sorted(self._ended.items(), key=lambda item: item[1]):
            seen = tuple(outcome.event_id for outcome in self._outcomes.pop(task_id, ()))
            self._cell.finished.add(task_id, ended_ms, seen)
            self._tasks.pop(task_id, None)
        self._cell.finished.evict(now_ms)
        for task_id, first_ms in self._first_ms.items():
            self._cell.expect_again(task_id, first_ms)
        # A task without a dispatch in the window is foreign or long over; its outcomes will be noted as late.
        for task in sorted(self._tasks.values(), key=lambda task: task.appended_ms):
            self._restore(task)
            self._cell.resume(task, now_ms)
        return self._cell.machine.decisions.take()

    def _seen(self, task_id: TaskKey, appended_ms: int) -> None:
        self._first_ms[task_id] = min(appended_ms, self._first_ms.get(task_id, appended_ms))

    def _task(self, task_id: TaskKey, identity: Identity) -> Task:
        found = self._tasks.get(task_id)
        if found is None:
            found = self._tasks[task_id] = Task(task_id, b"", b"", b"", identity, 0, 0, 0)
        return found

    def _restore(self, task: Task) -> None:
        """The task's facts as they would stand had the cell never stopped."""
        task.attempts = dict(sorted(task.attempts.items()))
        first = next(iter(task.attempts.values())).slip
        task.plan = _plan(self._cell, first)
        task.conflict_noted = task.id in self._conflicts
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
