"""Outcomes of rows as columns of an agent's log: those of all agents and partitions at once.

A call into Arrow costs more than a hundred rows of it, and a poll has some fifty topic-partitions: so columns are made
for all of them, and cut only when they are sent. I/O: none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import chain, repeat
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from agents.dispatches import Dispatched
from agents.outcome import Outcome
from agents.rows import Outcomes, Rows, merged, sliced
from schemas.ids import joined, task_fact_ids
from schemas.records import record, table

_TYPES = {name: record("AgentEvent").arrow.field(name).type for name in Outcome._fields}


class Block(NamedTuple):
    """What came of the rows of one call."""

    rows: Rows
    outcomes: Outcomes

    @property
    def place(self) -> tuple[int, int]:
        """Where its rows stand in what the host has read."""
        return self.rows.source.number, self.rows.spans[0].start

    @property
    def agent_id(self) -> str:
        return self.rows.spans[0].inbox.agent_id


def event_table(blocks: Sequence[Block], versions: Mapping[str, str]) -> pa.RecordBatch:
    """Columns of AgentEvent, of the blocks in their order; `versions` by agent."""
    sizes = [len(block.rows) for block in blocks]
    of_row = pa.array(np.repeat(np.arange(len(blocks)), sizes))
    spans = [(span, span.stop - span.start) for block in blocks for span in block.rows.spans]
    columns: dict[str, Any] = {
        name: _column([block.outcomes.column(name) for block in blocks], sizes, of_row, _TYPES[name])
        for name in Outcome._fields
    }
    epochs = np.repeat(np.array([span.inbox.epoch for span, _ in spans], np.int64), [n for _, n in spans])
    columns |= {
        "event_id": [each for block in blocks for each in _event_ids(block)],
        "slip": _gathered(blocks, lambda source: source.slips),
        "task": _gathered(blocks, lambda source: source.identities),
        "epoch": pa.array(epochs),
        "agent_version": _column([versions[block.agent_id] for block in blocks], sizes, of_row, pa.string()),
    }
    return table("AgentEvent", columns, sum(sizes))


def _column(parts: Sequence[Any], sizes: Sequence[int], of_row: pa.Int64Array, kind: pa.DataType) -> Any:
    """Columns one behind the other, in the log's own type; a part may be one value for all its rows, and so may the
    column be. `of_row` is the part of each row."""
    if not any(isinstance(part, pa.Array) for part in parts):
        if all(part == parts[0] for part in parts):
            return parts[0] if not isinstance(parts[0], list) else pa.repeat(pa.scalar(parts[0], kind), len(of_row))
        return pa.array(parts, kind).take(of_row)
    arrays = []
    for part, n in zip(parts, sizes, strict=True):
        if isinstance(part, pa.Array):
            arrays.append(part if part.type == kind else part.cast(kind))
        else:
            arrays.append(pa.nulls(n, kind) if part is None else pa.repeat(pa.scalar(part, kind), n))
    return arrays[0] if len(arrays) == 1 else pa.concat_arrays(arrays)


def _gathered(blocks: Sequence[Block], column_of: Callable[[Dispatched], pa.Array]) -> pa.Array:
    """The rows of all blocks in a column of their sources: few pieces, where they stand as they were read."""
    numbered = merged((block.rows.source.number, *piece) for block in blocks for piece in block.rows.pieces)
    sources = {block.rows.source.number: block.rows.source for block in blocks}
    parts = [sliced(column_of(sources[number]), start, stop) for number, start, stop in numbered]
    return parts[0] if len(parts) == 1 else pa.concat_arrays(parts)


def _event_ids(block: Block) -> list[str]:
    """As `schemas.ids.agent_event_id`, whose parts behind the task are the same for most rows."""
    kinds = block.outcomes.kinds_of_each()
    tenants, task_ids, attempts, stages = zip(*chain.from_iterable(span.ids for span in block.rows.spans), strict=True)
    epochs = chain.from_iterable(repeat(span.inbox.epoch, span.stop - span.start) for span in block.rows.spans)
    behind = list(zip(attempts, stages, kinds, epochs, strict=True))
    tails = {each: joined(block.agent_id, *each) for each in set(behind)}
    return task_fact_ids(tenants, task_ids, map(tails.__getitem__, behind))
