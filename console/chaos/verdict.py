"""The invariants, asked of a run: which hold, which are broken and by what, and which a run cannot tell.

Each is stated in `loadtest.invariants`; here is only what a run knows of it. I/O: none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from typing import NamedTuple

from console.chaos.evidence import Evidence
from loadtest import invariants
from loadtest.invariants import INVARIANTS, Cut, Mode, Outcome, TaskKey, Traces, applicable

EXAMPLES_MAX = 5
# After a fault is over, what it did may still end a process for so long.
AFTERMATH_S = 30.0
UNEXPECTED = "[E100]"


class Said(StrEnum):
    """What can be said of an invariant."""

    HOLDS = "holds"
    BROKEN = "broken"
    NOT_ASKED = "not asked"


class Verdict(NamedTuple):
    """`found`: what breaks it, all of it as text; or why it is not asked."""

    name: str
    said: Said
    found: tuple[str, ...] = ()

    @property
    def means(self) -> str:
        return INVARIANTS[self.name]


NOT_ASKED: Mapping[str, str] = {
    "P2": "a run folds its logs once; the simulation does it in every order",
    "T1": "when an outcome could be read is not in the logs; the simulation sees it",
    "T2": "when a host has read a dispatch is not in the logs; the simulation sees it",
    "A5": "repeats after the horizon are new tasks; the simulation tells them apart",
}


def judge(evidence: Evidence) -> list[Verdict]:
    """All invariants, in their order."""
    mode = Mode(evidence.topology.delivery)
    verdicts: dict[str, Verdict] = {}
    for name in INVARIANTS:
        why_not = {**evidence.not_asked, **NOT_ASKED}.get(name)
        if why_not is not None:
            verdicts[name] = Verdict(name, Said.NOT_ASKED, (why_not,))
        elif name not in applicable(mode):
            verdicts[name] = Verdict(name, Said.NOT_ASKED, (f"not promised with {mode.value}",))
        elif name != "P12":
            found = tuple(_ASKED[name](evidence))
            verdicts[name] = Verdict(name, Said.BROKEN if found else Said.HOLDS, found)
    verdicts["P12"] = _p12(mode, verdicts)
    return [verdicts[name] for name in INVARIANTS]


def lost(evidence: Evidence) -> tuple[TaskKey, ...]:
    """P1: tasks that were acknowledged, or stand in the topic, and have no result."""
    ends = {end[:2] for end in evidence.log.results}
    confirmed = tuple(sorted(key for key in evidence.acknowledged if key not in ends))
    return tuple(dict.fromkeys((*invariants.lost(evidence.log.submissions, evidence.log.results), *confirmed)))


def duplicated(evidence: Evidence) -> tuple[TaskKey, ...]:
    """P1, P5: tasks with more than one result that no expelled worker can have left."""
    return () if may_copy(evidence) else invariants.duplicated(evidence.log.results)


def extra_copies(evidence: Evidence) -> tuple[TaskKey, ...]:
    """P5: second results under the same id that an expelled worker may have left; history and subscribers fold them."""
    return invariants.duplicated(evidence.log.results) if may_copy(evidence) else ()


def may_copy(evidence: Evidence) -> bool:
    return evidence.zombies and Mode(evidence.topology.delivery) is Mode.AT_LEAST_ONCE


def _p1(evidence: Evidence) -> Iterable[str]:
    yield from _named("lost", lost(evidence))
    yield from _named("duplicated", duplicated(evidence))
    yield from _named("late", invariants.late(evidence.ended_ms, evidence.due_ms, evidence.late_ms))


def _p3(evidence: Evidence) -> Iterable[str]:
    """Of what is committed at rest; the simulation asks it of each commit."""
    log, topics = evidence.log, evidence.topology.topics()
    first = dict.fromkeys((each[:2] for each in log.dispatches), 0)
    ended = {end[:2] for end in log.results}
    outcomes = set(log.outcomes)
    for (topic, partition), position in evidence.positions["worker"].items():
        if topic == topics.submitted:
            buried = {offset for name, number, offset in log.dead if (name, number) == (topic, partition)}
            invalid = [offset for name, number, offset in log.invalid if (name, number) == (topic, partition)]
            cut = Cut(partition, position, 0)
            yield from invariants.passed_over(cut, log.submissions, invalid, Traces(first, ended, buried))
    for (topic, partition), position in evidence.positions["host"].items():
        mine = [each for each in log.dispatches if topics.inbox(each.agent_id) == topic and each.partition == partition]
        yield from invariants.unanswered(position, mine, outcomes)


def _p4(evidence: Evidence) -> Iterable[str]:
    log, topics = evidence.log, evidence.topology.topics()
    inputs = {each[:2]: (each.partition, each.offset) for each in reversed(log.submissions)}
    outputs = {each[:2]: (each.partition, each.offset) for each in log.dispatches}
    outputs |= {end[:2]: (0, 0) for end in log.results}
    positions = {
        partition: position
        for (topic, partition), position in evidence.positions["worker"].items()
        if topic == topics.submitted
    }
    yield from _named("uncommitted", invariants.uncommitted_outputs(outputs, inputs, positions))


def _p5(evidence: Evidence) -> Iterable[str]:
    """Second results where none may be; and the history, which holds each once in any case (P8)."""
    yield from _named("duplicated", duplicated(evidence))


def _p8(evidence: Evidence) -> Iterable[str]:
    for part in evidence.report.parts:
        if part.name != "dead topic":
            for fault in ("missing", "surplus", "repeated"):
                yield from _named(f"{part.name} {fault}", getattr(part, fault))


def _a4(evidence: Evidence) -> Iterable[str]:
    for part in evidence.report.parts:
        if part.name == "dead topic":
            for fault in ("missing", "surplus", "repeated"):
                yield from _named(f"dead topic {fault}", getattr(part, fault))
    if evidence.undelivered:
        yield f"{evidence.undelivered} records that are none were never taken by the broker: nothing can be said"


def _q2(evidence: Evidence) -> Iterable[str]:
    """A process that gives up while its surroundings are broken does as it should, if it says so in words."""
    for end in evidence.ended:
        excused = any(since <= end.at_s <= until + AFTERMATH_S for since, until in evidence.outages)
        if end.status < 0 or UNEXPECTED in end.words or not excused:
            said = end.words.strip().splitlines()
            yield f"{end.name} ended by itself with status {end.status}: {said[0] if said else 'it said nothing'}"


def _a2(evidence: Evidence) -> Iterable[str]:
    return () if may_copy(evidence) else _named("asked twice", invariants.asked_twice(evidence.log.dispatches))


def _a3(evidence: Evidence) -> Iterable[str]:
    if may_copy(evidence):
        return ()
    return _named("out of order", invariants.out_of_order(evidence.log.submissions, evidence.log.dispatches))


def _a1(evidence: Evidence) -> Iterable[str]:
    log = evidence.log
    outcomes = [Outcome(*each[:5]) for each in log.outcomes]
    return _named("not asked for", invariants.unasked(log.submissions, log.dispatches, outcomes, log.results))


_ASKED: Mapping[str, Callable[[Evidence], Iterable[str]]] = {
    "P1": _p1,
    "P3": _p3,
    "P4": _p4,
    "P5": _p5,
    "P7": lambda evidence: evidence.changed,
    "P8": _p8,
    "P11": lambda evidence: [f"{name} did not end when it was told to" for name in evidence.deaf],
    "E1": lambda evidence: _named("run twice", invariants.run_twice(evidence.calls, evidence.writers)),
    "A1": _a1,
    "A2": _a2,
    "A3": _a3,
    "A4": _a4,
    "Q1": lambda evidence: [
        f"{count} records unread by the {name}" for name, count in evidence.unread.items() if count
    ],
    "Q2": _q2,
}


def _p12(mode: Mode, verdicts: Mapping[str, Verdict]) -> Verdict:
    if mode is Mode.EXACTLY_ONCE:
        return Verdict("P12", Said.NOT_ASKED, ("transactions are on",))
    broken = tuple(name for name, verdict in verdicts.items() if verdict.said is Said.BROKEN)
    return Verdict("P12", Said.BROKEN if broken else Said.HOLDS, broken)


def _named(what: str, facts: Iterable[object]) -> list[str]:
    return [f"{what}: {_text(fact)}" for fact in facts]


def _text(fact: object) -> str:
    return "/".join(map(str, fact)) if isinstance(fact, tuple) else str(fact)
