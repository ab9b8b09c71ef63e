"""Which tasks are spilled when, what their records say, and in which order a cut does all that."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import numpy as np
import pytest

from schemas.codec import CARRIED_MAX, Codec
from schemas.epochs import Epochs, LogEpochs
from schemas.records import record
from schemas.registry import FileRegistry
from schemas.topology import Topology
from streams.core import cell as cell_module
from streams.core.cell import Cell
from streams.core.columns import Submissions
from streams.core.effects import Result
from streams.core.intake import Heard, Intake
from streams.core.policy import Policy
from streams.core.recovery import Fold
from streams.core.spill import Spills
from streams.core.task import Task
from streams.processors.cuts import Cuts
from streams.processors.recovery import Recovery, cut_metadata
from streams.processors.spill import SpillLog, key_of, latest, spilled_of
from streams.transport.batch import Batch, TopicPartition
from tests.support import scenes
from tests.support.scenes import T0_MS

AFTER_MS, AFTER_TASKS = 1_000, 100
CODEC = Codec(FileRegistry.load(), 262_144)
GENERATION, NOBODY = 5, LogEpochs()


def topology(**limits: int) -> Topology:
    return scenes.topology(limits={"spill_after_ms": AFTER_MS, "spill_after_tasks": AFTER_TASKS, **limits})


def taken_in(cell: Cell, tasks: Sequence[dict[str, Any]], now_ms: int = T0_MS, offset: int = 0) -> None:
    """The tasks are sent out, with bodies that can be read again."""
    plain = scenes.submissions([{"text": "hello", **each} for each in tasks], offset)
    datums = CODEC.encode_datums(plain.batch, "TaskSubmitted")
    frames = [CODEC.frame("TaskDispatched")] * len(datums)
    found = Submissions(plain.batch, plain.keys, frames, datums, plain.offsets, plain.appended_ms)
    cell.submit(Intake.read(cell.policy, found, now_ms), now_ms)


def task(cell: Cell, name: str) -> Task:
    found = cell._task(("default", name))
    assert found is not None
    return found


def answered(cell: Cell, name: str, now_ms: int = T0_MS, attempt: int | None = None, **fields: Any) -> list[Result]:
    held = task(cell, name)
    slip = held.attempts[attempt or max(held.attempts)].slip
    return cell.collect(Heard.read(scenes.events([scenes.event(slip, {"task_id": name}, **fields)])), now_ms).results


def batch_of(topic: str, rows: Sequence[tuple[int, bytes | None, bytes | None]]) -> Batch:
    """Records of partition, key and value."""
    n = len(rows)
    return Batch(
        channel=topic,
        values=[value for _, _, value in rows],
        keys=[key for _, key, _ in rows],
        topics=[topic] * n,
        partitions=np.array([number for number, _, _ in rows], np.int32),
        offsets=np.arange(n),
        timestamps_ms=np.full(n, T0_MS),
        headers=[[] for _ in rows],
        ends={},
    )


class Topic:
    """A producer whose output is delivered when it is told so; `log` says what happened in which order."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, bytes | None, bytes | None]] = []
        self.log: list[str] = []
        self.waits_s: list[float] = []
        self.has_output, self.delivers = False, [True, True]

    def send(
        self, topic: str, partition: int, values: Sequence[bytes | None], keys: Sequence[bytes | None] | None = None
    ) -> None:
        assert topic == "tasks.spilled.v1"
        assert keys is not None
        self.log.append("spill")
        self.rows += [(partition, key, value) for key, value in zip(keys, values, strict=True)]

    def drained(self, timeout_s: float) -> bool:
        self.log.append("drained")
        self.waits_s.append(timeout_s)
        return self.delivers.pop(0)

    def batch(self) -> Batch:
        """All that the topic holds."""
        return batch_of("tasks.spilled.v1", self.rows)


class Scene:
    """One cell, and the log that it spills to."""

    def __init__(self, **limits: int) -> None:
        self.topology = topology(**limits)
        self.cell = Cell(Policy.compile(self.topology), 0)
        self.topic = Topic()
        self.log = self.owner(GENERATION)

    def owner(self, generation: int, claims: LogEpochs = NOBODY) -> SpillLog:
        """Whoever has the partition from here on."""
        log = SpillLog(self.topology, CODEC, cast("Any", self.topic))
        log.claim(0, (claims, len(self.topic.rows)), generation)
        return log

    def cut(self, now_ms: int, position: int = 1) -> list[tuple[str, bool]]:
        """What a cut writes: the task's name, and whether its record stands."""
        before = len(self.topic.rows)
        self.log.write({0: self.cell}, {TopicPartition("tasks.submitted.v1", 0): position}, now_ms)
        names = {key_of(("default", name)): name for name in ("a", "b", "c", "d", "big")}
        return [(names[key or b""], value is not None) for _, key, value in self.topic.rows[before:]]

    def recovered(self) -> Cell:
        """Made anew of the topic alone."""
        cell = Cell(self.cell.policy, 0)
        fold = Fold(cell)
        records = latest([self.topic.batch()]).get(0, [])
        if records:
            fold.spilled(spilled_of(CODEC, records, NOBODY))
        fold.resume(T0_MS)
        return cell


