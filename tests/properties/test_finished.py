"""The memory of ended tasks against the plainest thing that does the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.core import finished as module
from streams.core import trail
from streams.core.finished import Finished
from streams.core.task import TaskKey

COUNT_MAX, HORIZON_MS = 4, 10


class Model:
    """Oldest first in a list; forgets from its front while either bound is passed."""

    def __init__(self) -> None:
        self.held: list[tuple[TaskKey, int, tuple[str, ...]]] = []

    def place(self, task: TaskKey) -> int | None:
        return next((place for place, (held, _, _) in enumerate(self.held) if held == task), None)

    def add(self, task: TaskKey, now_ms: int, event_ids: tuple[str, ...]) -> None:
        place = self.place(task)
        if place is None:
            self.held.append((task, now_ms, event_ids))
        else:
            self.held[place] = (task, now_ms, self.held[place][2] + event_ids)

    def has_seen(self, task: TaskKey, event_id: str) -> bool:
        place = self.place(task)
        if place is None:
            return False
        _, ended_ms, event_ids = self.held[place]
        if event_id not in event_ids:
            self.held[place] = (task, ended_ms, (*event_ids, event_id))
        return event_id in event_ids

    def evict(self, now_ms: int) -> None:
        while self.held and (len(self.held) > COUNT_MAX or self.held[0][1] < now_ms - HORIZON_MS):
            del self.held[0]


ALL = [(tenant, f"task {number}") for tenant in ("a", "b") for number in range(4)]
TASKS = st.sampled_from(ALL)
EVENTS = st.sampled_from(["a", "b", "c"])
STEPS = st.one_of(
    st.tuples(st.just("add"), TASKS, st.tuples(EVENTS)),
    st.tuples(st.just("add_all"), st.lists(TASKS, unique=True), EVENTS),
    st.tuples(st.just("has_seen"), TASKS, EVENTS),
    st.tuples(st.just("evict")),
)


@pytest.fixture(autouse=True)
def _soon_full(monkeypatch: pytest.MonkeyPatch) -> None:
    """The latest two are no more than that, and a table begins with two places."""
    monkeypatch.setattr(module, "LATEST_MAX", 2)
    monkeypatch.setattr(trail, "SMALLEST", 2)


@given(st.lists(st.tuples(STEPS, st.integers(0, 6)), max_size=40))
def test_it_holds_what_the_model_holds(steps: list[tuple[tuple[object, ...], int]]) -> None:
    _hold_alike(steps)


@given(st.lists(st.tuples(STEPS, st.integers(0, 6)), max_size=40))
def test_tasks_whose_hashes_are_equal_are_told_apart(steps: list[tuple[tuple[object, ...], int]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trail, "hash", lambda task: int(task[1][-1]) % 3, raising=False)
        _hold_alike(steps)


def _hold_alike(steps: list[tuple[tuple[object, ...], int]]) -> None:
    finished, model, now_ms = Finished(COUNT_MAX, HORIZON_MS), Model(), 0
    for step, later_ms in steps:
        now_ms += later_ms
        match step:
            case ("add", task, event_ids):
                finished.add(task, now_ms, event_ids)  # type: ignore[arg-type]
                model.add(task, now_ms, event_ids)  # type: ignore[arg-type]
            case ("add_all", tasks, event_id):
                new = [task for task in tasks if task not in finished]  # type: ignore[attr-defined]
                finished.add_all(new, now_ms, [(event_id,)] * len(new))  # type: ignore[list-item]
                for task in new:
                    model.add(task, now_ms, (event_id,))  # type: ignore[arg-type]
            case ("has_seen", task, event_id):
                assert finished.has_seen(task, event_id) == model.has_seen(task, event_id)  # type: ignore[arg-type]
            case _:
                finished.evict(now_ms)
                model.evict(now_ms)
        assert len(finished) == len(model.held)
        assert list(finished.items()) == model.held
        known = {task for task in ALL if task in finished}
        assert known == {task for task, _, _ in model.held} <= {ALL[place] for place in finished.alike(ALL)}


KEYS = st.integers(-40, 40).filter(lambda each: each != -1)  # which hashes like -2


@given(st.lists(st.tuples(st.lists(KEYS), st.integers(0, 5)), max_size=20))
def test_a_trail_finds_what_a_list_finds(steps: list[tuple[list[int], int]]) -> None:
    found, held, gone = trail.Trail(), list[int](), 0
    every = [each for each in range(-41, 42) if each != -1]
    for keys, times in steps:
        found.add_all(keys)
        held += keys
        forgotten = min(times, len(held) - gone)
        found.forget(forgotten)
        gone += forgotten
        assert (found.first, found.end, len(found)) == (gone, len(held), len(held) - gone)
        for part in (every, every[::30]):
            assert [part[place] for place in found.among(part)] == [each for each in part if each in held[gone:]]
        for each in every:
            assert list(found.find(each)) == [at for at in range(len(held) - 1, gone - 1, -1) if held[at] == each]
