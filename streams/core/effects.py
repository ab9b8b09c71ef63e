"""What a cell wants done: dispatches, results and notes, in the order in which they were decided.

The shell encodes and produces them; nothing here knows how. What is the same for most tasks of a batch comes in
columns: `departed`, tasks sent to their first agents, or from one that failed to the next; `answered`, tasks of which
one agent at a time is asked and that a good answer has ended; `agreed`,
panels of two that did. I/O: none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from streams.core.cohort import CONSENSUS, ENDINGS, PAIR, Cohort
from streams.core.columns import identities, task_keys
from streams.core.consensus import Vote
from streams.core.hearing import Hearing
from streams.core.pairs import best, by_seat, votes
from streams.core.policy import Policy
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


@dataclass(frozen=True, slots=True)
class Answered:
    """Tasks that ended with the answer of the agent that was asked last, a value per task in each column.

    `rows` are those of the events in `batch` (AgentEvent columns), which `hearing` judged; `endings` index ENDINGS.
    `attempts` counts the one that answered and one that failed before, if there was one: `past_cost` and `past_tokens`
    are what that took.
    """

    batch: pa.RecordBatch
    hearing: Hearing
    rows: npt.NDArray[np.int64]
    keys: Sequence[bytes]
    endings: npt.NDArray[np.int64]
    attempts: npt.NDArray[np.int64]
    past_cost: npt.NDArray[np.int64]
    past_tokens: npt.NDArray[np.int64]
    decided_at: int

    def results(self) -> Iterator[Result]:
        """One by one."""
        batch = self.batch.take(pa.array(self.rows))
        slip, task = batch.column("slip"), batch.column("task")
        ids, who = task_keys(task), identities(task)
        for place, (row, code, key) in enumerate(
            zip(self.rows.tolist(), self.endings.tolist(), self.keys, strict=True)
        ):
            one = {name: batch.column(name)[place].as_py() for name in ("answer", "payload")}
            cost, *tokens = (batch.column(name)[place].as_py() for name in ("cost_microusd", "tokens_in", "tokens_out"))
            attempts = int(self.attempts[place])
            yield Result(
                id=ids[place],
                key=key,
                identity=who[place],
                status=ENDINGS[code].status,
                reason=ENDINGS[code].reason.value,
                intent=slip.field("intent")[place].as_py(),
                confidence=float(self.hearing.confidence[row]),
                agents=(slip.field("agent_id")[place].as_py(),),
                votes=(),
                dissent=(),
                attempts=attempts,
                cost_microusd=cost + int(self.past_cost[place]),
                tokens=sum(tokens) + int(self.past_tokens[place]),
                decided_at=self.decided_at,
                failed_agents=attempts - 1,
                **one,
            )


@dataclass(frozen=True, slots=True)
class Agreed:
    """Panels of two that gave the same answer, a value per task in each column.

    `rows` are those of the events in `batch` (AgentEvent columns) that decided; `voices` has two rows for each task,
    by seat (streams/core/pairs.py).
    """

    policy: Policy
    batch: pa.RecordBatch
    rows: npt.NDArray[np.int64]
    keys: Sequence[bytes]
    voices: pa.RecordBatch
    decided_at: int

    @property
    def endings(self) -> npt.NDArray[np.int64]:
        """Of each task, an index into ENDINGS."""
        return np.full(len(self.rows), ENDINGS.index(CONSENSUS))

    def results(self) -> Iterator[Result]:
        """One by one."""
        batch = self.batch.take(pa.array(self.rows))
        slip, task = batch.column("slip"), batch.column("task")
        ids, who, intents = task_keys(task), identities(task), slip.field("intent").to_pylist()
        charged = [[sum(each) for each in zip(*by_seat(self.voices, name), strict=True)] for name in _CHARGES]
        best_of = (best(self.voices) % PAIR).tolist()
        for place, both in enumerate(votes(self.policy, self.voices)):
            chosen = both[best_of[place]]
            yield Result(
                id=ids[place],
                key=self.keys[place],
                identity=who[place],
                status=CONSENSUS.status,
                reason=CONSENSUS.reason.value,
                intent=intents[place],
                answer=chosen.answer,
                payload=chosen.payload,
                confidence=(both[0].confidence + both[1].confidence) / 2,
                agents=(both[0].agent_id, both[1].agent_id),
                votes=both,
                dissent=(),
                attempts=PAIR,
                cost_microusd=int(charged[0][place]),
                tokens=int(charged[1][place]),
                decided_at=self.decided_at,
                failed_agents=0,
            )


_CHARGES = ("cost_microusd", "tokens")


@dataclass(slots=True)
class Effects:
    """All that one call decided; empty ones are common and cheap."""

    dispatches: list[Dispatch] = field(default_factory=list)
    results: list[Result] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    departed: Cohort | None = None
    answered: Answered | None = None
    agreed: Agreed | None = None

    def __bool__(self) -> bool:
        in_columns = self.departed or self.answered or self.agreed
        return bool(in_columns or self.dispatches or self.results or self.notes)

    def one_by_one(self) -> Effects:
        """The same without columns, for whoever looks at each."""
        return Effects(
            [*(() if self.departed is None else departures(self.departed)), *self.dispatches],
            [
                *(() if self.answered is None else self.answered.results()),
                *(() if self.agreed is None else self.agreed.results()),
                *self.results,
            ],
            self.notes,
        )


def departures(cohort: Cohort) -> Iterator[Dispatch]:
    """The first dispatches of a cohort, one by one."""
    bodies = cohort.bodies
    for row, code in zip(cohort.rows.tolist(), cohort.codes.tolist(), strict=True):
        for slip in cohort.firsts.each[code].slips:
            yield Dispatch(slip, bodies.keys[row], bodies.frames[row], bodies.datums[row][bodies.ahead :])
