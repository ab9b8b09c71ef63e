"""Asks every invariant about a run that has come to its end. I/O: none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Hashable, Iterator, Mapping, Sequence
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from loadtest import invariants
from loadtest.invariants import Dispatched, Ended, GivenUp, Mode, Outcome, Place, Submission, TaskKey, Traces
from schemas.deadletter import parse
from schemas.errors import ConfigurationError, PointsmanError
from schemas.ids import fact_id
from schemas.topology import Topology
from streams.core.cell import Cell
from streams.core.effects import Effects
from streams.core.policy import Policy
from streams.core.recovery import Fold
from streams.core.task import Task
from streams.processors.recovery import Recovery
from tests.simulation.deployment import compiled, shared_registry
from tests.simulation.evidence import Evidence, Row, Seen, Shown, key_of, key_of_event
from tests.simulation.scenario import WRITERS
from tests.simulation.world import T0_MS

if TYPE_CHECKING:
    from tests.simulation.run import Run

Fact = TypeVar("Fact")
OUTCOMES = frozenset({"COMPLETED", "FAILED", "REFUSED"})
HOSTS_OWN = frozenset({"TIMEOUT", "UNKNOWN_OUTCOME"})
"""Error classes by which the host itself says that an attempt is over."""

OVERDUE = frozenset({("CASCADED", "TIMED_OUT"), ("ESCALATED", "WRITE_UNCERTAIN")})
FOR_WANT = frozenset({"NO_QUORUM", "FALLBACK_ANSWER", "CHAIN_EXHAUSTED"})
"""Reasons of results that had to do without an answer, or with one too few."""

TWICE_SHARE = 0.2
"""P7: how often the same logs are folded a second time."""

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
    checks: tuple[Callable[[Run, Facts], Iterator[tuple[str, Sequence[Hashable]]]], ...] = (
        _results,
        _questions,
        _cuts,
        _host_cuts,
        _times,
        _folds,
        _history,
        _ends,
    )
    return [
        Breach(code, f"{len(found)}, such as {', '.join(map(str, found[:SAID_MAX]))}")
        for check in checks
        for code, found in check(run, facts)
        if found
    ]


class Facts:
    """The facts that the logs hold, as the invariants want them."""

    def __init__(self, evidence: Evidence) -> None:
        topics = evidence.topics
        self.submitted = evidence.all(topics.submitted)
        self.submissions = [
            Submission(*key_of(row), row.fields["conversation_id"], number, row.offset)
            for number, row in self.submitted
        ]
        self.dispatched = [(row, _dispatched(number, row)) for number, row in evidence.all(*topics.inboxes)]
        outcomes = [(row, _outcome(row)) for _, row in evidence.all(*topics.logs) if row.fields["kind"] in OUTCOMES]
        self.outcomes = [outcome for _, outcome in outcomes]
        self.valid = [pair for pair in outcomes if not pair[0].is_void]
        self.void = [row for row, _ in outcomes if row.is_void]
        self.ended = [(row, Ended(*key_of(row))) for _, row in evidence.all(topics.results)]
        numbers = range(evidence.topology.partitions)
        self.invalid = {number: evidence.invalid(topics.submitted, number) for number in numbers}
        self.buried = [
            (number, record.offset, parse(record.headers).origin)
            for number in numbers
            for record in evidence.records(topics.dead, number)
        ]


def _dispatched(number: int, row: Row) -> Dispatched:
    slip, task = row.fields["slip"], row.fields["task"]
    return Dispatched(
        task["tenant"],
        task["task_id"],
        slip["agent_id"],
        slip["attempt"],
        slip["stage"],
        len(slip["panel"]),
        number,
        row.offset,
        slip["routed_at"],
    )


def _outcome(row: Row) -> Outcome:
    slip, task = row.fields["slip"], row.fields["task"]
    return Outcome(task["tenant"], task["task_id"], slip["agent_id"], slip["attempt"], slip["stage"])


# ---------------------------------------------------------------------- P1, A1, A2, A3, E1


def _results(run: Run, facts: Facts) -> Iterator[tuple[str, Sequence[Hashable]]]:
    ends = [end for _, end in facts.ended]
    yield "P1", [f"{key} is lost" for key in invariants.lost(facts.submissions, ends)]
    own = _owners(run, facts.ended, lambda end: end[:2])
    yield "P1", [f"{key} is answered twice" for key in invariants.duplicated(own)]
    first_ms: dict[TaskKey, int] = {}
    for row, end in facts.ended:
        first_ms[end[:2]] = min(row.at_ms, first_ms.get(end[:2], row.at_ms))
    due_ms = _due_ms(run.scenario.topology, facts, T0_MS + int(run.scenario.healed_s * 1000))
    yield "P1", [f"{key} is late" for key in invariants.late(first_ms, due_ms, int(run.scenario.bound_s * 1000))]


def _owners(run: Run, written: Sequence[tuple[Row, Fact]], same: Callable[[Fact], Hashable]) -> list[Fact]:
    """P5: who was expelled may have left one more, but not with transactions. What owners wrote, and what they had
    written as zombies: of their own output they must know."""
    if run.scenario.mode is Mode.EXACTLY_ONCE:
        return [fact for _, fact in written]
    known = {(row.writer, same(fact)) for row, fact in written if not row.is_zombie}
    return [fact for row, fact in written if not row.is_zombie or (row.writer, same(fact)) in known]


def _due_ms(topology: Topology, facts: Facts, healed_ms: int) -> Mapping[TaskKey, int]:
    """When each task's deadline was, and all faults were over."""
    found: dict[TaskKey, int] = {}
    for _, row in facts.submitted:
        route = topology.routes.get(row.fields["intent"] or topology.default_route)
        given_ms = (route.deadline_ms if route else None) or topology.defaults.deadline_ms
        found.setdefault(key_of(row), max(row.at_ms + given_ms, healed_ms))
    return found


