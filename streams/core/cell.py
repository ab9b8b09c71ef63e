"""The tasks in flight of one partition: submissions and outcomes in, decisions out.

One cell per partition, one owner per cell; it reads no clock and does no I/O. Its calls take batches. What is the same
for most tasks of a turn is decided in columns (streams/core/swift.py); all else, a task at a time, is
streams/core/machine.py, which would decide the same of every task. After a crash a new cell folds what the logs hold
(streams/core/recovery.py) and goes on. Invariants, checked by tests and by the load test's audit:

    C1  every task that was taken in ends in exactly one result
    C2  an outcome is applied at most once, and only to the attempt it belongs to
    C3  a fold of the logs, in any order, decides as the cell that never stopped

I/O: none.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice, takewhile

import numpy as np

from schemas.dispatch_wait import wait_ms
from schemas.ids import fact_id
from schemas.reasons import LateReason
from streams.core.availability import Availability, BreakerLike
from streams.core.cohorts import Cohorts
from streams.core.columns import Events, identities
from streams.core.effects import Effects, Note
from streams.core.finished import Finished
from streams.core.health import Counts, Health
from streams.core.hosts import AGAIN_MS, ALL_READ, HostsSeen
from streams.core.intake import Heard, Intake, Kind
from streams.core.judge import OUTCOMES
from streams.core.machine import Machine
from streams.core.openings import Openings
from streams.core.policy import Policy
from streams.core.routing import SINGLE, by_rule, plan, unasked
from streams.core.rows import Rows
from streams.core.spill import SPILL_BYTES_MAX, SPILLS_MAX, Spill, Spills
from streams.core.swift import Others
from streams.core.task import Identity, Outcome, Plan, Slip, Task, TaskKey
from streams.core.timers import Timers
from streams.core.turn import collect, submit


class Cell:
    """See the module. `policy` is frozen; `partition` is the number that all its topics share."""

    def __init__(self, policy: Policy, partition: int) -> None:
        limits = policy.topology.limits
        self.policy, self.partition = policy, partition
        self.availability, self.health = Availability(policy, partition), Health()
        self.machine = Machine(policy, self.availability, self.health)
        # Oldest submission first. A number is that of a task in a cohort.
        self.tasks: dict[TaskKey, Task | int] = {}
        self.finished = Finished(limits.finished_tasks_max, limits.duplicate_horizon_ms)
        self.spills = Spills(limits.spill_after_ms, limits.spill_after_tasks)
        self.cohorts, self._timers = Cohorts(policy), Timers()
        self.openings = Openings(policy)
        self.bytes = 0
        # Set while submissions lie unread that were decided on before a recovery: no fact about them is older than
        # this (append time, ms). What is known of them is needed until they are read, however long that takes.
        self.reread_ms: int | None = None
        self._folded: dict[TaskKey, int] = {}
        self._folded_until_ms = 0

    def __len__(self) -> int:
        return len(self.tasks)

    @property
    def is_full(self) -> bool:
        """At a bound: submissions have to wait, whatever drains the cell goes on."""
        return self.fill >= 1.0

    @property
    def fill(self) -> float:
        """How much of its nearer bound is taken; 1 is full."""
        limits = self.policy.topology.limits
        return max(len(self.tasks) / limits.inflight_tasks_max, self.bytes / limits.inflight_bytes_max)

    def observe_breakers(self, breakers: Mapping[str, BreakerLike]) -> None:
        self.availability.observe(breakers)

    def observe_paused(self, agents: frozenset[str]) -> None:
        """Agents that people have paused or retired: nothing is sent to them from now on."""
        self.availability.observe_paused(agents)

    def drain_health(self) -> dict[str, Counts]:
        """What was seen of each agent since the last call."""
        return self.health.drain()

    def low_watermark(self) -> int | None:
        """Append time (ms) of the oldest unfinished submission, but for those that are spilled, or what is before all
        facts about submissions that are read again; None without any."""
        both = next(self.appended_ms(), None), self.reread_ms
        return min((each for each in both if each is not None), default=None)

    def appended_ms(self) -> Iterator[int]:
        """Append time of each unfinished submission that is not spilled, oldest first."""
        return map(self._appended_ms, self.spills.unwritten(self.tasks))

    def _appended_ms(self, task_id: TaskKey) -> int:
        held = self.tasks[task_id]
        return self.cohorts.appended_ms(held) if isinstance(held, int) else held.appended_ms

    def spill(self, position: int, now_ms: int) -> list[Spill]:
        """What a cut at `position` of the submissions has to say in the compacted topic, before it is committed.

        Whoever asks writes it, or tells `spills.keep` of a task that is too large for that.
        """
        spills = self.spills
        found = [Spill(task_id, self._task(task_id)) for task_id in spills.take_changed(self.tasks)]
        before_ms, size = spills.old_before_ms(position, now_ms), 0
        old = takewhile(lambda each: self._appended_ms(each) < before_ms, spills.candidates(self.tasks))
        for task_id in list(islice(old, SPILLS_MAX)):
            task = self._task(task_id)
            assert task is not None, "it is in flight"
            size += task.size
            if size > SPILL_BYTES_MAX and size > task.size:
                break
            spills.wrote(task_id)
            found.append(Spill(task_id, task))
        return found

    def submit(self, intake: Intake, now_ms: int, rows: Iterable[int] | None = None) -> Effects:
        """Takes in new tasks, in order; a repeat of a known one is noted and nothing else.

        `rows` are those of this partition, in offset order; None: all. A turn of several cells is streams/core/turn.py.
        """
        return submit([(self, _places(rows, len(intake)))], intake, now_ms)[self.partition]

    def take_in(self, intake: Intake, rows: Iterable[int], now_ms: int) -> Effects:
        """Takes in new tasks one by one; all that was decided since the last call."""
        plans = _Plans(self, now_ms)
        for row in rows:
            task_id, key, offset = intake.ids[row], intake.keys[row], intake.offsets[row]
            identity, appended_ms = intake.identity(row), int(intake.appended_ms[row])
            if task_id in self.tasks or task_id in self.finished:
                if not self._is_read_again(task_id, appended_ms):
                    self._note_duplicate(task_id, identity, key, offset, now_ms)
                continue
            datum, stated_ms = intake.datums[row][intake.ahead :], int(intake.deadlines_ms[row])
            size = int(intake.sizes[row])
            task = Task(task_id, key, intake.frames[row], datum, identity, stated_ms, appended_ms, size)
            reason = intake.refused.get(row)
            if reason is not None:
                self.machine.reject(task, reason, now_ms)
            else:
                plans.begin(task, intake.kinds[int(intake.kind[row])])
            self._keep_or_end(task, now_ms)
        return self.machine.decisions.take()

    def collect(self, heard: Heard, now_ms: int, rows: Iterable[int] | None = None) -> Effects:
        """Takes in agents' events; only outcomes of open attempts decide anything.

        `rows` are those of this partition, each agent's in offset order; None: all.
        """
        return collect([(self, _places(rows, len(heard)))], heard, now_ms)[self.partition]

    def hear(self, heard: Heard, others: Others, now_ms: int) -> Effects:
        """Takes in agents' events one by one; all that was decided since the last call."""
        for row, outcome in zip(others.rows, others.outcomes, strict=True):
            task_id = heard.ids[row]
            if outcome.kind not in OUTCOMES:
                continue
            task = self._task(task_id)
            if task is None:
                if not self.finished.has_seen(task_id, outcome.event_id):
                    self._note_late(heard.events, row, task_id, outcome, now_ms)
                continue
            if outcome.event_id in task.event_ids:
                continue
            self.spills.touch(task_id)
            task.charge(outcome)
            attempt = task.attempts.get(outcome.attempt)
            if attempt is None or not _belongs(outcome, task, outcome.attempt) or not task.takes(attempt):
                self._note_late(heard.events, row, task_id, outcome, now_ms)
                continue
            before = len(task.attempts)
            others.answers.count_before(row, outcome.agent_id)
            self.machine.apply(task, attempt, outcome, now_ms)
            self._end_or_watch(task, now_ms, watched=len(task.attempts) == before)
        others.answers.count_all()
        return self.machine.decisions.take()

    def fence(self, heard: Heard, now_ms: int, rows: Iterable[int] | None = None) -> Effects:
        """Takes note of outcomes that count for nothing: their host had lost its inbox (schemas/epochs.py)."""
        places = _places(rows, len(heard)).tolist()
        for row, outcome in zip(places, heard.outcomes.at(places), strict=True):
            if outcome.kind in OUTCOMES:
                self._note_late(heard.events, row, heard.ids[row], outcome, now_ms, reason=LateReason.FENCED)
        return self.machine.decisions.take()

    def tick(self, now_ms: int, *, blame: bool = True, hosts: HostsSeen = ALL_READ) -> Effects:
        """Ends what is overdue. Without `blame` (while catching up) time-outs do not count against agents.

        `hosts` tells how far they have read: what lies unread with them is waited for, within a bound (R11).
        """
        for each in self.cohorts.leave_behind(now_ms, hosts, self.tasks):
            self._watch(each)
        for task in self._timers.due(now_ms):
            if task.finished:  # it was due twice
                continue
            if now_ms >= task.deadline_ms:
                self.spills.touch(task.id)
                self.machine.expire(task, now_ms)
            else:
                self._time_out_overdue(task, now_ms, hosts, blame=blame)
            self._end_or_watch(task, now_ms, watched=False, looked_ms=now_ms)
        self.evict(now_ms)
        return self.machine.decisions.take()

    def evict(self, now_ms: int) -> None:
        """Forgets tasks that ended long ago, but for those whose submissions may be read again."""
        self.finished.evict(now_ms if self.reread_ms is None else min(now_ms, self.reread_ms))

    def expect_again(self, first_fact_ms: Mapping[TaskKey, int]) -> None:
        """Recovery knows these tasks: their own submissions, if they are read again, are no duplicates of them.

        `first_fact_ms` is the append time of the first fact about each: its submission is not later than that.
        """
        self._folded.update(first_fact_ms)
        self._folded_until_ms = max(self._folded.values(), default=0)

    def _is_read_again(self, task_id: TaskKey, appended_ms: int) -> bool:
        if appended_ms > self._folded_until_ms:
            self._folded.clear()  # past all that was submitted before the recovery
        return appended_ms <= self._folded.pop(task_id, -1)

    def _time_out_overdue(self, task: Task, now_ms: int, hosts: HostsSeen, *, blame: bool) -> None:
        limits = self.policy.topology.limits
        for attempt in task.open_attempts():
            slip = attempt.slip
            routed_ms, overdue_ms = slip.routed_at // 1000, self._overdue_ms(slip)
            is_unread = not hosts.is_over(slip.agent_id, routed_ms)
            if is_unread:
                overdue_ms += wait_ms(limits.dispatch_wait_ms, routed_ms, task.deadline_ms)
            if now_ms >= overdue_ms and not task.finished:
                self.spills.touch(task.id)
                self.machine.time_out(task, attempt, now_ms, blame=blame and not is_unread)

    def resume(self, task: Task, now_ms: int) -> None:
        """A task that recovery restored: in flight from now on, and decided as far as its facts allow."""
        self.tasks[task.id] = task
        self.bytes += task.size
        self.machine.advance(task, now_ms)
        self._end_or_watch(task, now_ms, watched=False)

    def _task(self, task_id: TaskKey) -> Task | None:
        """The facts of a task in flight; from now on it is looked at alone."""
        held = self.tasks.get(task_id)
        if isinstance(held, int):
            task = self.cohorts.single_out(held)
            self.tasks[task_id] = task
            self._watch(task)
            return task
        return held

    def _keep_or_end(self, task: Task, now_ms: int) -> None:
        if task.finished:
            self.finished.add(task.id, now_ms, ())
        else:
            self.tasks[task.id] = task
            self.bytes += task.size
            self._watch(task)

    def _end_or_watch(self, task: Task, now_ms: int, *, watched: bool, looked_ms: int = 0) -> None:
        if task.finished:
            del self.tasks[task.id]
            self.bytes -= task.size
            self.finished.add(task.id, now_ms, tuple(task.event_ids))
        elif not watched:
            self._watch(task, looked_ms)

    def _watch(self, task: Task, looked_ms: int = 0) -> None:
        """Looks at the task again when its next attempt, or the task itself, is overdue; where one was overdue already
        when it was looked at, and is waited for, in a while."""
        due_ms = task.deadline_ms
        for attempt in task.attempts.values():
            if attempt.is_open:
                overdue_ms = self._overdue_ms(attempt.slip)
                due_ms = min(due_ms, overdue_ms if overdue_ms > looked_ms else looked_ms + AGAIN_MS)
        self._timers.add(task, due_ms)

    def _overdue_ms(self, slip: Slip) -> int:
        """When an attempt that is read as soon as it is routed has had its time, and its host the time to say so."""
        return slip.routed_at // 1000 + slip.timeout_ms + self.policy.topology.limits.timeout_grace_ms

    def _note_duplicate(self, task_id: TaskKey, identity: Identity, key: bytes, offset: int, now_ms: int) -> None:
        event_id = fact_id(*task_id, "DUPLICATE", self.partition, offset)
        at = now_ms * 1000
        self.machine.decisions.effects.notes.append(
            Note(event_id, "DUPLICATE", "DUPLICATE", task_id, key, identity, None, 0, 0, "UNKNOWN", None, at)
        )

    def _note_late(
        self, events: Events, row: int, task_id: TaskKey, outcome: Outcome, now_ms: int, reason: str | None = None
    ) -> None:
        one = events.batch.slice(row, 1)
        slip, task = one.column("slip"), one.column("task")
        self.machine.decisions.effects.notes.append(
            Note(
                event_id=fact_id(outcome.event_id, "LATE_VOTE"),
                kind="LATE_VOTE",
                reason=reason or outcome.kind,
                id=task_id,
                key=events.keys[row],
                identity=identities(task)[0],
                agent_id=outcome.agent_id,
                attempt=outcome.attempt,
                seat=slip.field("seat")[0].as_py(),
                stage=outcome.stage,
                intent=slip.field("intent")[0].as_py(),
                at=now_ms * 1000,
            )
        )


