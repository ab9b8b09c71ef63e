"""Record batches as the cell reads them: the few columns a decision needs, as Python values, a column at a time.

I/O: none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, overload

import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

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


class Outcomes(Sequence[Outcome]):
    """One per row of AgentEvent columns, whatever its kind; made when it is asked for, for few rows are."""

    def __init__(self, batch: pa.RecordBatch) -> None:
        self._batch = batch

    def __len__(self) -> int:
        return int(self._batch.num_rows)

    @overload
    def __getitem__(self, row: int) -> Outcome: ...
    @overload
    def __getitem__(self, row: slice) -> list[Outcome]: ...
    def __getitem__(self, row: int | slice) -> Outcome | list[Outcome]:
        if isinstance(row, slice):
            return list(map(self.__getitem__, range(*row.indices(len(self)))))
        return Outcome(*(column[row] for column in self._columns))

    def __iter__(self) -> Iterator[Outcome]:
        return map(Outcome, *self._columns)

    @cached_property
    def _columns(self) -> list[list[Any]]:
        batch = self._batch
        column = {name: batch.column(name).to_pylist() for name in (*_TIMES, *_TOKENS)}
        return [
            batch.column("event_id").to_pylist(),
            batch.column("kind").to_pylist(),
            *(child(batch, "slip", name) for name in ("agent_id", "attempt", "stage")),
            *(batch.column(name).to_pylist() for name in ("confidence", "answer", "payload", "vote_key")),
            [length > 0 for length in batch.column("citations").value_lengths().to_pylist()],
            *(batch.column(name).to_pylist() for name in ("error_class", "cost_microusd")),
            [sum(each) for each in zip(*(column[name] for name in _TOKENS), strict=True)],
            [(end - start) // 1000 for start, end in zip(*(column[name] for name in _TIMES), strict=True)],
        ]


_TIMES, _TOKENS = ("started_at", "finished_at"), ("tokens_in", "tokens_out")


def outcomes(batch: pa.RecordBatch) -> list[Outcome]:
    """One per row of AgentEvent columns, whatever its kind."""
    return list(Outcomes(batch))


def slips(batch: pa.RecordBatch) -> Iterator[Slip]:
    """The `slip` of each row of AgentEvent or TaskDispatched columns."""
    for row in batch.column("slip").to_pylist():
        yield Slip(**{**row, "panel": tuple(row["panel"]), "chain": tuple(row["chain"])})


def filled(column: pa.Array, where_null: float) -> npt.NDArray[Any]:
    """Numbers, with this one where there is none."""
    values: npt.NDArray[Any] = pc.fill_null(column, pa.scalar(where_null, column.type)).to_numpy(zero_copy_only=False)
    return values