def _questions(run: Run, facts: Facts) -> Iterator[tuple[str, Sequence[Hashable]]]:
    ends = [end for _, end in facts.ended]
    every = [dispatch for _, dispatch in facts.dispatched]
    own = _owners(run, facts.dispatched, lambda dispatch: (dispatch[:2], dispatch.agent_id, dispatch.stage))
    yield "A1", invariants.unasked(facts.submissions, every, facts.outcomes, ends)
    yield "A2", invariants.asked_twice(own)
    yield "A3", invariants.out_of_order(facts.submissions, own)
    calls = [(call.agent, (call.tenant, call.task_id)) for call in run.stage.calls]
    yield "E1", invariants.run_twice(calls, WRITERS)


# ---------------------------------------------------------------------- P3, P5


def _cuts(run: Run, facts: Facts) -> Iterator[tuple[str, Sequence[Hashable]]]:
    margin_ms = run.scenario.topology.limits.clock_skew_margin_ms
    passed: list[str] = []
    watermarks: list[str] = []
    for seen in run.evidence.cuts:
        traces = _traces(run.evidence, facts, seen)
        number = seen.cut.partition
        passed += invariants.passed_over(seen.cut, facts.submissions, facts.invalid[number], traces)
        watermarks += invariants.watermark_passed(seen.cut, facts.submissions, traces, margin_ms)
    yield "P3", [f"passed over: {each}" for each in passed]
    yield "P3", [f"a low watermark too late for {each}" for each in watermarks]
    yield "P4", [each for shown in run.evidence.shown for each in _ahead(run.evidence, facts, shown)]
    yield "P5", run.evidence.fallen
    unheard = {(key_of_event(row), row.fields["payload"]) for row in facts.void if row.fields["payload"] is not None}
    ends = [(end[:2], row.fields["payload"]) for row, end in facts.ended]
    yield "P5", [f"{key} rests on what a zombie wrote" for key, payload in ends if (key, payload) in unheard]
    wanted = [(number, at) for number, offsets in facts.invalid.items() for at in offsets]
    submitted = run.evidence.topics.submitted
    put_away = {
        (origin.partition, origin.offset) for _, _, origin in facts.buried if origin and origin.topic == submitted
    }
    part = invariants.compare("dead", wanted, put_away)
    yield "A4", [*part.missing, *part.surplus]


def _ahead(evidence: Evidence, facts: Facts, shown: Shown) -> Sequence[TaskKey]:
    """Tasks whose outputs readers of committed records saw, and that no position had passed."""
    outputs = {}
    for topic, end in shown.ends.items():
        for row in evidence.rows(topic, shown.number):
            if row.offset < end:
                task = row.fields.get("task", row.fields)
                outputs[task["tenant"], task["task_id"]] = (shown.number, row.offset)
    inputs: dict[TaskKey, Place] = {}
    for each in facts.submissions:
        inputs.setdefault(each[:2], (each.partition, each.offset))
    return invariants.uncommitted_outputs(outputs, inputs, {shown.number: shown.position})


