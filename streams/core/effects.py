"""What a cell wants done: dispatches, results and notes, in the order in which they were decided.

The shell encodes and produces them; nothing here knows how. What is the same for most tasks of a batch comes in
columns: `departed`, tasks sent to their first agents, `answered`, tasks whose only agent gave a good answer, and
`agreed`, tasks whose panel of two agrees. I/O: none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from streams.core.cohort import CONSENSUS, Cohort, Ending
from streams.core.columns import identities, task_keys
from streams.core.consensus import Vote
from streams.core.hearing import Hearing
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
    """Tasks that ended with the answer of the one agent that was asked, a value per task in each column.

    `rows` are those of the events in `batch` (AgentEvent columns), which `hearing` judged. `codes` index `endings`.
    """

    batch: pa.RecordBatch
    hearing: Hearing
    rows: npt.NDArray[np.int64]
    keys: Sequence[bytes]
    codes: npt.NDArray[np.int64]
    endings: Sequence[Ending]
    decided_at: int

    def results(self) -> Iterator[Result]:
        """One by one."""
        batch = self.batch.take(pa.array(self.rows))
        slip, task = batch.column("slip"), batch.column("task")
        ids, who = task_keys(task), identities(task)
        for place, (row, code, key) in enumerate(zip(self.rows.tolist(), self.codes.tolist(), self.keys, strict=True)):
            one = {name: batch.column(name)[place].as_py() for name in ("answer", "payload", "cost_microusd")}
            yield Result(
                id=ids[place],
                key=key,
                identity=who[place],
                status=self.endings[code].status,
                reason=self.endings[code].reason.value,
                intent=slip.field("intent")[place].as_py(),
                confidence=float(self.hearing.confidence[row]),
                agents=(slip.field("agent_id")[place].as_py(),),
                votes=(),
                dissent=(),
                attempts=1,
                tokens=sum(batch.column(name)[place].as_py() for name in ("tokens_in", "tokens_out")),
                decided_at=self.decided_at,
                failed_agents=0,
                **one,
            )


@dataclass(frozen=True, slots=True)
class Agreed:
    """Tasks that ended with the vote of both of their panel, a value per task in each column.

    `first` and `second` are rows of the events in `batch`, by seat; `votes` is what both said.
    """

    batch: pa.RecordBatch
    hearing: Hearing
    first: npt.NDArray[np.int64]
    second: npt.NDArray[np.int64]
    keys: Sequence[bytes]
    votes: Sequence[str]
    decided_at: int

    @property
    def best(self) -> npt.NDArray[np.int64]:
        """The row whose answer is given: the surer one, of equally sure ones the lower seat's."""
        sure = self.hearing.confidence
        return np.where(sure[self.second] > sure[self.first], self.second, self.first)

    def results(self) -> Iterator[Result]:
        """One by one."""
        hearing, batch = self.hearing, self.batch
        for place, pair in enumerate(zip(self.first.tolist(), self.second.tolist(), self.best.tolist(), strict=True)):
            one, other, best = (batch.slice(row, 1) for row in pair)
            votes = tuple(
                Vote(
                    agent_id=hearing.names[hearing.agent[row]],
                    key=self.votes[place],
                    confidence=float(hearing.confidence[row]),
                    weight=float(hearing.weights[hearing.agent[row]]),
                    seat=seat,
                    answer=batch.column("answer")[row].as_py(),
                    payload=batch.column("payload")[row].as_py(),
                )
                for seat, row in enumerate(pair[:2])
            )
            tokens = [each.column(name)[0].as_py() for each in (one, other) for name in ("tokens_in", "tokens_out")]
            yield Result(
                id=task_keys(best.column("task"))[0],
                key=self.keys[place],
                identity=identities(best.column("task"))[0],
                status=CONSENSUS.status,
                reason=CONSENSUS.reason.value,
                intent=best.column("slip").field("intent")[0].as_py(),
                answer=best.column("answer")[0].as_py(),
                payload=best.column("payload")[0].as_py(),
                confidence=(votes[0].confidence + votes[1].confidence) / 2,
                agents=tuple(vote.agent_id for vote in votes),
                votes=votes,
                dissent=(),
                attempts=2,
                cost_microusd=sum(each.column("cost_microusd")[0].as_py() for each in (one, other)),
                tokens=sum(tokens),
                decided_at=self.decided_at,
                failed_agents=0,
            )


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
        return bool(self.dispatches or self.results or self.notes or self.departed or self.answered or self.agreed)

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
    intake = cohort.intake
    for row, code in zip(cohort.rows.tolist(), cohort.codes.tolist(), strict=True):
        for slip in cohort.firsts[code].slips:
            yield Dispatch(slip, intake.keys[row], intake.frames[row], intake.datums[row])
