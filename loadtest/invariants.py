"""What must hold of every run: each invariant named, stated once, and counted from what the topics say.

The simulation, the chaos run and the audit of a load test all ask here. What they know differs: the simulation sees
each commit and each call of an agent, an audit sees the topics at rest. Each function takes facts and gives what breaks
the invariant; nothing, where it holds. I/O: none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Container, Hashable, Iterable, Mapping, Sequence
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple, TypeAlias, TypeVar

from schemas.epochs import EPOCH_MAX

TaskKey: TypeAlias = tuple[str, str]  # tenant, task id
Place: TypeAlias = tuple[int, int]  # partition, offset
Fact = TypeVar("Fact", bound=Hashable)

INVARIANTS: Mapping[str, str] = MappingProxyType(
    {
        "P1": "Every accepted task has exactly one result, within its deadline and the time that recovery takes.",
        "P2": "A fold of the logs is the same with duplicates in them, and whatever the order of the topics.",
        "P3": "No position passes a submission that has left no record, or a dispatch that has left no outcome, nor "
        "does a low watermark pass the first fact of an unfinished task.",
        "P4": "What readers of committed records see are the outputs of committed inputs, and of no others.",
        "P5": "Who was expelled from its group moves no position, and is the only one who may leave a second result; "
        "that bears the same task id; what a host writes behind its successor's claim decides nothing.",
        "P7": "A replay of the logs gives the same state each time, calls no agent, and has nothing to add at rest.",
        "P8": "The history holds every fact of the logs once, and nothing else.",
        "P11": "Every wait ends: no call of a client is without a time limit, and who is told to stop does.",
        "P12": "All of it with transactions off, save P4, and with the one extra copy of P5.",
        "T1": "No attempt is given up, and no answer left out, whose outcome stood in the log to be read in time.",
        "T2": "What lies unread with its host is waited for, has its time from when it is read, and is held against "
        "nobody.",
        "E1": "An agent that writes is never run twice for one task.",
        "A1": "A result belongs to an accepted task, an outcome to a dispatch.",
        "A2": "Nobody is asked twice for one task, but for the one grounded re-run.",
        "A3": "What is dispatched to one agent on submission keeps the order of its conversation; what a crash cut off "
        "from it may come later.",
        "A4": "A record that is none is put away, and nothing else is.",
        "A5": "Only what is a repeat is noted as one.",
        "Q1": "At rest everything is read and committed.",
        "Q2": "No process ends by an error that is a fault of its own.",
    }
)


class Mode(StrEnum):
    """How outputs and positions are committed."""

    AT_LEAST_ONCE = "at_least_once"
    EXACTLY_ONCE = "exactly_once"


def applicable(mode: Mode) -> frozenset[str]:
    """P12: what is promised in a mode."""
    return frozenset(INVARIANTS) - ({"P4"} if mode is Mode.AT_LEAST_ONCE else set())


class Submission(NamedTuple):
    """A valid record of the submitted topic. Partition and offset say where it stands."""

    tenant: str
    task_id: str
    conversation_id: str | None
    partition: int
    offset: int


class Dispatched(NamedTuple):
    """A record of an inbox; `seats` is the size of the panel, 0 without one, `routed_at` when it was decided, in us."""

    tenant: str
    task_id: str
    agent_id: str
    attempt: int
    stage: str
    seats: int
    partition: int
    offset: int
    routed_at: int = 0


class Outcome(NamedTuple):
    """A COMPLETED, FAILED or REFUSED of an agent's log."""

    tenant: str
    task_id: str
    agent_id: str
    attempt: int
    stage: str


class GivenUp(NamedTuple):
    """An attempt, or a whole task, that ended because its time was over. `outcomes_ms`: append times of the outcomes
    that it waited for; `at_ms`: when it was decided that they did not come."""

    tenant: str
    task_id: str
    at_ms: int
    outcomes_ms: tuple[int, ...]


class Verdict(NamedTuple):
    """That an attempt's time was over: when that was said, and when it could be said at the earliest."""

    tenant: str
    task_id: str
    agent_id: str
    at_ms: int
    earliest_ms: int


class Ended(NamedTuple):
    """A record of the results topic."""

    tenant: str
    task_id: str


class Cut(NamedTuple):
    """A commit of one partition: the position of its submissions, and the low watermark beside it."""

    partition: int
    position: int
    low_watermark_ms: int