def _host_cuts(run: Run, facts: Facts) -> Iterator[tuple[str, Sequence[Hashable]]]:
    evidence, found = run.evidence, []
    for cut in evidence.host_cuts:
        rows = evidence.rows(evidence.topics.events(cut.agent), cut.number)
        valid = [row for row in rows if row.offset < cut.end and not row.is_void]
        outcomes = {_outcome(row) for row in valid if row.fields["kind"] in OUTCOMES}
        inbox = evidence.rows(evidence.topics.inbox(cut.agent), cut.number)
        found += invariants.unanswered(cut.position, [_dispatched(cut.number, row) for row in inbox], outcomes)
    yield "P3", [f"unanswered: {each}" for each in found]


# ---------------------------------------------------------------------- T1, A5


def _times(run: Run, facts: Facts) -> Iterator[tuple[str, Sequence[Hashable]]]:
    topics, evidence = run.evidence.topics, run.evidence
    came_ms: dict[tuple[TaskKey, int], list[int]] = {}
    for row, outcome in facts.valid:
        if row.fields["error_class"] not in HOSTS_OWN:
            came_ms.setdefault((outcome[:2], outcome.attempt), []).append(row.at_ms)
    notes = evidence.all(topics.orchestrator)
    given_up, handed_on = [], set()
    for _, row in notes:
        handed_on.add(((row.fields["tenant"], row.fields["task_id"]), row.fields["attempt"]))
        if (row.fields["kind"], row.fields["reason"]) in OVERDUE:
            key = row.fields["tenant"], row.fields["task_id"]
            given_up.append(
                GivenUp(*key, row.fields["at"] // 1000, tuple(came_ms.get((key, row.fields["attempt"]), ())))
            )
    asked: dict[TaskKey, set[int]] = {}
    for _, dispatch in facts.dispatched:
        asked.setdefault(dispatch[:2], set()).add(dispatch.attempt)
    for row, end in facts.ended:
        attempts = asked.get(end[:2], set())
        if row.fields["status"] == "EXPIRED" and all((end[:2], each) in came_ms for each in attempts):
            came = tuple(at for each in attempts for at in came_ms[end[:2], each])
            given_up.append(GivenUp(*end, row.fields["decided_at"] // 1000, came))
    given_up += _left_out(run, facts, handed_on)
    yield "T1", invariants.unread(given_up, int(run.scenario.reading_s * 1000))
    noted = [row.fields["event_id"] for _, row in notes if row.fields["kind"] == "DUPLICATE"]
    yield "A5", invariants.own_repeats(noted, set(_repeats(facts)))


def _left_out(run: Run, facts: Facts, handed_on: Container[tuple[TaskKey, int]]) -> Iterator[GivenUp]:
    """Answers that came in time, and are in no result that says that there were not enough. An attempt that was handed
    on before is judged by the note that says so."""
    skew_ms, confidence_min = int(run.scenario.skew_s * 1000), run.scenario.topology.answers.confidence_min
    results = {end[:2]: row for row, end in facts.ended if not row.is_zombie and row.fields["reason"] in FOR_WANT}
    attempts = {(end[:2], end.attempt): row for row, end in facts.dispatched if not row.is_zombie}
    for row, outcome in facts.valid:
        fields = row.fields
        result, asked = results.get(outcome[:2]), attempts.get((outcome[:2], outcome.attempt))
        if result is None or asked is None or fields["kind"] != "COMPLETED":
            continue
        if (outcome[:2], outcome.attempt) in handed_on:
            continue
        slip = asked.fields["slip"]
        in_time = row.at_ms + 2 * skew_ms <= slip["routed_at"] // 1000 + slip["timeout_ms"]
        good = (fields["confidence"] is None or fields["confidence"] >= confidence_min) and slip["stage"] == "WORK"
        voices = {vote["agent_id"] for vote in result.fields["votes"]} | set(result.fields["agents"])
        if in_time and good and outcome.agent_id not in voices:
            yield GivenUp(*outcome[:2], result.fields["decided_at"] // 1000, (row.at_ms,))


def _repeats(facts: Facts) -> Iterator[str]:
    """Ids of the notes that may say of a submission that it is a repeat."""
    known: set[TaskKey] = set()
    for each in sorted(facts.submissions, key=lambda each: each.offset):
        if each[:2] in known:
            yield fact_id(*each[:2], "DUPLICATE", each.partition, each.offset)
        known.add(each[:2])


def _traces(evidence: Evidence, facts: Facts, seen: Seen) -> Traces:
    number, topics = seen.cut.partition, evidence.topics
    first_ms: dict[TaskKey, int] = {}
    for agent in evidence.topology.agents:
        inbox = topics.inbox(agent)
        for row in evidence.rows(inbox, number):
            if row.offset < seen.ends[inbox]:
                task = row.fields["task"]
                key = task["tenant"], task["task_id"]
                first_ms[key] = min(row.at_ms, first_ms.get(key, row.at_ms))
    results = evidence.rows(topics.results, number)
    ended = {key_of(row) for row in results if row.offset < seen.ends[topics.results]}
    buried = {
        origin.offset
        for at, offset, origin in facts.buried
        if origin and at == number and offset < seen.ends[topics.dead]
    }
    return Traces(first_ms, ended, buried)


# ---------------------------------------------------------------------- P2, P7


def _folds(run: Run, facts: Facts) -> Iterator[tuple[str, Sequence[Hashable]]]:
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
            recovery._fold(batch, {number: fold})
    if rng is not None:
        for name in names:
            batch = evidence.batch(name, number, ends.get(name, 1 << 62))
            if len(batch) and rng.random() < 0.5:
                recovery._fold(batch, {number: fold})
    effects = fold.resume(now_ms)
    return _state(cell, effects, policy)


def _state(cell: Cell, effects: Effects, policy: Policy) -> State:
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
    for key in cell.finished._ended:
        state["finished", key] = sorted(set(cell.finished._ended[key][1]))
    decided = [("dispatch", each.slip, each.key, each.datum) for each in effects.dispatches]
    decided += [("note", each) for each in effects.notes]  # type: ignore[misc]
    decided += [("result", each) for each in effects.results]  # type: ignore[misc]
    for what, times in Counter(map(repr, decided)).items():
        state["emits", what] = times
    return state


# ---------------------------------------------------------------------- P8


def _history(run: Run, facts: Facts) -> Iterator[tuple[str, Sequence[Hashable]]]:
    """At rest every fact once; and at no time a position past one that the history did not hold."""
    evidence = run.evidence
    if not any(slot.kind == "store" for slot in run.deployment.slots):
        return
    for kind, found in evidence.log().facts().items():
        part = invariants.compare(kind, found, run.house.facts(kind))
        yield "P8", [(kind, what) for what in (*part.missing, *part.surplus, *part.repeated)]
    stored_at: dict[tuple[str, int, int], int] = {}
    for at, place in enumerate(run.house.placed):
        stored_at.setdefault(place, at)
    ahead = [
        f"{cut.topic}[{cut.number}] at offset {row.offset}"
        for cut in evidence.store_cuts
        if evidence.topics.record_of(cut.topic) is not None
        for row in evidence.rows(cut.topic, cut.number)
        if row.offset < cut.position and stored_at.get((cut.topic, cut.number, row.offset), cut.rows) >= cut.rows
    ]
    yield "P8", [f"committed before it was stored: {each}" for each in ahead]


# ---------------------------------------------------------------------- P11, Q1, Q2


def _ends(run: Run, facts: Facts) -> Iterator[tuple[str, Sequence[Hashable]]]:
    yield "P11", [f"{name} did not end when it was told to" for name in run.overran]
    yield "Q1", run.evidence.unrest(run.deployment)
    yield "Q2", [f"{name}: {error!r}" for name, error in run.deployment.failures if not _is_explained(run, error)]


def _is_explained(run: Run, error: BaseException) -> bool:
    """A broker that is gone, refuses or keeps a process waiting may end it; nothing else may."""
    if isinstance(error, ConfigurationError) or not isinstance(error, PointsmanError):
        return False
    faults = {fault.act for fault in run.scenario.faults}
    return bool(faults & {"outage", "refuse", "pause"} or run.scenario.weather.stuck_share)
