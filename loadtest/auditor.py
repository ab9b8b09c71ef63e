"""What must hold of a run, counted from what the topics and the history say: nothing lost, nothing twice, all kept.

The invariants, each stated once:

- *lost*: an accepted task has a result.
- *duplicated*: an accepted task has no second result.
- *unasked*: a result belongs to an accepted task, an outcome to a dispatch.
- *asked_twice*: nobody is asked twice for one task, but for the one grounded re-run.
- *out_of_order*: within a conversation, what is dispatched to one agent on submission keeps the order of submission.
  Cascades, tie-breaks and re-runs follow an outcome and may fall behind later tasks.
- *history complete*: every valid record's fact is once in the view of its kind, every invalid record once among the
  dead, and nothing else is.

A task submitted again after the duplicate horizon is a new task to the pipeline and a duplicate here: audit runs whose
ids are unique, or shorter than the horizon. I/O: none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

EXAMPLES_MAX = 3

TaskKey: TypeAlias = tuple[str, str]  # tenant, task id


class Submission(NamedTuple):
    """A valid record of the submitted topic. Partition and offset say where it stands."""

    tenant: str
    task_id: str
    conversation_id: str | None
    partition: int
    offset: int


class Dispatched(NamedTuple):
    """A record of an inbox; `seats` is the size of the panel, 0 without one."""

    tenant: str
    task_id: str
    agent_id: str
    attempt: int
    stage: str
    seats: int
    partition: int
    offset: int


class Outcome(NamedTuple):
    """A COMPLETED, FAILED or REFUSED of an agent's log."""

    tenant: str
    task_id: str
    agent_id: str
    attempt: int
    stage: str


class Ended(NamedTuple):
    """A record of the results topic."""

    tenant: str
    task_id: str


@dataclass(frozen=True)
class TaskAudit:
    """Counts, and of each breach the identities, so that a person can look them up."""

    submitted: int
    accepted: int
    results: int
    dispatches: int
    outcomes: int
    lost: tuple[TaskKey, ...]
    duplicated: tuple[TaskKey, ...]
    unasked: tuple[TaskKey, ...]
    asked_twice: tuple[TaskKey, ...]
    out_of_order: tuple[TaskKey, ...]

    @property
    def breaches(self) -> dict[str, tuple[TaskKey, ...]]:
        """By invariant; empty when the run is sound."""
        found = {name: getattr(self, name) for name in ("lost", "duplicated", "unasked", "asked_twice", "out_of_order")}
        return {name: keys for name, keys in found.items() if keys}


def audit_tasks(
    submissions: Iterable[Submission],
    dispatches: Iterable[Dispatched],
    outcomes: Iterable[Outcome],
    results: Iterable[Ended],
) -> TaskAudit:
    """Holds what was asked against what was answered. Within a partition, records may come in any order."""
    asked = sorted(submissions, key=lambda submission: (submission.partition, submission.offset))
    sent = sorted(dispatches, key=lambda dispatch: (dispatch.partition, dispatch.offset))
    heard = list(outcomes)
    first: dict[TaskKey, Submission] = {}
    for submission in asked:
        first.setdefault((submission.tenant, submission.task_id), submission)
    ends = Counter((end.tenant, end.task_id) for end in results)

    known_attempts = {(dispatch[:2], dispatch[2:5]) for dispatch in sent}
    unasked = [key for key in ends if key not in first]
    unasked += [outcome[:2] for outcome in heard if (outcome[:2], outcome[2:5]) not in known_attempts]
    return TaskAudit(
        submitted=len(asked),
        accepted=len(first),
        results=ends.total(),
        dispatches=len(sent),
        outcomes=len(heard),
        lost=tuple(key for key in first if key not in ends),
        duplicated=tuple(key for key, times in ends.items() if times > 1),
        unasked=tuple(dict.fromkeys(unasked)),
        asked_twice=_asked_twice(sent),
        out_of_order=_out_of_order(first, sent),
    )


def _asked_twice(sent: Iterable[Dispatched]) -> tuple[TaskKey, ...]:
    times = Counter((dispatch[:2], dispatch.agent_id, dispatch.stage == "REGROUND") for dispatch in sent)
    return tuple(dict.fromkeys(key for (key, _agent, _regrounded), count in times.items() if count > 1))


def _out_of_order(first: dict[TaskKey, Submission], sent: Iterable[Dispatched]) -> tuple[TaskKey, ...]:
    """`sent` stands in the order of the inboxes; a dispatch breaks it when a later submission went before."""
    latest: dict[tuple[int, str, str, str], int] = {}
    late: list[TaskKey] = []
    for dispatch in sent:
        submission = first.get(dispatch[:2])
        if submission is None or submission.conversation_id is None or dispatch.attempt > max(1, dispatch.seats):
            continue
        line = (dispatch.partition, dispatch.tenant, submission.conversation_id, dispatch.agent_id)
        if submission.offset < latest.get(line, -1):
            late.append(dispatch[:2])
        latest[line] = max(submission.offset, latest.get(line, -1))
    return tuple(dict.fromkeys(late))


@dataclass(frozen=True)
class Completeness:
    """One kind of fact: what the log says there is, against what is there."""

    name: str
    expected: int
    missing: tuple[Hashable, ...]
    surplus: tuple[Hashable, ...]
    repeated: tuple[Hashable, ...]

    @property
    def complete(self) -> bool:
        return not (self.missing or self.surplus or self.repeated)


def compare(name: str, log: Iterable[Hashable], view: Iterable[Hashable]) -> Completeness:
    """Facts of the log, where one may stand more than once, against those of a view, where none may."""
    expected, found = set(log), Counter(view)
    return Completeness(
        name,
        len(expected),
        missing=tuple(fact for fact in expected if fact not in found),
        surplus=tuple(fact for fact in found if fact not in expected),
        repeated=tuple(fact for fact, times in found.items() if times > 1),
    )


@dataclass(frozen=True)
class Report:
    """The whole audit. `dead` counts distinct invalid records that were put away; `parts` is the history by kind."""

    tasks: TaskAudit
    dead: int
    parts: tuple[Completeness, ...]

    @property
    def history_complete(self) -> bool:
        return all(part.complete for part in self.parts)

    @property
    def sound(self) -> bool:
        """Every invariant holds."""
        return not self.tasks.breaches and self.history_complete

    @property
    def summary(self) -> str:
        """One line, as `make demo` ends."""
        tasks, history = self.tasks, "complete" if self.history_complete else "INCOMPLETE"
        return (
            f"{tasks.accepted} accepted, {tasks.results} results, {len(tasks.lost)} lost, "
            f"{len(tasks.duplicated)} duplicated, {self.dead} dead-lettered, history {history}"
        )

    def findings(self) -> list[str]:
        """One line for each breach, with examples; empty when the run is sound."""
        lines = [f"{len(keys)} {name}: {_examples(keys)}" for name, keys in self.tasks.breaches.items()]
        for part in self.parts:
            for fault in ("missing", "surplus", "repeated"):
                facts = getattr(part, fault)
                if facts:
                    lines.append(f"{part.name}: {len(facts)} {fault} of {part.expected}: {_examples(facts)}")
        return lines


def _examples(facts: tuple[Hashable, ...]) -> str:
    shown = ", ".join(map(str, facts[:EXAMPLES_MAX]))
    return shown if len(facts) <= EXAMPLES_MAX else f"{shown}, ..."