class Traces(NamedTuple):
    """What one partition's logs held when a cut was committed.

    `first_facts_ms`: of each task that was dispatched, the append time of its first dispatch. `ended`: tasks that have
    a result. `buried`: offsets of submissions that were put away.
    """

    first_facts_ms: Mapping[TaskKey, int]
    ended: Collection[TaskKey]
    buried: Container[int]


def lost(submissions: Iterable[Submission], results: Iterable[Ended]) -> tuple[TaskKey, ...]:
    """P1: accepted tasks without a result."""
    ends = {end[:2] for end in results}
    return tuple(key for key in dict.fromkeys(each[:2] for each in submissions) if key not in ends)


def duplicated(results: Iterable[Ended]) -> tuple[TaskKey, ...]:
    """P1, P5: tasks with more than one result; leave out those that an expelled writer left, where they may be."""
    return _repeated(end[:2] for end in results)


def late(ended_ms: Mapping[TaskKey, int], due_ms: Mapping[TaskKey, int], bound_ms: int) -> tuple[TaskKey, ...]:
    """P1: tasks whose first result came more than `bound_ms` after it was due."""
    return tuple(key for key, at in ended_ms.items() if key in due_ms and at > due_ms[key] + bound_ms)


def unasked(
    submissions: Iterable[Submission],
    dispatches: Iterable[Dispatched],
    outcomes: Iterable[Outcome],
    results: Iterable[Ended],
) -> tuple[TaskKey, ...]:
    """A1."""
    accepted = {each[:2] for each in submissions}
    attempts = {(each[:2], each[2:5]) for each in dispatches}
    found = [end[:2] for end in results if end[:2] not in accepted]
    found += [outcome[:2] for outcome in outcomes if (outcome[:2], outcome[2:5]) not in attempts]
    return tuple(dict.fromkeys(found))


def asked_twice(dispatches: Iterable[Dispatched]) -> tuple[TaskKey, ...]:
    """A2."""
    times = Counter((each[:2], each.agent_id, each.stage == "REGROUND") for each in dispatches)
    return tuple(dict.fromkeys(key for (key, _agent, _regrounded), count in times.items() if count > 1))


def out_of_order(
    submissions: Iterable[Submission], dispatches: Sequence[Dispatched], expelled: Iterable[Dispatched] = ()
) -> tuple[TaskKey, ...]:
    """A3: dispatches that a later submission of their conversation went before.

    Cascades, tie-breaks and re-runs follow an outcome, and may fall behind later tasks. So may the seats of a panel
    that a crash cut in half: they were decided after its first ones. The half of one who was `expelled` is one too,
    where an owner found it: it has not asked for that seat again.
    """
    first: dict[TaskKey, Submission] = {}
    for each in sorted(submissions, key=lambda each: (each.partition, each.offset)):
        first.setdefault(each[:2], each)
    began: dict[TaskKey, int] = {}
    asked = {_seat(dispatch) for dispatch in dispatches}
    halves = [each for each in expelled if each.seats and _seat(each) not in asked]
    for dispatch in (*dispatches, *halves):
        began[dispatch[:2]] = min(dispatch.routed_at, began.get(dispatch[:2], dispatch.routed_at))
    latest: dict[tuple[int, str, str, str], int] = {}
    found: list[TaskKey] = []
    for dispatch in sorted(dispatches, key=lambda each: (each.partition, each.offset)):
        submission = first.get(dispatch[:2])
        if submission is None or submission.conversation_id is None or dispatch.attempt > max(1, dispatch.seats):
            continue
        if dispatch.routed_at > began[dispatch[:2]]:
            continue
        line = (dispatch.partition, dispatch.tenant, submission.conversation_id, dispatch.agent_id)
        if submission.offset < latest.get(line, -1):
            found.append(dispatch[:2])
        latest[line] = max(submission.offset, latest.get(line, -1))
    return tuple(dict.fromkeys(found))


def _seat(dispatch: Dispatched) -> tuple[TaskKey, str, int]:
    return dispatch[:2], dispatch.agent_id, dispatch.attempt


