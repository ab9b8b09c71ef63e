"""Asks every invariant about a run that has come to its end. I/O: none."""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Hashable, Mapping, Sequence
from math import ceil
from typing import TYPE_CHECKING, NamedTuple, TypeAlias, TypeVar

from loadtest import invariants
from loadtest.invariants import Mode, TaskKey
from schemas.errors import ConfigurationError, PointsmanError
from streams.processors.reading import RESUME_BELOW
from streams.processors.worker import InDoubtError
from tests.simulation import judge_cuts, judge_folds, judge_hosts, judge_memory, judge_times
from tests.simulation.evidence import Given, Row, key_of
from tests.simulation.facts import Facts, Found
from tests.simulation.scenario import WRITERS, Scenario
from tests.simulation.world import T0_MS

if TYPE_CHECKING:
    from tests.simulation.run import Run

Fact = TypeVar("Fact")
Submitted: TypeAlias = Sequence[tuple[int, Row]]
"""Valid records of the submitted topic, each with its partition's number."""

SAID_MAX = 5


class Breach(NamedTuple):
    """An invariant that does not hold, and what breaks it."""

    code: str
    what: str

    def __str__(self) -> str:
        return f"{self.code}: {self.what}"


def judge(run: Run) -> list[Breach]:
    """Every breach of the run; none, where it is sound."""
    facts = Facts(run.evidence)
    checks: tuple[Callable[[Run, Facts], Found], ...] = (
        _results,
        _questions,
        judge_cuts.of_workers,
        judge_cuts.of_hosts,
        judge_cuts.of_stores,
        judge_times.of_times,
        judge_hosts.of_hosts,
        judge_folds.of_folds,
        judge_memory.of_memory,
        _ends,
    )
    return [
        Breach(code, f"{len(found)}, such as {', '.join(map(str, found[:SAID_MAX]))}")
        for check in checks
        for code, found in check(run, facts)
        if found
    ]


def _results(run: Run, facts: Facts) -> Found:
    ends = [end for _, end in facts.ended]
    yield "P1", [f"{key} is lost" for key in invariants.lost(facts.submissions, ends)]
    own = _owners(run, facts.ended, lambda end: end[:2])
    yield "P1", [f"{key} is answered twice" for key in invariants.duplicated(own)]
    first_ms: dict[TaskKey, int] = {}
    for row, end in facts.ended:
        first_ms[end[:2]] = min(row.at_ms, first_ms.get(end[:2], row.at_ms))
    begun_ms = dict(first_ms)
    for row, asked in facts.dispatched:
        begun_ms[asked[:2]] = min(row.at_ms, begun_ms.get(asked[:2], row.at_ms))
    live_ms = lives_ms(facts.submitted, begun_ms, run.evidence.given)
    due_ms = _due_ms(run.scenario, facts.submitted, first_ms, live_ms)
    yield "P1", [f"{key} is late" for key in invariants.late(first_ms, due_ms, int(run.scenario.bound_s * 1000))]


def _owners(run: Run, written: Sequence[tuple[Row, Fact]], same: Callable[[Fact], Hashable]) -> list[Fact]:
    """P5: who was expelled may have left one more, but not with transactions. What owners wrote, and what they had
    written as zombies: of their own output they must know."""
    if run.scenario.mode is Mode.EXACTLY_ONCE:
        return [fact for _, fact in written]
    known = {(row.writer, same(fact)) for row, fact in written if not row.is_zombie}
    return [fact for row, fact in written if not row.is_zombie or (row.writer, same(fact)) in known]


