"""What the logs fold to, in whatever order, however often: P2, P7. I/O: none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping
from random import Random
from typing import TYPE_CHECKING, Any

from loadtest import invariants
from streams.core.cell import Cell
from streams.core.effects import Effects
from streams.core.recovery import Fold
from streams.core.task import Task
from streams.processors.recovery import Recovery
from tests.simulation.evidence import Evidence
from tests.simulation.facts import Facts, Found
from tests.simulation.shared import compiled, shared_registry

if TYPE_CHECKING:
    from tests.simulation.run import Run

TWICE_SHARE = 0.2
"""P7: how often the same logs are folded a second time."""


def of_folds(run: Run, facts: Facts) -> Found:
    """Of what the logs held at some time, and of what they hold at rest."""
    evidence, rng = run.evidence, Random(run.scenario.seed)
    if evidence.cuts:
        seen = rng.choice(evidence.cuts)
        calls = len(run.stage.calls)
        one = _folded(evidence, seen.cut.partition, seen.ends, seen.at_ms, None)
        if rng.random() < TWICE_SHARE:
            again = _folded(evidence, seen.cut.partition, seen.ends, seen.at_ms, None)
            yield "P7", invariants.differences("a second fold", one, again)
        # What an expelled worker and its heir wrote side by side may be two stories: the first in the partition counts.
        if not any(row.is_zombie for row, _ in facts.dispatched):
            shuffled = _folded(evidence, seen.cut.partition, seen.ends, seen.at_ms, rng)
            yield "P2", invariants.differences("a fold in another order", one, shuffled)
        yield "P7", ["a fold calls agents"] * (len(run.stage.calls) - calls)
    for number in range(run.scenario.topology.partitions):
        left = _folded(evidence, number, {}, run.cluster.broker.now_ms(), None)
        yield "P7", [f"[{number}] at rest: {key}" for key in left if not str(key).startswith("('finished'")]


State = dict[Hashable, Any]


def _folded(evidence: Evidence, number: int, ends: Mapping[str, int], now_ms: int, rng: Random | None) -> State:
    """The state that a recovery comes to, and what it would emit. With `rng`: topics in any order, records repeated."""
    policy = compiled(evidence.topology)
    recovery = Recovery(evidence.topology, policy, shared_registry(), {})
    cell = Cell(policy, number)
    fold = Fold(cell)
    topics = evidence.topics
    names = [*topics.inboxes, *topics.logs, topics.orchestrator, topics.results]
    if rng is not None:
        rng.shuffle(names)
    for name in names:
        batch = evidence.batch(name, number, ends.get(name, 1 << 62))
        if len(batch):
            recovery.fold(batch, {number: fold})
    if rng is not None:
        for name in names:
            batch = evidence.batch(name, number, ends.get(name, 1 << 62))
            if len(batch) and rng.random() < 0.5:
                recovery.fold(batch, {number: fold})
    effects = fold.resume(now_ms)
    return state_of(cell, effects)


def state_of(cell: Cell, effects: Effects) -> State:
    """Of a cell, and of what its recovery emitted: two that are equal go on alike."""
    state: State = {}
    for key, task in cell.tasks.items():
        assert isinstance(task, Task), "each task of a fold is one of its own"
        attempts = {
            ordinal: (each.slip.agent_id, each.slip.stage, each.failure, each.vote)
            for ordinal, each in sorted(task.attempts.items())
        }
        state["task", key] = (
            *(attempts, task.deadline_ms, task.appended_ms, task.conflict_noted),
            *(sorted(task.event_ids), task.cost_microusd, task.tokens),
        )
    for key, _, event_ids in cell.finished.items():
        state["finished", key] = sorted(set(event_ids))
    decided = [("dispatch", each.slip, each.key, each.datum) for each in effects.dispatches]
    decided += [("note", each) for each in effects.notes]  # type: ignore[misc]
    decided += [("result", each) for each in effects.results]  # type: ignore[misc]
    for what, times in Counter(map(repr, decided)).items():
        state["emits", what] = times
    return state
