"""Record batches as the cell reads them: the few columns a decision needs, as Python values, a column at a time.

I/O: none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from streams.core.task import Identity, Outcome, Slip, TaskKey


@dataclass(frozen=True, slots=True)
class Submissions:
    """Valid TaskSubmitted records, each partition's in offset order. All sequences are as long as `batch`.

    `frames` and `datums`: what precedes and follows the slip in a dispatch of the row's task; the first `ahead` bytes
    of each of `datums` are no part of it.
    """

    batch: pa.RecordBatch
    keys: Sequence[bytes]
    frames: Sequence[bytes]
    datums: Sequence[bytes]
    offsets: Sequence[int]
    appended_ms: Sequence[int]
    ahead: int = 0


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


def identities(parent: pa.RecordBatch | pa.StructArray) -> list[Identity]:
    """From TaskSubmitted columns, or from the `task` of an AgentEvent or a TaskDispatched."""
    get = parent.column if isinstance(parent, pa.RecordBatch) else parent.field
    columns = (get(name).to_pylist() for name in ("traceparent", "submitted_at", "root_id"))
    return list(map(Identity, get("conversation_id").to_pylist(), labels(get("labels")), *columns))


def task_keys(parent: pa.RecordBatch | pa.StructArray) -> list[TaskKey]:
    get = parent.column if isinstance(parent, pa.RecordBatch) else parent.field
    return list(zip(get("tenant").to_pylist(), get("task_id").to_pylist(), strict=True))


class Outcomes:
    """What AgentEvent columns say, as one object a row, whatever its kind; made when it is asked for: few rows are."""

    def __init__(self, batch: pa.RecordBatch) -> None:
        self._batch = batch

    def __iter__(self) -> Iterator[Outcome]:
        return map(Outcome, *_values(self._batch))

    def at(self, rows: Sequence[int]) -> Iterator[Outcome]:
        """Those of these rows, in the order given. Ask for all at once: one row takes as many calls of Arrow."""
        return map(Outcome, *_values(self._batch, pa.array(rows, pa.int64())))


def _values(batch: pa.RecordBatch, rows: pa.Int64Array | None = None) -> list[list[Any]]:
    """The fields of Outcome, a list for each, of these rows or of all."""

    places = None if rows is None else rows.to_numpy()

    def picked(column: pa.Array) -> pa.Array:
        return column if rows is None else column.take(rows)

    def listed(names: Sequence[str], parent: pa.RecordBatch | pa.StructArray = batch) -> list[list[Any]]:
        get = parent.column if isinstance(parent, pa.RecordBatch) else parent.field
        return [picked(get(name)).to_pylist() for name in names]

    def numbers(names: Sequence[str], parent: pa.RecordBatch | pa.StructArray = batch) -> list[list[int]]:
        # As `listed`, by a quicker way; of Python's numbers, for the sum of two of Arrow's may be none.
        get = parent.column if isinstance(parent, pa.RecordBatch) else parent.field
        columns = [get(name).to_numpy() for name in names]
        return [(column if places is None else column[places]).tolist() for column in columns]

    slip = batch.column("slip")
    starts, ends, tokens_in, tokens_out, cost = numbers((*_TIMES, *_TOKENS, "cost_microusd"))
    return [
        *listed(("event_id", "kind")),
        *listed(("agent_id",), slip),
        *numbers(("attempt",), slip),
        *listed(("stage",), slip),
        *listed(("confidence", "answer", "payload", "vote_key")),
        [length > 0 for length in picked(batch.column("citations").value_lengths()).to_pylist()],
        *listed(("error_class",)),
        cost,
        [sum(each) for each in zip(tokens_in, tokens_out, strict=True)],
        [(end - start) // 1000 for start, end in zip(starts, ends, strict=True)],
    ]


_TIMES, _TOKENS = ("started_at", "finished_at"), ("tokens_in", "tokens_out")


def outcomes(batch: pa.RecordBatch) -> list[Outcome]:
    """One per row of AgentEvent columns, whatever its kind."""
    return list(Outcomes(batch))


def slips(batch: pa.RecordBatch) -> Iterator[Slip]:
    """The `slip` of each row of AgentEvent or TaskDispatched columns."""
    yield from map(slip_of, batch.column("slip").to_pylist())


def slip_of(row: Mapping[str, Any]) -> Slip:
    """From a Slip in the shape of a dict."""
    return Slip(**{**row, "panel": tuple(row["panel"]), "chain": tuple(row["chain"])})


def filled(column: pa.Array, where_null: float) -> npt.NDArray[Any]:
    """Numbers, with this one where there is none."""
    nulls = column.null_count
    if nulls == len(column):
        return np.full(nulls, where_null, column.type.to_pandas_dtype())
    whole = pc.fill_null(column, pa.scalar(where_null, column.type)) if nulls else column
    values: npt.NDArray[Any] = whole.to_numpy(zero_copy_only=False)
    return values


def columns_of(kind: type[NamedTuple], rows: Sequence[tuple[Any, ...]]) -> dict[str, Any]:
    """Of tuples of this kind: a list for each field."""
    columns = zip(*rows, strict=True) if rows else ((),) * len(kind._fields)
    return dict(zip(kind._fields, map(list, columns), strict=True))