def _belongs(outcome: Outcome, task: Task, ordinal: int) -> bool:
    slip = task.attempts[ordinal].slip
    return slip.agent_id == outcome.agent_id and slip.stage == outcome.stage


def _places(rows: Iterable[int] | None, n: int) -> Rows:
    return np.arange(n) if rows is None else np.asarray(rows, np.int64)


class _Plans:
    """The first decision about each task of one batch, and the plans that equal tasks share."""

    def __init__(self, cell: Cell, now_ms: int) -> None:
        self._cell, self._now_ms = cell, now_ms
        self._plans: dict[tuple[str, float, str, int], Plan | None] = {}

    def begin(self, task: Task, kind: Kind) -> None:
        """Decides the task's first step; its deadline is as it states it."""
        machine, now_ms = self._cell.machine, self._now_ms
        intent, confidence, tier, default_ms = kind
        route = self._cell.policy.routes[intent]
        unstated_ms = now_ms + (route.deadline_ms or default_ms)  # neither is 0
        task.deadline_ms = task.deadline_ms or unstated_ms
        task.plan = Plan(route, confidence, SINGLE, tier, (), (), (), (), (), task.deadline_ms)
        if task.deadline_ms <= now_ms:
            machine.expire(task, now_ms)
            return
        ruled = by_rule(route, tier)
        if ruled is not None:
            machine.end_at_once(task, ruled, now_ms)
            return
        shared = self._plan(route.intent, confidence, tier, unstated_ms)
        if shared is None:
            machine.end_at_once(task, unasked(self._cell.policy, route, confidence, tier), now_ms)
            return
        machine.begin(task, shared, now_ms)
        if any(shared.probes):
            self._plans.clear()  # its probes are spent: the next task's plan is another

    def _plan(self, intent: str, confidence: float, tier: str, deadline_ms: int) -> Plan | None:
        key = (intent, confidence, tier, deadline_ms)
        if key not in self._plans:
            cell = self._cell
            route = cell.policy.routes[intent]
            self._plans[key] = plan(cell.policy, cell.availability, route, confidence, tier, deadline_ms)
        return self._plans[key]