def test_a_task_is_spilled_once_it_is_old_and_holds_the_low_watermark_no_longer() -> None:
    scene = Scene()
    taken_in(scene.cell, [{"task_id": "a"}, {"task_id": "b"}])  # appended at T0 and T0 + 1
    assert scene.cut(T0_MS + AFTER_MS) == []
    assert scene.cell.low_watermark() == T0_MS
    assert scene.cut(T0_MS + AFTER_MS + 1) == [("a", True)]
    assert scene.cell.low_watermark() == T0_MS + 1
    assert scene.cut(T0_MS + AFTER_MS + 2) == [("b", True)]
    assert scene.cell.low_watermark() is None
    assert scene.cut(T0_MS + AFTER_MS + 3) == [], "nothing has changed"
    assert len(scene.cell.spills) == 2


def test_a_task_is_spilled_once_many_have_come_after_it() -> None:
    scene = Scene(spill_after_ms=10**9)
    taken_in(scene.cell, [{"task_id": "a"}])
    assert scene.cut(T0_MS + 10, position=1) == []
    assert scene.cut(T0_MS + 20, position=100) == []
    taken_in(scene.cell, [{"task_id": "b"}], offset=100)
    assert scene.cut(T0_MS + 150, position=101) == [("a", True)]
    assert scene.cell.low_watermark() == T0_MS + 100


def test_the_offsets_that_were_passed_are_remembered_for_no_longer_than_they_tell_anything() -> None:
    spills = Spills(1_000, 10)
    for at in range(5_000):
        spills.old_before_ms(at, T0_MS + at)
    assert len(spills._marks) < 20


def test_what_has_changed_is_written_anew_and_what_is_finished_is_taken_away() -> None:
    scene = Scene()
    taken_in(scene.cell, [{"task_id": "a", "intent": "money"}])
    late = T0_MS + AFTER_MS + 1
    assert scene.cut(late) == [("a", True)]
    answered(scene.cell, "a", late, kind="FAILED", error_class="INTERNAL")
    assert scene.cut(late) == [("a", True)]
    assert scene.recovered().tasks.keys() == scene.cell.tasks.keys()
    assert cast("Task", scene.recovered().tasks["default", "a"]).stamp() == task(scene.cell, "a").stamp()
    answered(scene.cell, "a", late)
    assert not scene.cell.tasks
    assert scene.cut(late) == [("a", False)]
    assert scene.cut(late) == []
    assert not scene.recovered().tasks


def test_a_time_out_is_a_change_and_so_is_a_late_answer() -> None:
    scene = Scene()
    taken_in(scene.cell, [{"task_id": "a", "intent": "money"}])
    late = T0_MS + AFTER_MS + 1
    scene.cut(late)
    slip = task(scene.cell, "a").attempts[1].slip
    scene.cell.tick(T0_MS + slip.timeout_ms + 1_000)
    assert len(task(scene.cell, "a").attempts) == 2
    assert scene.cut(late) == [("a", True)]
    answered(scene.cell, "a", late, attempt=1, cost_microusd=7)
    assert scene.cut(late) == [("a", True)]
    assert cast("Task", scene.recovered().tasks["default", "a"]).cost_microusd == 7


def test_a_record_says_all_that_is_known_of_a_task() -> None:
    scene = Scene()
    whole = {"conversation_id": "c", "labels": {"team": "x"}, "deadline_ms": T0_MS + 60_000, "submitted_at": 5}
    taken_in(scene.cell, [{"task_id": "a", "intent": "money", "value_tier": "HIGH", **whole}])
    answered(scene.cell, "a", attempt=1, answer="Ja", confidence=0.9)
    mine = task(scene.cell, "a")
    mine.closed_seats, mine.conflict_noted = {3}, True
    scene.cut(T0_MS + AFTER_MS + 1)
    [theirs] = scene.recovered().tasks.values()
    for name in ("id", "key", "frame", "datum", "identity", "deadline_ms", "appended_ms", "size", "attempts"):
        assert getattr(theirs, name) == getattr(mine, name), name
    for name in ("closed_seats", "event_ids", "conflict_noted", "cost_microusd", "tokens"):
        assert getattr(theirs, name) == getattr(mine, name), name


def test_the_task_in_a_record_is_the_task_that_is_submitted() -> None:
    assert record("TaskSpilled").arrow.field("task").type == record("TaskDispatched").arrow.field("task").type


