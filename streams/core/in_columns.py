"""Results and notes of many tasks at once: what a cell decides in columns, and what each of them is one by one.

I/O: none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas.ids import joined, task_fact_ids
from schemas.reasons import ResultReason
from streams.core.cohort import CONSENSUS, ENDINGS, PAIR
from streams.core.columns import identities, task_keys
from streams.core.effects import Note, Result
from streams.core.hearing import Hearing
from streams.core.intake import Intake
from streams.core.pairs import best, by_seat, votes
from streams.core.policy import Policy
from streams.core.routing import AtOnce
from streams.core.rows import Rows, at


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


@dataclass(frozen=True, slots=True)
class Settled:
    """Tasks of which nobody is asked: how they end follows from their kind. `rows` are those in `intake`; `each`, by
    kind, is None where somebody is asked."""

    intake: Intake
    rows: Rows
    each: Sequence[AtOnce | None]
    decided_at: int

    @property
    def keys(self) -> list[bytes]:
        return at(self.intake.keys, self.rows)

    @property
    def endings(self) -> list[AtOnce]:
        """Of each task."""
        return cast("list[AtOnce]", at(self.each, self.intake.kind[self.rows]))

    def results(self) -> Iterator[Result]:
        """One by one."""
        intake = self.intake
        for row, ending in zip(self.rows.tolist(), self.endings, strict=True):
            yield Result(
                id=intake.ids[row],
                key=intake.keys[row],
                identity=intake.identity(row),
                status=ending.status,
                reason=ending.reason.value,
                intent=intake.kinds[int(intake.kind[row])].intent,
                answer=ending.text,
                payload=None,
                confidence=None,
                agents=(),
                votes=(),
                dissent=(),
                attempts=0,
                cost_microusd=0,
                tokens=0,
                decided_at=self.decided_at,
                failed_agents=0,
            )


@dataclass(frozen=True, slots=True)
class Unsure:
    """New tasks whose intent nobody is sure enough of: `rows` in `intake`, and the ids of what is noted of them."""

    intake: Intake
    rows: Rows
    event_ids: Sequence[str]
    at: int

    @classmethod
    def of(cls, intake: Intake, rows: Rows, at_us: int) -> Unsure:
        tenants, task_ids = zip(*at(intake.ids, rows), strict=True)
        return cls(intake, rows, task_fact_ids(tenants, task_ids, repeat(_UNSURE_REST, len(rows))), at_us)

    @property
    def keys(self) -> list[bytes]:
        return at(self.intake.keys, self.rows)

    def notes(self) -> Iterator[Note]:
        """One by one."""
        intake = self.intake
        for row, event_id in zip(self.rows.tolist(), self.event_ids, strict=True):
            yield Note(
                event_id=event_id,
                kind=UNSURE_KIND,
                reason=UNSURE_REASON,
                id=intake.ids[row],
                key=intake.keys[row],
                identity=intake.identity(row),
                agent_id=None,
                attempt=0,
                seat=0,
                stage="UNKNOWN",
                intent=intake.kinds[int(intake.kind[row])].intent,
                at=self.at,
            )


UNSURE_KIND, UNSURE_REASON = "ESCALATED", ResultReason.LOW_CONFIDENCE.value
_UNSURE_REST = joined(UNSURE_KIND, UNSURE_REASON, "", 0, "UNKNOWN")
