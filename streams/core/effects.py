"""What a cell wants done: dispatches, results and notes, in the order in which they were decided.

The shell encodes and produces them; nothing here knows how. What is the same for most tasks of a batch comes in
columns (streams/core/in_columns.py): `departed`, tasks sent to their first agents, or from one that failed to the next;
`answered`, tasks of which one agent at a time is asked and that a good answer has ended; `agreed`, panels of two that
did; `settled`, tasks of which nobody is asked; `unsure`, what is noted of those whose intent nobody is sure of.
I/O: none.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from streams.core.cohort import Cohort
from streams.core.consensus import Vote
from streams.core.task import Identity, Slip, TaskKey

if TYPE_CHECKING:
    from streams.core.in_columns import Agreed, Answered, Settled, Unsure


class Dispatch(NamedTuple):
    """One attempt to send: `task.frame` + the slip's datum + `datum`, under `task.key`.

    `datum` is taken when decided: the task forgets its body when it ends, which may be in the same turn.
    """

    slip: Slip
    key: bytes
    frame: bytes
    datum: bytes


class Result(NamedTuple):
    """One terminal answer: the fields of the Avro record TaskResult that are the cell's to say.

    `failed_agents`, how many distinct agents failed in the task, is for the depth metric alone.
    """

    id: TaskKey
    key: bytes
    identity: Identity
    status: str
    reason: str
    intent: str | None
    answer: str | None
    payload: str | None
    confidence: float | None
    agents: tuple[str, ...]
    votes: tuple[Vote, ...]
    dissent: tuple[str, ...]
    attempts: int
    cost_microusd: int
    tokens: int
    decided_at: int
    failed_agents: int


class Note(NamedTuple):
    """One orchestrator event. `event_id` is computed, so that the same note written twice is one."""

    event_id: str
    kind: str
    reason: str
    id: TaskKey
    key: bytes
    identity: Identity
    agent_id: str | None
    attempt: int
    seat: int
    stage: str
    intent: str | None
    at: int


@dataclass(slots=True)
class Effects:
    """All that one call decided; empty ones are common and cheap."""

    dispatches: list[Dispatch] = field(default_factory=list)
    results: list[Result] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    departed: Cohort | None = None
    answered: Answered | None = None
    agreed: Agreed | None = None
    settled: Settled | None = None
    unsure: Unsure | None = None

    def __bool__(self) -> bool:
        in_columns = self.departed or self.answered or self.agreed or self.settled or self.unsure
        return bool(in_columns or self.dispatches or self.results or self.notes)

    def one_by_one(self) -> Effects:
        """The same without columns, for whoever looks at each."""
        return Effects(
            [*(() if self.departed is None else departures(self.departed)), *self.dispatches],
            [
                *(() if self.answered is None else self.answered.results()),
                *(() if self.agreed is None else self.agreed.results()),
                *(() if self.settled is None else self.settled.results()),
                *self.results,
            ],
            [*(() if self.unsure is None else self.unsure.notes()), *self.notes],
        )


def departures(cohort: Cohort) -> Iterator[Dispatch]:
    """The first dispatches of a cohort, one by one."""
    bodies = cohort.bodies
    for row, code in zip(cohort.rows.tolist(), cohort.codes.tolist(), strict=True):
        for slip in cohort.firsts.each[code].slips:
            yield Dispatch(slip, bodies.keys[row], bodies.frames[row], bodies.datums[row][bodies.ahead :])
