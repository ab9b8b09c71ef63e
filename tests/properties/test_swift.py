"""What a cell decides in columns, it would decide the same task by task: of any batch, split in any way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from schemas.codec import Codec
from schemas.registry import FileRegistry
from streams.core import swift, turn, unasked
from streams.core.cell import Cell
from streams.core.counting import no_answers
from streams.core.effects import Dispatch, Effects
from streams.core.in_columns import Agreed, Answered
from streams.core.intake import Heard, Intake
from streams.core.policy import Policy
from streams.core.task import Task
from streams.processors.decided import note_columns, result_columns, result_table, settled_table, unsure_table
from tests.properties.test_cell import Behind, Breaker, answers, breakers, sound_tasks, tasks
from tests.support import scenes
from tests.support.examples import examples
from tests.support.scenes import T0_MS

PARTITION = 2
CODEC = Codec(FileRegistry.load(), 1_000_000)
POLICY = Policy.compile(scenes.topology())
SLOW = Policy.compile(scenes.topology(breaker={"slow_ms": 5}))

good = st.fixed_dictionaries({"kind": st.just("COMPLETED")}, optional={"answer": st.sampled_from(["yes", "no"])})
quick = good | answers
batches = st.one_of(
    st.tuples(st.just("submit"), st.lists(sound_tasks, min_size=1, max_size=8)),
    st.tuples(st.just("submit"), st.lists(tasks, min_size=1, max_size=8)),
    st.tuples(st.just("answer"), st.lists(st.tuples(st.integers(0, 30), quick), min_size=1, max_size=10)),
    st.tuples(st.just("answer"), st.lists(st.tuples(st.integers(0, 30), quick), min_size=1, max_size=10)),
    st.tuples(st.just("wait"), st.sampled_from([0, 49, 1_999, 2_300, 5_000, 40_000])),
    st.tuples(st.just("breaker"), st.tuples(st.sampled_from(list(scenes.AGENTS)), breakers)),
    st.tuples(st.just("pause"), st.frozensets(st.sampled_from(list(scenes.AGENTS)))),
    st.tuples(st.just("behind"), st.frozensets(st.sampled_from(list(scenes.AGENTS)))),
)
cuts = st.lists(st.integers(0, 10), max_size=2)


class OneByOne(Cell):
    """Leaves every row to the scalar half."""

    def submit(self, intake: Intake, now_ms: int, rows: Iterable[int] | None = None) -> Effects:
        assert rows is None
        self.finished.evict(now_ms)
        return self.take_in(intake, range(len(intake)), now_ms)

    def collect(self, heard: Heard, now_ms: int, rows: Iterable[int] | None = None) -> Effects:
        assert rows is None
        every = list(range(len(heard)))
        others = swift.Others(every, list(heard.outcomes), no_answers(self.health))
        return self.hear(heard, others, now_ms)


@pytest.fixture(autouse=True)
def _columns_whatever_they_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(swift, "ROWS_MIN", 1)
    monkeypatch.setattr(swift, "FAILURES_MIN", 1)
    monkeypatch.setattr(unasked, "COLUMNS_MIN", 1)


class Pair:
    """A cell, and one that decides task by task; both are told the same."""

    def __init__(self, policy: Policy) -> None:
        self.policy, self.now_ms, self.offset = policy, T0_MS, 0
        self.swift, self.scalar = Cell(policy, PARTITION), OneByOne(policy, PARTITION)
        self.seen: list[Dispatch] = []
        self.tasks: dict[str, dict[str, Any]] = {}
        self.breakers: dict[str, Any] = {}
        self.hosts = Behind()

    def take(self, kind: str, argument: Any, cut_at: list[int]) -> None:
        self.now_ms += 1
        if kind == "wait":
            self.now_ms += argument
            self.both(lambda cell: [cell.tick(self.now_ms, hosts=self.hosts)])
        elif kind == "behind":
            self.hosts.since_ms = dict.fromkeys(argument, self.now_ms - 1)
        elif kind == "breaker":
            self.breakers[argument[0]] = argument[1]
            self.swift.observe_breakers(self.breakers)
            self.scalar.observe_breakers(self.breakers)
        elif kind == "pause":
            self.swift.observe_paused(argument)
            self.scalar.observe_paused(argument)
        elif kind == "submit":
            for task in argument:
                self.tasks.setdefault(f"{task.get('tenant', 'default')}/{task['task_id']}", task)
            intakes = [
                Intake.read(self.policy, scenes.submissions(part, self.offset + at), self.now_ms)
                for at, part in _parts(argument, cut_at)
            ]
            self.offset += len(argument)
            self.both(lambda cell: [cell.submit(intake, self.now_ms) for intake in intakes])
        elif self.seen:
            records = []
            for index, answer in argument:
                dispatch = self.seen[-1 - index % len(self.seen)]
                records.append(scenes.event(dispatch.slip, self.tasks[dispatch.datum.decode()], **answer))
            parts = [Heard.read(scenes.events(part)) for _, part in _parts(records, cut_at)]
            self.both(lambda cell: [cell.collect(heard, self.now_ms) for heard in parts])

    def both(self, step: Callable[[Cell], list[Effects]]) -> None:
        decided = step(self.swift)
        for each in decided:
            _encodes_alike(each)
        mine = [each.one_by_one() for each in decided]
        others = [each.one_by_one() for each in step(self.scalar)]
        for one, other in zip(mine, others, strict=True):
            assert Counter(map(repr, one.results)) == Counter(map(repr, other.results))
            assert Counter(map(repr, one.notes)) == Counter(map(repr, other.notes))
            assert Counter(map(repr, one.dispatches)) == Counter(map(repr, other.dispatches))
            assert _by_agent(one) == _by_agent(other), "and each agent is asked in the same order"
            self.seen += other.dispatches
        assert self.swift.low_watermark() == self.scalar.low_watermark()
        assert (len(self.swift), self.swift.bytes) == (len(self.scalar), self.scalar.bytes)

    def state(self, cell: Cell) -> Any:
        return (
            [(key, _facts(cell, key)) for key in cell.tasks],
            {key: (at, Counter(events)) for key, at, events in cell.finished.items()},
            {agent: counts for agent, counts in cell.drain_health().items() if counts != type(counts)()},
        )


def _encodes_alike(effects: Effects) -> None:
    """A record is the same, whether it was decided in columns or by itself."""
    answered = [] if effects.answered is None else [effects.answered]
    agreed = [] if effects.agreed is None else [effects.agreed]
    if answered or agreed:
        parts: list[Answered | Agreed] = [*answered, *agreed]
        alone = [result for part in parts for result in part.results()]
        values = CODEC.encode_values(result_columns(alone, "v"), len(alone), "TaskResult")
        assert CODEC.encode(result_table(answered, agreed, "v"), "TaskResult") == values
    if effects.settled is not None:
        results = list(effects.settled.results())
        values = CODEC.encode_values(result_columns(results, "v"), len(results), "TaskResult")
        assert CODEC.encode(settled_table([effects.settled], "v"), "TaskResult") == values
        assert effects.settled.keys == [result.key for result in results]
    if effects.unsure is not None:
        notes = list(effects.unsure.notes())
        values = CODEC.encode_values(note_columns(notes, "v"), len(notes), "OrchestratorEvent")
        assert CODEC.encode(unsure_table([effects.unsure], "v"), "OrchestratorEvent") == values
        assert effects.unsure.keys == [note.key for note in notes]


def _parts(rows: list[Any], cut_at: list[int]) -> list[tuple[int, list[Any]]]:
    edges = sorted({0, len(rows), *(min(each, len(rows)) for each in cut_at)})
    return [(start, rows[start:end]) for start, end in pairwise(edges)]


def _by_agent(effects: Effects) -> dict[str, list[Dispatch]]:
    """What each is asked, in order; not of what others have failed in, which may overtake each other."""
    found: dict[str, list[Dispatch]] = {}
    for each in effects.dispatches:
        if each.slip.reason != "CASCADE":
            found.setdefault(each.slip.agent_id, []).append(each)
    return found


def _facts(cell: Cell, key: tuple[str, str]) -> str:
    held = cell.tasks[key]
    task = held if isinstance(held, Task) else cell.cohorts.task(held)
    assert task.plan is not None
    # Of the first dispatches' reasons and probes the slips tell; no later decision asks the plan.
    return repr((task.attempts, task.plan.panel, task.plan.chain, task.closed_seats, task.deadline_ms, task.event_ids))


@examples(400)
@given(script=st.lists(st.tuples(batches, cuts), min_size=1, max_size=10), slow=st.booleans())
def test_columns_decide_what_task_by_task_is_decided(
    script: list[tuple[tuple[str, Any], list[int]]], slow: bool
) -> None:
    pair = Pair(SLOW if slow else POLICY)
    for (kind, argument), cut_at in script:
        pair.take(kind, argument, cut_at)
    assert pair.state(pair.swift) == pair.state(pair.scalar)
    pair.take("wait", 100_000, [])
    assert pair.state(pair.swift) == pair.state(pair.scalar)


votes = st.fixed_dictionaries(
    {"kind": st.sampled_from(["COMPLETED"] * 11 + ["FAILED"])},
    optional={
        "answer": st.sampled_from(["yes", "yes", "Yes ", "no"]),
        "confidence": st.sampled_from([0.9, 0.95, 0.7, None]),
        "payload": st.sampled_from(['"a"', '"b"']),
        "cost_microusd": st.integers(1, 9),
        "tokens_in": st.integers(1, 9),
        "ordinal": st.sampled_from([0, 0, 0, 1]),
    },
)
GOOD = {"kind": "COMPLETED"}
CLOSED = Breaker("CLOSED", 1, ())
voices = st.tuples(st.just("answer"), st.lists(st.tuples(st.integers(0, 3), votes), min_size=1, max_size=3))
pauses = st.tuples(st.just("wait"), st.sampled_from([0, 1_999, 2_300]))


@examples(400)
@given(
    size=st.integers(1, 2), script=st.lists(st.tuples(voices | voices | voices | pauses, cuts), min_size=2, max_size=6)
)
@example(
    1, [(("answer", [(0, GOOD)]), []), (("answer", [(0, {**GOOD, "ordinal": 1, "cost_microusd": 3}), (1, GOOD)]), [])]
)
@example(1, [(("answer", [(0, GOOD)]), []), (("answer", [(1, {**GOOD, "answer": "no"})]), [])])
@example(1, [(("answer", [(0, {**GOOD, "payload": "1"}), (1, {**GOOD, "payload": "2"})]), [])])
def test_panels_of_two_are_decided_the_same_whenever_their_votes_come(
    size: int, script: list[tuple[tuple[str, Any], list[int]]]
) -> None:
    pair = Pair(POLICY)
    doubtful = [{"task_id": f"t{n}", "text": "", "intent": "money", "confidence": 0.7} for n in range(size)]
    pair.take("submit", doubtful, [])
    assert len(pair.seen) == 2 * size
    for (kind, argument), cut_at in script:
        pair.take(kind, argument, cut_at)
        assert pair.state(pair.swift)[:2] == pair.state(pair.scalar)[:2]
    pair.take("wait", 100_000, [])
    assert pair.state(pair.swift) == pair.state(pair.scalar)


FAILED = {"kind": "FAILED", "cost_microusd": 7, "tokens_in": 3}
verdicts = st.fixed_dictionaries(
    {"kind": st.sampled_from(["COMPLETED", "COMPLETED", "FAILED", "FAILED", "REFUSED"])},
    optional={
        "error_class": st.sampled_from(["INTERNAL", "TIMEOUT", "OVERLOADED", "WRONG_INPUT", "UNKNOWN_OUTCOME", None]),
        "cost_microusd": st.integers(1, 9),
        "tokens_out": st.integers(1, 9),
        "ordinal": st.sampled_from([0, 0, 0, 1]),
    },
)
said = st.tuples(st.just("answer"), st.lists(st.tuples(st.integers(0, 4), verdicts), min_size=1, max_size=4))
blocked = st.tuples(
    st.just("breaker"), st.tuples(st.sampled_from(["alpha", "beta"]), st.builds(Breaker, st.just("OPEN"), st.just(1)))
)


@examples(400)
@given(
    sent=st.lists(st.sampled_from(["money", "papers", "deeds", "talk"]), min_size=1, max_size=3),
    left_ms=st.sampled_from([5, 2_500, 60_000]),
    script=st.lists(st.tuples(said | said | said | pauses | blocked, cuts), min_size=2, max_size=6),
    slow=st.booleans(),
)
@example(["money"], 60_000, [(("answer", [(0, FAILED)]), []), (("answer", [(0, GOOD)]), [])], False)
@example(["money"], 60_000, [(("answer", [(0, FAILED)]), []), (("answer", [(0, FAILED)]), [])], True)
@example(["money"], 60_000, [(("answer", [(0, FAILED)]), []), (("wait", 2_300), [])], False)
@example(["money"], 2, [(("answer", [(0, FAILED)]), [])], False)
@example(["deeds"], 60_000, [(("answer", [(0, {**FAILED, "error_class": "TIMEOUT"})]), [])], False)
@example(
    ["talk"],
    60_000,
    [(("breaker", ("alpha", Breaker("OPEN", 1))), []), (("answer", [(0, FAILED)]), []), (("answer", [(0, GOOD)]), [])],
    False,
)
def test_what_fails_is_handed_on_the_same_whenever_it_is_told(
    sent: list[str], left_ms: int, script: list[tuple[tuple[str, Any], list[int]]], slow: bool
) -> None:
    pair = Pair(SLOW if slow else POLICY)
    sure = [
        {"task_id": f"t{n}", "text": "", "intent": intent, "confidence": 0.9, "deadline_ms": T0_MS + left_ms}
        for n, intent in enumerate(sent)
    ]
    pair.take("submit", sure, [])
    assert len(pair.seen) == len(sent), "one agent is asked"
    for (kind, argument), cut_at in script:
        pair.take(kind, argument, cut_at)
        assert pair.state(pair.swift) == pair.state(pair.scalar)
    pair.take("wait", 100_000, [])
    assert pair.state(pair.swift) == pair.state(pair.scalar)


@given(st.lists(sound_tasks, min_size=1, max_size=8), cuts)
def test_a_batch_decides_the_same_however_it_is_cut(batch: list[dict[str, Any]], cut_at: list[int]) -> None:
    whole, parts = Cell(POLICY, PARTITION), Cell(POLICY, PARTITION)
    mine = whole.submit(Intake.read(POLICY, scenes.submissions(batch), T0_MS), T0_MS).one_by_one()
    found: list[Dispatch] = []
    for at, part in _parts(batch, cut_at):
        found += parts.submit(Intake.read(POLICY, scenes.submissions(part, at), T0_MS), T0_MS).one_by_one().dispatches
    assert Counter(map(repr, mine.dispatches)) == Counter(map(repr, found))
    assert list(whole.tasks) == list(parts.tasks)


@examples(300)
@given(
    batch=st.lists(st.tuples(sound_tasks, st.integers(0, 1)), min_size=1, max_size=10),
    said=st.lists(st.tuples(st.integers(0, 30), quick | votes), max_size=12),
    state=breakers,
)
@example([({"task_id": f"t{n}", "text": "chat"}, n % 2) for n in range(4)], [(n, GOOD) for n in range(8)], CLOSED)
def test_the_cells_of_one_turn_decide_as_each_would_alone(
    batch: list[tuple[dict[str, Any], int]], said: list[tuple[int, dict[str, Any]]], state: Any
) -> None:
    """With a probe in one of the two partitions, too."""
    shared, alone = ([Cell(POLICY, number) for number in (0, PARTITION)] for _ in range(2))
    for cell in (*shared, *alone):
        cell.observe_breakers({"alpha": state})
    intake = Intake.read(POLICY, scenes.submissions([task for task, _ in batch]), T0_MS)
    rows = [np.array([row for row, (_, owner) in enumerate(batch) if owner == part], np.int64) for part in (0, 1)]
    together = turn.submit(list(zip(shared, rows, strict=True)), intake, T0_MS)
    apart = [cell.submit(intake, T0_MS, own) for cell, own in zip(alone, rows, strict=True)]
    asked = [(each, part) for part, own in enumerate(_same(together, apart)) for each in own.dispatches]
    first: dict[str, dict[str, Any]] = {}
    for task, _ in batch:
        first.setdefault(f"{task.get('tenant', 'default')}/{task['task_id']}", task)
    picked = [(asked[index % len(asked)], answer) for index, answer in said if asked]
    if not picked:
        return
    events = [scenes.event(each.slip, first[each.datum.decode()], **answer) for (each, _), answer in picked]
    heard = Heard.read(scenes.events(events))
    rows = [np.array([row for row, ((_, own), _) in enumerate(picked) if own == part], np.int64) for part in (0, 1)]
    together = turn.collect(list(zip(shared, rows, strict=True)), heard, T0_MS + 5)
    _same(together, [cell.collect(heard, T0_MS + 5, own) for cell, own in zip(alone, rows, strict=True)])
    for one, other in zip(shared, alone, strict=True):
        assert one.drain_health() == other.drain_health()
        assert (list(one.tasks), one.bytes) == (list(other.tasks), other.bytes)


def test_cells_that_see_other_agents_blocked_end_tasks_of_a_kind_in_other_ways() -> None:
    """One turn, one table of results: of partitions where somebody may be asked, and where nobody may."""
    cells = [Cell(POLICY, number) for number in range(2)]
    cells[1].observe_paused(frozenset(scenes.AGENTS))
    batch = [
        {"task_id": f"t{n}", "text": "", "intent": "money", "confidence": 0.9, "value_tier": tier}
        for n, tier in enumerate(("LOW", "MEDIUM", "LOW", "MEDIUM"))
    ]
    intake = Intake.read(POLICY, scenes.submissions(batch), T0_MS)
    rows = [np.array([0, 1], np.int64), np.array([2, 3], np.int64)]
    decided = turn.submit(list(zip(cells, rows, strict=True)), intake, T0_MS)
    settled = [each.settled for each in decided.values() if each.settled is not None]
    assert [len(each.rows) for each in settled] == [1, 2]
    results = [result for each in settled for result in each.results()]
    assert [result.reason for result in results] == ["RULE", "RULE", "AGENTS_PAUSED"]
    values = CODEC.encode_values(result_columns(results, "v"), len(results), "TaskResult")
    assert CODEC.encode(settled_table(settled, "v"), "TaskResult") == values


def _same(together: Mapping[int, Effects], apart: Sequence[Effects]) -> list[Effects]:
    found = []
    for one, other in zip((each.one_by_one() for each in together.values()), apart, strict=True):
        alone = other.one_by_one()
        for name in ("dispatches", "results", "notes"):
            assert Counter(map(repr, getattr(one, name))) == Counter(map(repr, getattr(alone, name)))
        assert _by_agent(one) == _by_agent(alone)
        found.append(one)
    return found