def _due_ms(
    scenario: Scenario, submitted: Submitted, ended_ms: Mapping[TaskKey, int], live_ms: Mapping[TaskKey, int]
) -> Mapping[TaskKey, int]:
    """When each task's deadline was, and all faults were over. A deadline counts from when its task can be read."""
    topology, healed_ms = scenario.topology, T0_MS + int(scenario.healed_s * 1000)
    begin_ms = begins_ms(submitted, ended_ms, RESUME_BELOW * topology.limits.inflight_tasks_max)
    found: dict[TaskKey, int] = {}
    for _, row in submitted:
        key, route = key_of(row), topology.routes.get(row.fields["intent"] or topology.default_route)
        given_ms = (route.deadline_ms if route else None) or topology.defaults.deadline_ms
        found.setdefault(key, max(max(begin_ms[key], live_ms[key]) + given_ms, healed_ms))
    return found


def lives_ms(
    submitted: Submitted, begun_ms: Mapping[TaskKey, int], given: Mapping[int, Sequence[Given]]
) -> Mapping[TaskKey, int]:
    """From when on each task had a worker that reads what is new: later than it came, where its partition was given
    away before anything was made of it, and had to be read back."""
    found: dict[TaskKey, int] = {}
    for number, row in submitted:
        key = key_of(row)
        until_ms = begun_ms.get(key, row.at_ms)
        lives = [each.live_ms for each in given[number] if each.live_ms is not None and each.at_ms < until_ms]
        found.setdefault(key, max([row.at_ms, *lives]))
    return found


def begins_ms(submitted: Submitted, ended_ms: Mapping[TaskKey, int], room: float) -> Mapping[TaskKey, int]:
    """When each task could be read: once fewer than `room` of those before it in its partition had no result.

    At a bound new tasks wait in Kafka. `submitted` has the rows of each partition in the order of their offsets.
    """
    found: dict[TaskKey, int] = {}
    ends_ms: dict[int, list[int]] = {}
    for number, row in submitted:
        key = key_of(row)
        if key in found:
            continue
        before_ms = ends_ms.setdefault(number, [])
        enough = len(before_ms) - (ceil(room) - 1)
        found[key] = max(row.at_ms, before_ms[enough - 1]) if enough > 0 else row.at_ms
        if key in ended_ms:  # what is lost is told by itself
            insort(before_ms, ended_ms[key])
    return found


def _questions(run: Run, facts: Facts) -> Found:
    ends = [end for _, end in facts.ended]
    every = [dispatch for _, dispatch in facts.dispatched]
    own = _owners(run, facts.dispatched, lambda dispatch: (dispatch[:2], dispatch.agent_id, dispatch.stage))
    yield "A1", invariants.unasked(facts.submissions, every, facts.outcomes, ends)
    yield "A2", invariants.asked_twice(own)
    expelled = [dispatch for row, dispatch in facts.dispatched if row.is_zombie]
    yield "A3", invariants.out_of_order(facts.submissions, own, expelled)
    calls = [(call.agent, (call.tenant, call.task_id)) for call in run.stage.calls]
    yield "E1", invariants.run_twice(calls, WRITERS)


def _ends(run: Run, facts: Facts) -> Found:
    yield "P11", [f"{name} did not end when it was told to" for name in run.overran]
    yield "Q1", run.evidence.unrest(run.deployment)
    yield "Q2", [f"{name}: {error!r}" for name, error in run.deployment.failures if not _is_explained(run, error)]


def _is_explained(run: Run, error: BaseException) -> bool:
    """A broker that is gone, refuses or keeps a process waiting may end it; nothing else may."""
    if isinstance(error, ConfigurationError) or not isinstance(error, PointsmanError):
        return False
    faults, weather = {fault.act for fault in run.scenario.faults}, run.scenario.weather
    if faults & {"outage", "refuse", "pause"} or weather.stuck_share:
        return True
    # Slow answers, one behind the other, can keep the last output of a partition for longer than it is waited for; so
    # can what is cut off or not heard, and has to be sent again.
    unheard = weather.cut_share or weather.lost_answers_share or weather.moves_share or weather.late_share
    return isinstance(error, InDoubtError) and bool(weather.slow_share or unheard)
