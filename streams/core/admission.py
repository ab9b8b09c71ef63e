"""Which submissions are refused before anything is decided, in columns.

Rule R2 of docs/rules.md. I/O: none.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas.reasons import ResultReason
from streams.core.columns import filled
from streams.core.policy import Policy

DAY_US = 86_400_000_000

CHECKS = (
    ResultReason.INVALID_TASK_ID,
    ResultReason.INVALID_CONFIDENCE,
    ResultReason.INVALID_BUDGET,
    ResultReason.INVALID_DEADLINE,
    ResultReason.INVALID_DEPTH,
    ResultReason.INVALID_SUBMITTED_AT,
    ResultReason.UNKNOWN_INTENT,
)


def refusals(policy: Policy, batch: pa.RecordBatch, now_ms: int) -> dict[int, ResultReason]:
    """Row index of each refused TaskSubmitted, with the first check that it fails."""
    limits = policy.topology.limits
    confidence = filled(batch.column("confidence"), 1.0)
    deadline_ms = filled(batch.column("deadline_ms"), now_ms + 1)
    depth = filled(batch.column("depth"), 0)
    submitted_at = filled(batch.column("submitted_at"), 0)
    intent = batch.column("intent")
    known = pc.or_(pc.is_null(intent), pc.is_in(intent, value_set=policy.intents))
    failed = np.stack(
        (
            pc.equal(pc.binary_length(batch.column("task_id")), 0).to_numpy(zero_copy_only=False),
            ~((confidence >= 0.0) & (confidence <= 1.0)),  # NaN fails both
            filled(batch.column("budget_microusd"), 0) < 0,
            (deadline_ms <= 0) | (deadline_ms > now_ms + limits.deadline_max_ms),
            (depth < 0) | (depth > limits.depth_max),
            (submitted_at < 0) | (submitted_at > now_ms * 1000 + DAY_US),
            ~known.to_numpy(zero_copy_only=False),
        )
    )
    rows = np.flatnonzero(failed.any(axis=0))
    return {int(row): CHECKS[int(failed[:, row].argmax())] for row in rows}
