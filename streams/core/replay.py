"""Recorded tasks under a policy: the real cell decides anew, and what agents said then is what they say now.

Of an agent that a task never reached nobody knows what it would have said: there the replay of that task stops, and
says so. Each task has a cell of its own, so that none waits for another. I/O: none.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, NamedTuple

import pyarrow as pa

from schemas.records import record
from streams.core.cell import Cell
from streams.core.columns import Events, Submissions
from streams.core.effects import Dispatch, Effects, Result
from streams.core.intake import Heard, Intake
from streams.core.policy import Policy
from streams.core.task import Slip

STEPS_MAX = 1_000


class Call(NamedTuple):
    """Whom a task was given to; one agent may work and be asked to ground its answer."""

    agent_id: str
    stage: str


@dataclass(frozen=True)
class Told:
    """What came of a call: AgentEvent fields by name, and how long after the dispatch it was read; None: silence."""

    event: Mapping[str, Any] | None
    after_ms: int = 0


@dataclass(frozen=True)
class Recorded:
    """One task as it was: `row` in the submissions, when it was decided first, and what each call came to.

    `blocked` are the agents whose breakers kept the task from them.
    """

    row: int
    at_ms: int
    told: Mapping[Call, Told]
    blocked: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Replayed:
    """What the policy makes of a task: the calls in order, and the result, or the call whose outcome nobody knows."""

    calls: tuple[Call, ...]
    intent: str | None
    result: Result | None
    took_ms: int
    unknown: Call | None = None


class _Open(NamedTuple):
    """A breaker that is open, as availability reads it."""

    phase: str = "OPEN"
    epoch: int = 0
    probe_partitions: tuple[int, ...] = ()


def replay(policy: Policy, submissions: Submissions, recorded: Sequence[Recorded]) -> Iterator[Replayed]:
    """One after the other, in the order given."""
    if not recorded:
        return
    shared = Intake.read(policy, submissions, min(each.at_ms for each in recorded))
    for each in recorded:
        # What is refused depends on the time, and only ever less as it goes on.
        own = Intake.read(policy, submissions, each.at_ms) if each.row in shared.refused else shared
        yield _Run(policy, own, submissions, each).play()


class _Run:
    """One task on its way through a cell of its own."""

    def __init__(self, policy: Policy, intake: Intake, submissions: Submissions, recorded: Recorded) -> None:
        self._policy, self._intake, self._submissions, self._recorded = policy, intake, submissions, recorded
        self._cell = Cell(policy, 0)
        self._cell.observe_breakers({agent: _Open() for agent in recorded.blocked})
        self._calls: list[Call] = []
        self._due: list[tuple[int, bool, int, dict[str, Any] | None]] = []
        self._order = count()
        self._result: Result | None = None
        self._unknown: Call | None = None
        self._intent: str | None = None

    def play(self) -> Replayed:
        now_ms = self._recorded.at_ms
        self._take(self._cell.submit(self._intake, now_ms, [self._recorded.row]), now_ms)
        for _ in range(STEPS_MAX):
            if self._result is not None or not self._due or (self._unknown is not None and self._due[0][1]):
                break  # nobody knows whether what is unknown would have been in time
            now_ms, _, _, event = heapq.heappop(self._due)
            if event is None:
                self._take(self._cell.tick(now_ms), now_ms)
            else:
                self._take(self._cell.collect(_heard(event, self._key()), now_ms), now_ms)
        took_ms = now_ms - self._recorded.at_ms
        return Replayed(tuple(self._calls), self._intent, self._result, took_ms, self._unknown)

    def _key(self) -> bytes:
        return self._submissions.keys[self._recorded.row]

    def _take(self, effects: Effects, now_ms: int) -> None:
        decided = effects.one_by_one()
        for dispatch in decided.dispatches:
            self._ask(dispatch, now_ms)
        for result in decided.results:
            self._result, self._intent = result, result.intent or self._intent
            self._unknown = None  # a verdict stands whatever is still out

    def _ask(self, dispatch: Dispatch, now_ms: int) -> None:
        slip = dispatch.slip
        call = Call(slip.agent_id, slip.stage)
        self._calls.append(call)
        self._intent = slip.intent
        if len(self._calls) == 1:
            stated_ms = int(self._intake.deadlines_ms[self._recorded.row])
            self._at(stated_ms or slip.deadline_default_ms, None)
        overdue_ms = now_ms + slip.timeout_ms + self._policy.topology.limits.timeout_grace_ms
        self._at(overdue_ms, None)
        told = self._recorded.told.get(call)
        if told is None:
            self._unknown = self._unknown or call
        elif told.event is not None:
            self._at(now_ms + told.after_ms, _as_asked(told.event, slip))

    def _at(self, due_ms: int, event: dict[str, Any] | None) -> None:
        # Of one moment an outcome comes first: it was read by the time that a time-out looked.
        heapq.heappush(self._due, (due_ms, event is None, next(self._order), event))


def _as_asked(event: Mapping[str, Any], slip: Slip) -> dict[str, Any]:
    """The event as it would answer this dispatch."""
    own = slip._asdict() | {"panel": list(slip.panel), "chain": list(slip.chain)}
    return {**event, "slip": own}


def _heard(event: Mapping[str, Any], key: bytes) -> Heard:
    kind = record("AgentEvent")
    row = {name: event.get(name, kind.defaults.get(name)) for name in kind.arrow.names}
    return Heard.read(Events(pa.RecordBatch.from_pylist([row], schema=kind.arrow), [key]))
