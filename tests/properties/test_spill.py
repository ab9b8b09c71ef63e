"""A fold of spilled tasks and of what the logs say since the last cut is the fold of all that the logs ever said."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.invariants import differences
from streams.core.cell import Cell
from streams.core.effects import Effects
from streams.core.policy import Policy
from streams.core.recovery import Fold
from streams.core.spill import Spilled
from streams.core.task import Task, TaskKey
from streams.processors.spill import spill_table
from tests.properties.test_cell import PARTITION, World, _key, calm, steps
from tests.simulation.judge_folds import state_of
from tests.support import scenes
from tests.support.examples import examples
from tests.support.scenes import T0_MS

T = TypeVar("T")

TOPOLOGY = scenes.topology(limits={"spill_after_ms": 1})
SPILLING = Policy.compile(TOPOLOGY)

cuts = st.tuples(st.just("cut"), st.tuples(st.integers(0, 4), st.booleans()))
"""How many of the newest submissions are young, and whether the cut is committed."""

quiet = st.lists(st.one_of(calm, calm, cuts), min_size=1, max_size=12)
stormy = st.lists(st.one_of(steps, steps, cuts), min_size=1, max_size=12)


@pytest.fixture(autouse=True, scope="module")
def _columns_whatever_they_cost() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("streams.core.swift.ROWS_MIN", 1)
        yield


class Spilling(World):
    """A world whose cell spills; `topic` is the compacted topic, and the rest what the last committed cut left."""

    def __init__(self) -> None:
        super().__init__(TOPOLOGY)
        self.cell = Cell(SPILLING, PARTITION)
        self.topic: dict[TaskKey, Spilled] = {}
        self.away: set[TaskKey] = set()
        self.marks = (0, 0, 0, 0)

    def play(self, script: Sequence[tuple[str, Any]]) -> None:
        for step in script:
            if step[0] == "cut":
                self.cut(*step[1])
            else:
                self.take(step)

    def cut(self, young: int, committed: bool) -> None:
        for task_id, task in self.cell.spill(self.offset, T0_MS + self.offset - young + 1):
            if task is None:
                del self.topic[task_id]
            else:
                self.topic[task_id] = self._record(task)
        if committed:
            self.away = self.cell.tasks.keys() - set(self.cell.spills.unwritten(self.cell.tasks))
            self.marks = len(self.dispatches), len(self.events), len(self.notes), len(self.results)

    def _record(self, task: Task) -> Spilled:
        body = scenes.submissions([self.tasks[task.id]]).batch.to_struct_array()
        return Spilled(spill_table([task], 1, body), [task.frame], [task.datum], {})

    def recover_since(self, doubtful: Collection[TaskKey] = ()) -> tuple[Cell, Effects]:
        """Made of the compacted topic, and of what a recovery must find: of spilled tasks nothing before the cut.

        But all of those that are doubtful: a zombie wrote their latest records.
        """
        self.away = self.away.difference(doubtful)
        cell = Cell(SPILLING, PARTITION)
        cell.observe_breakers(self.breakers)
        fold = Fold(cell)
        dispatches = self._since(0, self.dispatches, _key)
        asked = [(each, self.addressed(each)[1]) for each in dispatches]
        fold.dispatches(scenes.dispatch_facts(asked, [self.appended_ms[_key(each)] for each in dispatches]))
        for task_id, each in self.topic.items():
            void = {task_id: T0_MS} if task_id in doubtful else {}
            fold.spilled(replace(each, batch=each.batch.slice(len(void)), doubtful=void))
        fold.events(scenes.events(self._since(1, self.events, lambda e: (e["task"]["tenant"], e["task"]["task_id"]))))
        fold.notes(scenes.note_facts(self._since(2, self.notes, lambda note: note.id)))
        results = self._since(3, self.results, lambda result: result.id)
        fold.results(scenes.result_facts(results), [self.appended_ms[each.id] for each in results])
        return cell, fold.resume(self.now_ms)

    def _since(self, kind: int, facts: Sequence[T], key: Callable[[T], TaskKey]) -> list[T]:
        mark = self.marks[kind]
        return [fact for at, fact in enumerate(facts) if at >= mark or key(fact) not in self.away]


@examples(300)
@given(quiet, st.data())
def test_wherever_it_crashes_a_fold_with_spilled_tasks_is_the_fold_of_everything(
    script: list[tuple[str, Any]], data: st.DataObject
) -> None:
    world = Spilling()
    world.play(script)
    doubtful = data.draw(st.sets(st.sampled_from(sorted(world.topic)))) if world.topic else set()
    plain, since = state_of(*world.recover(range(4))), state_of(*world.recover_since(doubtful))
    # Who was finished before the cut is remembered for the duplicates' horizon, and stands in the results. Of whom a
    # cut that was not committed took the record away, the events before the last one that was are not known.
    known = {key: ids for key, ids in since.items() if isinstance(key, tuple) and key[0] == "finished"}
    assert all(set(ids) <= set(plain[key]) for key, ids in known.items())
    plain = {key: each for key, each in plain.items() if isinstance(key, tuple) and key[0] != "finished"}
    assert differences("P2", plain, {key: each for key, each in since.items() if key not in known}) == []


@examples(300)
@given(stormy, st.integers(0, 4))
def test_a_spilled_task_comes_back_as_it_stood_whatever_happened_to_it(
    script: list[tuple[str, Any]], young: int
) -> None:
    """Time-outs and seats that were given up, too: a plain fold does not know of these."""
    world = Spilling()
    world.play([*script, ("cut", (young, True))])
    cell, _ = world.recover_since()
    for task_id in world.away:
        mine, theirs = world.cell.tasks[task_id], cell.tasks[task_id]
        assert isinstance(mine, Task)
        assert isinstance(theirs, Task)
        assert mine.stamp() == theirs.stamp()
        assert (mine.closed_seats, mine.event_ids) == (theirs.closed_seats, theirs.event_ids)
        assert (mine.cost_microusd, mine.tokens, mine.deadline_ms) == (
            *(theirs.cost_microusd, theirs.tokens, theirs.deadline_ms),
        )


@examples(200)
@given(stormy)
def test_nobody_stays_in_the_topic_who_is_finished(script: list[tuple[str, Any]]) -> None:
    world = Spilling()
    world.play([*script, ("wait", 200_000), ("cut", (0, True))])
    assert not world.cell.tasks
    assert world.topic == {}
    assert len(world.cell.spills) == 0


@examples(200)
@given(stormy, quiet)
def test_spilling_decides_nothing(script: list[tuple[str, Any]], after: list[tuple[str, Any]]) -> None:
    world, plain = Spilling(), World(TOPOLOGY)
    for step in (*script, *after, ("wait", 200_000)):
        world.play([step])
        if step[0] != "cut":
            plain.take(step)
    assert sorted(map(repr, world.dispatches)) == sorted(map(repr, plain.dispatches))
    assert sorted(map(repr, world.results)) == sorted(map(repr, plain.results))
