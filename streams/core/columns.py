"""Record batches as the cell reads them: the few columns a decision needs, as Python values, a column at a time.

I/O: none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from streams.core.task import Identity, Outcome, Slip, TaskKey


@dataclass(frozen=True, slots=True)
class Submissions:
    """Valid TaskSubmitted records, each partition's in offset order. All sequences are as long as `batch`.

    `frames` and `datums`: what precedes and follows the slip in a dispatch of the row's task.
    """

    batch: pa.RecordBatch
    keys: Sequence[bytes]
    frames: Sequence[bytes]
    datums: Sequence[bytes]
    offsets: Sequence[int]
    appended_ms: Sequence[int]


@dataclass(frozen=True, slots=True)
class Events:
    """Valid AgentEvent records, each agent's of one partition in offset order."""

    batch: pa.RecordBatch
    keys: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class Dispatches:
    """Valid TaskDispatched records of one partition, for recovery; `datums` are the tasks', `frames` theirs."""

    batch: pa.RecordBatch
    keys: Sequence[bytes]
    frames: Sequence[bytes]
    datums: Sequence[bytes]
    appended_ms: Sequence[int]


def labels(column: pa.MapArray) -> list[tuple[tuple[str, str], ...]]:
    """One tuple of pairs per row; the ordinary case, no labels at all, costs nothing."""
    if column.offsets[0] == column.offsets[-1]:
        return [()] * len(column)
    return [tuple(row or ()) for row in column.to_pylist()]


def child(batch: pa.RecordBatch, struct: str, field: str) -> list[Any]:
    return list(batch.column(struct).field(field).to_pylist())


def identities(parent: pa.RecordBatch | pa.StructArray) -> list[Identity]:
    """From TaskSubmitted columns, or from the `task` of an AgentEvent or a TaskDispatched."""
    get = parent.column if isinstance(parent, pa.RecordBatch) else parent.field
    columns = (get(name).to_pylist() for name in ("traceparent", "submitted_at", "root_id"))
    return list(map(Identity, get("conversation_id").to_pylist(), labels(get("labels")), *columns))


def task_keys(parent: pa.RecordBatch | pa.StructArray) -> list[TaskKey]:
    get = parent.column if isinstance(parent, pa.RecordBatch) else parent.field
    return list(zip(get("tenant").to_pylist(), get("task_id").to_pylist(), strict=True))


def outcomes(batch: pa.RecordBatch) -> list[Outcome]:
    """One per row of AgentEvent columns, whatever its kind."""
    column = {name: batch.column(name).to_pylist() for name in ("started_at", "finished_at", "tokens_in", "tokens_out")}
    cited = [length > 0 for length in batch.column("citations").value_lengths().to_pylist()]
    tokens = [a + b for a, b in zip(column["tokens_in"], column["tokens_out"], strict=True)]
    durations = [(b - a) // 1000 for a, b in zip(column["started_at"], column["finished_at"], strict=True)]
    return list(
        map(
            Outcome,
            batch.column("event_id").to_pylist(),
            batch.column("kind").to_pylist(),
            child(batch, "slip", "agent_id"),
            child(batch, "slip", "attempt"),
            child(batch, "slip", "stage"),
            batch.column("confidence").to_pylist(),
            batch.column("answer").to_pylist(),
            batch.column("payload").to_pylist(),
            batch.column("vote_key").to_pylist(),
            cited,
            batch.column("error_class").to_pylist(),
            batch.column("cost_microusd").to_pylist(),
            tokens,
            durations,
        )
    )


def slips(batch: pa.RecordBatch) -> Iterator[Slip]:
    """The `slip` of each row of AgentEvent or TaskDispatched columns."""
    for row in batch.column("slip").to_pylist():
        yield Slip(**{**row, "panel": tuple(row["panel"]), "chain": tuple(row["chain"])})
