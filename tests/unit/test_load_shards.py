"""An audit that goes through a log part by part finds what it finds in the whole, on whichever side of a border."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from console.load.audit import hashes_of, keys_of
from loadtest import sharded_log, spill
from loadtest.column_audit import ColumnAudit, Tally, audit_columns, kept, lined, overtaken
from loadtest.column_log import SCHEMAS, ColumnLog, hashed
from loadtest.decisions import Lives
from loadtest.measures import Meter, measured
from loadtest.sharded_log import Parts, ShardedLog
from loadtest.spill import Spill, shard_of
from tests.unit.test_load_columns import CODEC, SLIP, TOPICS, Topic, play, read

TASKS = 64


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four tasks to a part, a dozen rows to a file: borders everywhere."""
    monkeypatch.setattr(sharded_log, "TASKS", 4)
    monkeypatch.setattr(spill, "ROWS", 12)


def sharded(folder: Path, topics: Iterable[Topic], tasks: int, only: pl.Series | None = None) -> ShardedLog:
    log = ShardedLog(TOPICS, CODEC, folder, tasks, only)
    for topic in topics:
        for batch in topic.batches(CODEC):
            # As a consumer has them: some at a time.
            for start in range(0, len(batch), 5):
                log.take(batch.take(np.arange(start, min(start + 5, len(batch)))))
    return log


def audit_of(log: ShardedLog, sent: pl.Series | None = None) -> ColumnAudit:
    tally, lines = Tally(), log.lines()
    parts = None if sent is None else Parts(sent, log.shards)
    for number, part in enumerate(log.parts()):
        tally.add(part, None if parts is None else parts[number])
        lines.add("lines", lined(part))
    return tally.audit(overtaken(lines.frame("lines", number) for number in range(lines.shards)), log.invalid, set())


def lives_of(parts: Iterable[ColumnLog]) -> Lives:
    lives = Lives()
    for part in parts:
        lives.add(part)
    return lives


@pytest.mark.parametrize("seeds", [range(start, start + 40) for start in (0, 40)])
def test_it_finds_in_parts_what_it_finds_in_the_whole(seeds: range, tmp_path: Path) -> None:
    found = dict.fromkeys(("lost", "duplicated", "out_of_order", "unasked", "asked_twice"), 0)
    for seed in seeds:
        topics = play(seed)
        whole, _ = read(topics)
        log = sharded(tmp_path, topics, 20)
        assert log.shards == 5
        one, other = audit_columns(whole), audit_of(log)
        for name in found:
            assert one.breaches[name].count == other.breaches[name].count, (seed, name)
            found[name] += one.breaches[name].count
        assert (one.submitted, one.accepted, one.results) == (other.submitted, other.accepted, other.results)
        assert (one.dispatches, one.events, one.notes) == (other.dispatches, other.events, other.notes)
        first, second = lives_of([whole]), lives_of(log.parts())
        assert first.kinds().equals(second.kinds()), seed
        assert (first.tasks, first.misled.count) == (second.tasks, second.misled.count)
        for kind in SCHEMAS:
            assert kept(whole.frames[kind]["fact"], log.facts(kind, of_tasks=False)).missing == 0
            assert sorted(whole.frames[kind]["fact"]) == sorted(log.facts(kind, of_tasks=False))
        meter = Meter()
        for part in log.parts():
            meter.add(part)
        one_measure, other_measure = measured(whole), meter.measured()
        for name in ("events", "asked", "done", "statuses"):
            assert getattr(one_measure, name).equals(getattr(other_measure, name)), (seed, name)
        assert (one_measure.records, one_measure.bytes) == (other_measure.records, other_measure.bytes)
        assert one_measure.first_dispatch_ms == other_measure.first_dispatch_ms
        assert one_measure.ended.sort("sent_ms", "took_ms").equals(other_measure.ended.sort("sent_ms", "took_ms"))
        log.close()
    assert all(found.values()), found
    assert list(tmp_path.iterdir()) == []


class Sound:
    """A run in which all is well: each task has a conversation with the one behind it, one dispatch and one result."""

    def __init__(self) -> None:
        self.submitted, self.results = Topic(TOPICS.submitted, "TaskSubmitted"), Topic(TOPICS.results, "TaskResult")
        self.inbox = Topic(TOPICS.inbox("alpha"), "TaskDispatched")
        for number in range(TASKS):
            who = self.who(number)
            slip = {**SLIP, "agent_id": "alpha", "attempt": 1, "stage": "WORK", "panel": [], "routed_at": number}
            self.submitted.rows[0].append({**who, "text": "x", "submitted_at": number})
            self.inbox.rows[0].append({"slip": slip, "task": {**who, "text": "x"}})
            self.results.rows[0].append(self.result(who, number))

    @staticmethod
    def who(number: int) -> dict[str, Any]:
        return {"task_id": f"t{number:02}", "tenant": "default", "conversation_id": f"c{number // 2}"}

    @staticmethod
    def result(who: dict[str, Any], at: int) -> dict[str, Any]:
        return {**who, "status": "COMPLETED", "reason": "ANSWERED", "submitted_at": at, "decided_at": at + 5}

    @property
    def topics(self) -> list[Topic]:
        return [self.submitted, self.inbox, self.results]


def keys() -> pl.Series:
    rows = pl.DataFrame([{name: Sound.who(number)[name] for name in ("tenant", "task_id")} for number in range(TASKS)])
    return rows.select(key=hashed("tenant", "task_id"))["key"]


