"""What a cell wants done: dispatches, results and notes, in the order in which they were decided.

The shell encodes and produces them; nothing here knows how. I/O: none.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from streams.core.consensus import Vote
from streams.core.task import Identity, Slip, TaskKey


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

    def __bool__(self) -> bool:
        return bool(self.dispatches or self.results or self.notes)