def test_tasks_that_stand_in_a_cohort_are_made_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.core.swift.ROWS_MIN", 1)
    scene = Scene()
    taken_in(scene.cell, [{"task_id": name, "intent": "money"} for name in ("a", "b", "c", "d")])
    assert all(isinstance(held, int) for held in scene.cell.tasks.values())
    assert scene.cut(T0_MS + AFTER_MS + 2) == [("a", True), ("b", True)]
    assert scene.cell.low_watermark() == T0_MS + 2
    assert {type(scene.cell.tasks["default", name]) for name in ("a", "b")} == {Task}
    assert list(scene.recovered().tasks) == [("default", "a"), ("default", "b")]
    answered(scene.cell, "a")
    answered(scene.cell, "c")
    assert scene.cut(T0_MS + AFTER_MS + 2) == [("a", False)]


def test_one_that_is_too_large_for_a_record_holds_the_low_watermark() -> None:
    scene = Scene(record_bytes_max=1_024)
    taken_in(scene.cell, [{"task_id": "big", "text": "x" * (CARRIED_MAX * 1_024)}, {"task_id": "b"}])
    late = T0_MS + AFTER_MS + 10
    assert scene.cut(late) == [("b", True)]
    assert scene.cell.low_watermark() == T0_MS
    assert scene.cut(late) == [], "and it is not tried again"
    answered(scene.cell, "big")
    assert scene.cut(late) == [("big", False)], "a null for a key that has no record does no harm"
    assert scene.cell.low_watermark() is None


def test_one_that_becomes_too_large_holds_it_again_and_leaves_no_record_behind() -> None:
    scene = Scene(record_bytes_max=2_048)
    taken_in(scene.cell, [{"task_id": "a", "intent": "money", "value_tier": "HIGH"}])
    late = T0_MS + AFTER_MS + 1
    assert scene.cut(late) == [("a", True)]
    assert scene.cell.low_watermark() is None
    answered(scene.cell, "a", late, attempt=1, answer="x" * 9_000)
    assert scene.cut(late) == []
    assert scene.cell.low_watermark() == T0_MS, "its record is not the whole truth: the logs are read from there"
    answered(scene.cell, "a", late, attempt=2, answer="x" * 9_000)
    assert scene.cut(late) == [("a", False)]