def victims() -> list[int]:
    """The first and the last task of each part, as the parts have them."""
    shard = shard_of(keys().to_numpy(), TASKS // 4)
    found = [np.flatnonzero(shard == number) for number in range(TASKS // 4)]
    return sorted({int(each) for own in found if len(own) for each in (own[0], own[-1])})


def lose(run: Sound, number: int) -> None:
    del run.results.rows[0][number]


def copy(run: Sound, number: int) -> None:
    run.results.rows[0].append(run.results.rows[0][number])


def swap(run: Sound, number: int) -> None:
    """The dispatches of a task and the other one of its conversation change places."""
    rows, first = run.inbox.rows[0], number // 2 * 2
    rows[first], rows[first + 1] = rows[first + 1], rows[first]


def ask_again(run: Sound, number: int) -> None:
    run.inbox.rows[0].insert(number, run.inbox.rows[0][number])


def forget(run: Sound, number: int) -> None:
    del run.submitted.rows[0][number]


FAULTS: dict[str, tuple[Callable[[Sound, int], None], str]] = {
    "a loss": (lose, "lost"),
    "a copy": (copy, "duplicated"),
    "an order fault": (swap, "out_of_order"),
    "a second question": (ask_again, "asked_twice"),
    "an answer to nobody": (forget, "unasked"),
}


def test_a_run_in_which_all_is_well_is_sound_in_parts(tmp_path: Path) -> None:
    with_all = sharded(tmp_path, Sound().topics, TASKS)
    assert with_all.shards == 16
    assert audit_of(with_all, keys()).sound
    assert lives_of(with_all.parts()).kinds()["len"].to_list() == [TASKS]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found_on_each_side_of_each_border(fault: str, tmp_path: Path) -> None:
    break_it, name = FAULTS[fault]
    for number in victims():
        run = Sound()
        break_it(run, number)
        audit = audit_of(sharded(tmp_path, run.topics, TASKS), keys())
        found = {each: breach.count for each, breach in audit.breaches.items() if breach.count}
        expected = {name: 1} if name != "unasked" else {"unasked": 1, "unrecorded": 1}
        assert found == expected, number
        # Of two that changed places the earlier one is told of.
        wronged = number // 2 * 2 if fault == "an order fault" else number
        assert audit.breaches[name].keys == (keys()[wronged],)


def test_a_decision_that_is_another_is_a_life_of_its_own_on_each_side_of_each_border(tmp_path: Path) -> None:
    """The judge is shown each kind of life: one task decided otherwise is never hidden among those decided well."""
    for number in victims():
        run = Sound()
        row = run.results.rows[0][number]
        run.results.rows[0][number] = {**row, "status": "ESCALATED", "reason": "NO_CONSENSUS"}
        log = sharded(tmp_path, run.topics, TASKS)
        kinds = lives_of(log.parts()).kinds().sort("len")
        assert kinds["len"].to_list() == [1, TASKS - 1]
        assert kinds["key"][0] == keys()[number]
        # And all its records can be read again.
        places = log.places(kinds["key"].head(1))
        assert {kind: frame["offset"].to_list() for kind, frame in places.items()} == {
            "tasks": [number],
            "dispatches": [number],
            "agent_events": [],
            "results": [number],
            "orchestrator_events": [],
        }


def test_a_result_of_another_submission_is_misattributed_on_each_side_of_each_border(tmp_path: Path) -> None:
    for number in victims():
        run = Sound()
        run.results.rows[0][number] = {**run.results.rows[0][number], "submitted_at": 1_000}
        misled = lives_of(sharded(tmp_path, run.topics, TASKS).parts()).misled
        assert (misled.count, misled.keys) == (1, (keys()[number],))


def test_what_the_history_lacks_or_repeats_is_counted_on_each_side_of_each_border(tmp_path: Path) -> None:
    facts = sharded(tmp_path, Sound().topics, TASKS).facts("results", of_tasks=True)
    for number in victims():
        fact = keys()[number]
        assert kept(facts, facts.filter(facts != fact)).missing == 1
        assert kept(facts.filter(facts != fact), facts).surplus == 1
        assert kept(facts, pl.concat([facts, facts.filter(facts == fact)])).repeated == 1
    assert kept(facts, facts.shuffle(1)).complete


def test_of_a_deployment_that_serves_others_the_runs_own_tasks_count_alone(tmp_path: Path) -> None:
    mine = keys().gather(victims()[:7])
    log = sharded(tmp_path, Sound().topics, TASKS, mine)
    audit = audit_of(log, mine)
    assert (audit.sound, audit.accepted) == (True, 7)
    assert sorted(log.facts("results", of_tasks=True)) == sorted(mine)


def test_what_is_added_comes_back_in_its_order_whatever_was_written_between(tmp_path: Path) -> None:
    log = Spill(tmp_path, 3, {"a": {"key": pl.UInt64, "text": pl.String}}, by="key")
    rows = [(number % 7 if number % 5 else None, f"r{number}") for number in range(40)]
    for start in range(0, 40, 4):
        log.add("a", pl.DataFrame(rows[start : start + 4], schema={"key": pl.UInt64, "text": pl.String}, orient="row"))
        log.frame("a", 0)
    for shard in range(3):
        mine = [row for row in rows if (row[0] or 0) % 3 == shard]
        assert log.frame("a", shard).rows() == mine
        assert log.frame("a", shard, ("text",))["text"].to_list() == [text for _, text in mine]


def test_ids_are_hashed_some_at_a_time_as_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("console.load.audit.CHUNK", 7)
    for tasks in (0, 6, 7, 8, 30):
        assert hashes_of("s1", tasks).to_list() == keys_of("s1", tasks)["key"].to_list()