def passed_over(cut: Cut, submissions: Iterable[Submission], invalid: Iterable[int], traces: Traces) -> list[str]:
    """P3: what the position of a cut leaves behind without a trace. `invalid`: offsets of what is no submission."""
    found = [
        f"{each.tenant}/{each.task_id} at offset {each.offset}"
        for each in submissions
        if each.partition == cut.partition and each.offset < cut.position
        if each[:2] not in traces.first_facts_ms and each[:2] not in traces.ended
    ]
    return found + [f"offset {at}" for at in invalid if at < cut.position and at not in traces.buried]


def unanswered(position: int, dispatches: Iterable[Dispatched], outcomes: Container[Outcome]) -> list[str]:
    """P3: dispatches of one inbox partition that a host's position passes, and that have no outcome in the log."""
    return [
        f"{each.agent_id} for {each.tenant}/{each.task_id} at offset {each.offset}"
        for each in dispatches
        if each.offset < position and Outcome(*each[:5]) not in outcomes
    ]


def unread(given_up: Iterable[GivenUp], tolerance_ms: int) -> list[str]:
    """T1: what was given up although all that it waited for could be read for longer than `tolerance_ms`."""
    return [
        f"{each.tenant}/{each.task_id} after {each.at_ms - max(each.outcomes_ms)} ms"
        for each in given_up
        if each.outcomes_ms and each.at_ms - max(each.outcomes_ms) > tolerance_ms
    ]


def too_soon(verdicts: Iterable[Verdict], tolerance_ms: int) -> list[str]:
    """T2: attempts that were not given their time."""
    return [
        f"{each.agent_id} for {each.tenant}/{each.task_id}, {each.earliest_ms - each.at_ms} ms early"
        for each in verdicts
        if each.at_ms + tolerance_ms < each.earliest_ms
    ]


def void(epochs: Iterable[tuple[int, int]]) -> set[int]:
    """Offsets of the records of one log, of which offset and epoch are given in its order, that stand behind a newer
    epoch than their own, or bear one that nobody can have; 0 is none."""
    newest, found = 0, set()
    for offset, epoch in epochs:
        if epoch > EPOCH_MAX or 0 < epoch < newest:
            found.add(offset)
        else:
            newest = max(epoch, newest)
    return found


def own_repeats(noted: Iterable[str], repeats: Container[str]) -> tuple[str, ...]:
    """A5: notes of a repeat whose submission was the first of its task. Both are ids of notes."""
    return tuple(each for each in noted if each not in repeats)


def watermark_passed(cut: Cut, submissions: Iterable[Submission], traces: Traces, margin_ms: int) -> list[str]:
    """P3: unfinished tasks whose first fact a recovery from this cut would not read; it starts a margin earlier."""
    since_ms = cut.low_watermark_ms - margin_ms
    unfinished = {
        each[:2]: traces.first_facts_ms[each[:2]]
        for each in submissions
        if each.partition == cut.partition and each.offset < cut.position
        if each[:2] in traces.first_facts_ms and each[:2] not in traces.ended
    }
    return [f"{tenant}/{task}: {since_ms - at} ms" for (tenant, task), at in unfinished.items() if at < since_ms]


def uncommitted_outputs(
    outputs: Mapping[TaskKey, Place], inputs: Mapping[TaskKey, Place], positions: Mapping[int, int]
) -> tuple[TaskKey, ...]:
    """P4: tasks that committed outputs speak of, whose submission lies at or after the committed position."""
    return tuple(key for key in outputs if key not in inputs or inputs[key][1] >= positions.get(inputs[key][0], 0))


def run_twice(calls: Iterable[tuple[str, TaskKey]], writers: Container[str]) -> tuple[TaskKey, ...]:
    """E1: tasks for which the code of an agent that writes ran more than once. `calls`: agent and task of each."""
    return tuple(dict.fromkeys(key for _, key in _repeated(call for call in calls if call[0] in writers)))


def differences(name: str, one: Mapping[Hashable, object], other: Mapping[Hashable, object]) -> list[str]:
    """P2, P7: where two states that ought to be equal are not."""
    return [
        f"{name} {key}: {one.get(key)} and {other.get(key)}"
        for key in sorted({*one, *other}, key=str)
        if one.get(key) != other.get(key)
    ]


class Completeness(NamedTuple):
    """P8, A4: one kind of fact: what the log says there is, against what is there."""

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


def _repeated(facts: Iterable[Fact]) -> tuple[Fact, ...]:
    return tuple(fact for fact, times in Counter(facts).items() if times > 1)
