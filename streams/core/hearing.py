"""What a batch of agents' events says in columns: which rows are outcomes, and which of them plainly good answers.

The same verdict as streams/core/judge.py, for the rows whose every number is ordinary; the judge has the others.
I/O: none.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from streams.core.columns import filled
from streams.core.judge import FAILURES, OUTCOMES
from streams.core.policy import Policy
from streams.core.task import WORK

_OUTCOMES, _FAILURES = pa.array(sorted(OUTCOMES)), pa.array(sorted(FAILURES))

NOBODY = -1
"""Code of an agent that the topology does not name."""

ORDINARY = 2**53
"""Numbers below this can be added and subtracted without a thought."""


@dataclass(frozen=True)
class Hearing:
    """A value per row. `agent`: index into `names`. `confidence` and `is_slow` are those of good rows and of failures.

    `is_good`: an answer that counts, if the attempt is the agent's and still open; not one of a grounded re-run.
    `is_failure`: likewise, what says of itself that it is none.
    """

    names: tuple[str, ...]
    is_outcome: npt.NDArray[np.bool_]
    is_good: npt.NDArray[np.bool_]
    is_failure: npt.NDArray[np.bool_]
    agent: npt.NDArray[np.int64]
    attempt: npt.NDArray[np.int64]
    confidence: npt.NDArray[np.float64]
    is_slow: npt.NDArray[np.bool_]

    @classmethod
    def read(cls, policy: Policy, batch: pa.RecordBatch) -> Hearing:
        """From AgentEvent columns."""
        agents, slip = policy.agent_columns, batch.column("slip")
        agent = filled(pc.index_in(slip.field("agent_id"), value_set=agents.names), NOBODY)
        unstated = agents.confidence_when_unstated[agent]
        stated = filled(batch.column("confidence"), np.nan)
        confidence = np.where(_mask(batch.column("confidence").is_null()), unstated, stated)
        is_cited = filled(batch.column("citations").value_lengths(), 0) > 0
        needs_citation = agents.grounded[agent]
        took_us, is_ordinary = _ordinary(batch)
        slow_ms = policy.topology.breaker.slow_ms
        is_ours = (agent != NOBODY) & _mask(pc.equal(slip.field("stage"), WORK)) & is_ordinary
        return cls(
            names=tuple(policy.agents),
            is_outcome=_mask(pc.is_in(batch.column("kind"), value_set=_OUTCOMES)),
            is_good=is_ours
            & _mask(pc.equal(batch.column("kind"), "COMPLETED"))
            & (confidence >= max(policy.topology.answers.confidence_min, 0.0))  # NaN is refused here, too
            & (confidence <= 1.0)
            & (is_cited | ~needs_citation)
            & _mask(batch.column("answer").is_valid()),
            is_failure=is_ours & _mask(pc.is_in(batch.column("kind"), value_set=_FAILURES)),
            agent=agent,
            attempt=slip.field("attempt").to_numpy().astype(np.int64),
            confidence=confidence,
            is_slow=np.zeros(len(agent), np.bool_) if slow_ms is None else took_us // 1000 >= slow_ms,
        )


def _ordinary(batch: pa.RecordBatch) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """How long each attempt took (us), and whether its numbers are ordinary."""
    names = ("started_at", "finished_at", "tokens_in", "tokens_out", "cost_microusd")
    columns = [batch.column(name).to_numpy() for name in names]
    within = np.logical_and.reduce([(column > -ORDINARY) & (column < ORDINARY) for column in columns])
    return np.where(within, columns[1] - columns[0], 0), within


def _mask(column: pa.BooleanArray) -> npt.NDArray[np.bool_]:
    mask: npt.NDArray[np.bool_] = column.to_numpy(zero_copy_only=False)
    return mask