def test_a_cut_writes_only_so_many(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene()
    taken_in(scene.cell, [{"task_id": name} for name in ("a", "b", "c")])
    monkeypatch.setattr(cell_module, "SPILLS_MAX", 2)
    late = T0_MS + AFTER_MS + 10
    assert scene.cut(late) == [("a", True), ("b", True)]
    assert scene.cell.low_watermark() == T0_MS + 2
    assert scene.cut(late) == [("c", True)]


def test_a_cut_writes_only_so_much_but_one_task_at_least(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene()
    taken_in(scene.cell, [{"task_id": name} for name in ("a", "b")])
    monkeypatch.setattr(cell_module, "SPILL_BYTES_MAX", 1)
    late = T0_MS + AFTER_MS + 10
    assert scene.cut(late) == [("a", True)]
    assert scene.cut(late) == [("b", True)]


def test_what_recovery_finds_finished_is_taken_away_by_its_first_cut() -> None:
    scene = Scene()
    taken_in(scene.cell, [{"task_id": "a"}, {"task_id": "b"}])
    late = T0_MS + AFTER_MS + 10
    scene.cut(late)
    heir = Cell(scene.cell.policy, 0)
    fold = Fold(heir)
    fold.spilled(spilled_of(CODEC, latest([scene.topic.batch()])[0], NOBODY))
    ended = answered(scene.cell, "a")
    fold.results(scenes.result_facts(ended), [late] * len(ended))
    fold.resume(late)
    assert list(heir.tasks) == [("default", "b")]
    scene.cell = heir
    assert scene.cut(late) == [("a", False)], "and b is not written again: nothing is new"
    assert heir.low_watermark() is None


def test_a_null_takes_a_record_away_and_the_last_value_counts() -> None:
    rows: list[tuple[int, bytes | None, bytes | None]] = [
        *((0, b"k", b"1"), (1, b"k", b"other"), (0, b"k", b"2"), (0, b"gone", b"3"), (0, b"gone", None)),
    ]
    assert latest([batch_of("t", rows[:2]), batch_of("t", rows[2:])]) == {0: [(0, b"2")], 1: [(1, b"other")]}


def test_what_is_no_record_is_passed_over() -> None:
    found = spilled_of(CODEC, [(0, b"garbage"), (1, b"")], NOBODY)
    assert found.batch.num_rows == 0


class Kafka:
    """Of a consumer, what a recovery asks: every topic is empty but for that of the spilled tasks."""

    def __init__(self, spilled: Batch) -> None:
        self.spilled, self.asked_ms = spilled, dict[str, int]()

    def topics(self, known: str) -> list[str]:
        return [known]

    def watermarks(self, tps: Iterable[TopicPartition]) -> dict[TopicPartition, tuple[int, int]]:
        return {tp: (0, len(self.spilled) if tp.topic == "tasks.spilled.v1" else 100) for tp in tps}

    def offsets_for_times(self, times_ms: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
        self.asked_ms.update({tp.topic: at for tp, at in times_ms.items()})
        return dict.fromkeys(times_ms, 0)

    def read_to_end(self, starts: Mapping[TopicPartition, int], _ends: object, **_limits: float) -> list[Batch]:
        return [self.spilled] if any(tp.topic == "tasks.spilled.v1" for tp in starts) else []


def test_what_a_zombie_spilled_is_not_believed_and_the_logs_are_read_from_where_its_task_began() -> None:
    scene = Scene(clock_skew_margin_ms=0)
    taken_in(scene.cell, [{"task_id": "a"}, {"task_id": "b"}])
    late = T0_MS + AFTER_MS + 1
    assert scene.cut(late) == [("a", True)]
    heir = scene.owner(GENERATION + 1, LogEpochs(scene.log.claims(0)))
    assert scene.cut(late + 1) == [("b", True)], "by whom has lost the partition, and has not noticed"
    kafka = Kafka(scene.topic.batch())
    recovery = Recovery(scene.topology, scene.cell.policy, FileRegistry.load(), {})
    anchor = TopicPartition("tasks.submitted.v1", 0)
    committed = {TopicPartition(topic, 0): (100, "") for topic in recovery.read}
    committed[anchor] = (100, cut_metadata(late, heir.claims(0)))
    found = recovery._recover(cast("Any", kafka), cast("Any", kafka), [0], committed, late)[0]
    assert kafka.asked_ms["orchestrator.events.v1"] == T0_MS + 1, "where b was submitted; the low watermark is later"
    found.fold.resume(late)
    assert list(found.cell.tasks) == [("default", "a")], "the logs, which are empty here, know nothing of b"
    next_heir = scene.owner(GENERATION + 2, found.spilled[0])
    scene.cell, scene.log = found.cell, next_heir
    assert scene.cut(late) == [("b", False)], "and its record does not stay"
    records = latest([scene.topic.batch()])[0]
    assert not spilled_of(CODEC, records, LogEpochs(next_heir.claims(0))).doubtful


def test_an_owner_that_writes_nothing_makes_void_what_its_predecessors_write_later() -> None:
    claims = LogEpochs([(3, 7)]).claimed(9, 8).claimed(9, 9)
    assert claims.since == [(3, 7), (8, 9)]
    assert [claims.is_void(offset, 8) for offset in (8, 9)] == [False, True]
    assert not claims.is_void(9, 9)
    assert LogEpochs().claimed(0, 2).is_void(0, 1)


@pytest.mark.parametrize(
    ("delivers", "log", "is_cut"),
    [
        ([True, True], ["drained", "spill", "drained"], True),
        ([False], ["drained"], False),
        ([True, False], ["drained", "spill", "drained"], False),
    ],
)
def test_a_cut_spills_behind_what_led_to_it_and_ahead_of_its_positions(
    delivers: list[bool], log: list[str], *, is_cut: bool
) -> None:
    scene = Scene()
    taken_in(scene.cell, [{"task_id": "a"}])
    scene.topic.delivers = delivers
    cuts = Cuts("tasks.submitted.v1", cast("Any", scene.topic), Epochs(), scene.log.claims)
    at = TopicPartition("tasks.submitted.v1", 0)
    cuts.positions[at] = 1
    now_ms = T0_MS + AFTER_MS + 1

    def write(positions: Mapping[TopicPartition, int]) -> bool:
        return scene.log.write({0: scene.cell}, positions, now_ms)

    cut = cuts.take(write, lambda: {0: scene.cell.low_watermark() or now_ms}, 0.0)
    assert scene.topic.log == log
    assert cut == ({at: (1, cut_metadata(now_ms, [(-1, GENERATION)]))} if is_cut else None)


def test_both_deliveries_of_a_cut_share_one_time() -> None:
    scene = Scene()
    taken_in(scene.cell, [{"task_id": "a"}])
    cuts = Cuts("tasks.submitted.v1", cast("Any", scene.topic), Epochs(), scene.log.claims)

    def spill(_positions: Mapping[TopicPartition, int]) -> bool:
        time.sleep(0.02)
        return True

    cuts.take(spill, lambda: {0: T0_MS}, 5.0)
    first_s, second_s = scene.topic.waits_s
    assert first_s == 5.0
    assert second_s < 5.0 - 0.01
