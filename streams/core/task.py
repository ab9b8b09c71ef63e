"""The facts about one task in flight, as they stand in the logs: what was dispatched, what came back.

A decision is always derived from these facts (streams/core/machine.py), never remembered beside them: so a cell that
folded the logs in any order decides as the cell that never stopped. I/O: none.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from schemas.reasons import FailReason
from streams.core.consensus import Vote
from streams.core.policy import RoutePolicy

TaskKey = tuple[str, str]
"""(tenant, task_id)."""

WORK, REGROUND = "WORK", "REGROUND"


class Identity(NamedTuple):
    """What a result or a note repeats of its task; times in microseconds."""

    conversation_id: str | None
    labels: tuple[tuple[str, str], ...]
    traceparent: str | None
    submitted_at: int
    root_id: str | None


class Slip(NamedTuple):
    """One dispatch as decided: the fields of the Avro record Slip, in its order."""

    agent_id: str
    attempt: int
    seat: int
    stage: str
    intent: str
    confidence: float
    band: str
    panel: tuple[str, ...]
    chain: tuple[str, ...]
    reason: str
    route_version: str
    value_tier: str
    attempts: int
    cost_microusd: int
    tokens: int
    probe_epoch: int
    timeout_ms: int
    deadline_default_ms: int
    routed_at: int


class Outcome(NamedTuple):
    """One agent event, as far as it matters to a decision."""

    event_id: str
    kind: str
    agent_id: str
    attempt: int
    stage: str
    confidence: float | None
    answer: str | None
    payload: str | None
    vote_key: str | None
    cited: bool
    error_class: str | None
    cost_microusd: int
    tokens: int
    duration_ms: int


class Plan(NamedTuple):
    """What was decided when the task came in; every slip carries it, so a folded dispatch restores it.

    `panel` is empty where one agent answers; `first` are the agents of the first dispatches, in seat order.
    """

    route: RoutePolicy
    confidence: float
    band: str
    tier: str
    panel: tuple[str, ...]
    first: tuple[str, ...]
    reasons: tuple[str, ...]
    probes: tuple[int, ...]
    chain: tuple[str, ...]
    deadline_default_ms: int


@dataclass(slots=True)
class Attempt:
    """One dispatch and what became of it: open until it has a failure or a vote."""

    slip: Slip
    event_id: str | None = None
    failure: FailReason | None = None
    vote: Vote | None = None

    @property
    def is_open(self) -> bool:
        return self.failure is None and self.vote is None


class Charge(Protocol):
    """What an outcome adds to its task, whatever it says."""

    @property
    def event_id(self) -> str: ...
    @property
    def cost_microusd(self) -> int: ...
    @property
    def tokens(self) -> int: ...


class Charged(NamedTuple):
    """What one outcome of those that are kept in columns added."""

    event_id: str
    cost_microusd: int
    tokens: int


@dataclass(slots=True)
class Task:
    """One task in flight. `frame` + slip + `datum` is the value of its dispatches; `key` their record key."""

    id: TaskKey
    key: bytes
    frame: bytes
    datum: bytes
    identity: Identity
    deadline_ms: int
    appended_ms: int
    size: int
    plan: Plan | None = None
    attempts: dict[int, Attempt] = field(default_factory=dict)
    closed_seats: set[int] = field(default_factory=set)
    event_ids: list[str] = field(default_factory=list)
    conflict_noted: bool = False
    finished: bool = False
    cost_microusd: int = 0
    tokens: int = 0

    def next_attempt(self) -> int:
        return max(self.attempts, default=0) + 1

    def dispatched(self) -> set[str]:
        return {attempt.slip.agent_id for attempt in self.attempts.values()}

    def failed_agents(self) -> int:
        return len({each.slip.agent_id for each in self.attempts.values() if each.failure is not None})

    def current(self) -> dict[int, Attempt]:
        """Per seat the work in it: the latest attempt, for an earlier one has been superseded."""
        if len(self.attempts) == 1:  # as of most tasks, and a question that is often asked
            (only,) = self.attempts.values()
            return {} if only.slip.stage == REGROUND else {only.slip.seat: only}
        seats: dict[int, Attempt] = {}
        for ordinal in sorted(self.attempts):
            attempt = self.attempts[ordinal]
            if attempt.slip.stage != REGROUND:
                seats[attempt.slip.seat] = attempt
        return seats

    def reground(self) -> Attempt | None:
        return next((each for each in self.attempts.values() if each.slip.stage == REGROUND), None)

    def takes(self, attempt: Attempt) -> bool:
        """Whether an outcome of this attempt still counts: it is open, and nobody has taken over its seat."""
        if not attempt.is_open:
            return False
        return attempt.slip.stage == REGROUND or self.current()[attempt.slip.seat] is attempt

    def open_attempts(self) -> list[Attempt]:
        current = [each for each in self.current().values() if each.is_open]
        reground = self.reground()
        return [*current, reground] if reground is not None and reground.is_open else current

    def charge(self, outcome: Charge) -> None:
        """Adds what an outcome cost, late or not: the money is spent either way."""
        self.event_ids.append(outcome.event_id)
        self.cost_microusd += outcome.cost_microusd
        self.tokens += outcome.tokens

    def stamp(self) -> tuple[object, ...]:
        """Equal as long as no fact about the task has changed."""
        attempts = [(each.slip.attempt, each.event_id, each.failure, each.vote) for each in self.attempts.values()]
        return attempts, len(self.event_ids), len(self.closed_seats), self.conflict_noted

    def forget_body(self) -> None:
        """Lets go of the bytes when the task ends; a timer may hold the rest for a while."""
        self.finished = True
        self.datum = b""
