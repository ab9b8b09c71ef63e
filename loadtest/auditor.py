"""The audit of a run, from what the topics and the history say: nothing lost, nothing twice, all kept.

It holds the invariants of loadtest/invariants.py that topics at rest can tell: P1 (*lost*, *duplicated*), A1
(*unasked*), A2 (*asked_twice*), A3 (*out_of_order*), P8 and A4 (*history complete*).

A task submitted again after the duplicate horizon is a new task to the pipeline and a duplicate here: audit runs whose
ids are unique, or shorter than the horizon. I/O: none.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from loadtest import invariants
from loadtest.invariants import Completeness, Dispatched, Ended, Outcome, Submission, TaskKey

EXAMPLES_MAX = 3

ASKED: Mapping[str, str] = MappingProxyType(
    {
        "lost": "P1",
        "duplicated": "P1",
        "unasked": "A1",
        "asked_twice": "A2",
        "out_of_order": "A3",
        "history": "P8",
        "dead topic": "A4",
    }
)
"""The invariant behind each thing that an audit asks: of tasks, of the history, and of what was put away."""


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
        found = {name: getattr(self, name) for name in ASKED if hasattr(self, name)}
        return {name: keys for name, keys in found.items() if keys}


def audit_tasks(
    submissions: Iterable[Submission],
    dispatches: Iterable[Dispatched],
    outcomes: Iterable[Outcome],
    results: Iterable[Ended],
) -> TaskAudit:
    """Holds what was asked against what was answered. Within a partition, records may come in any order."""
    asked, sent, heard, ends = list(submissions), list(dispatches), list(outcomes), list(results)
    return TaskAudit(
        submitted=len(asked),
        accepted=len({submission[:2] for submission in asked}),
        results=len(ends),
        dispatches=len(sent),
        outcomes=len(heard),
        lost=invariants.lost(asked, ends),
        duplicated=invariants.duplicated(ends),
        unasked=invariants.unasked(asked, sent, heard, ends),
        asked_twice=invariants.asked_twice(sent),
        out_of_order=invariants.out_of_order(asked, sent),
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
