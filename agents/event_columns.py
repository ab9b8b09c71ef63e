"""Outcomes of rows as columns of an agent's log: those of all agents and partitions at once.

A call into Arrow costs more than a hundred rows of it, and a poll has some fifty topic-partitions: so columns are made
for all of them, and cut only when they are sent. I/O: none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from agents.dispatches import Dispatched
from agents.outcome_columns import Given, Outcomes
from agents.rows import Rows, Span, merged, sliced
from schemas.ids import fact_ids, joined
from schemas.records import table


class Block(NamedTuple):
    """What came of the rows of one call, and when, in us. `counted` is told how many there are of each kind, once."""

    rows: Rows
    given: Given
    started_at: int
    finished_at: int
    counted: Callable[[Mapping[str, int]], None]

    @property
    def place(self) -> tuple[int, int]:
        """Where its rows stand in what the host has read."""
        return self.rows.source.number, self.rows.spans[0].start

    @property
    def agent_id(self) -> str:
        return self.rows.spans[0].inbox.agent_id


def event_table(blocks: Sequence[Block], outcomes: Outcomes, versions: Mapping[str, str]) -> pa.RecordBatch:
    """Columns of AgentEvent, of the blocks in their order, and of the outcomes of their rows; `versions` by agent."""
    sizes = [len(block.rows) for block in blocks]
    spans = [(span, span.stop - span.start) for block in blocks for span in block.rows.spans]
    epochs = np.repeat(np.array([span.inbox.epoch for span, _ in spans], np.int64), [n for _, n in spans])
    sources = {block.rows.source.number: block.rows.source for block in blocks}
    # Few pieces, where the rows stand as they were read.
    numbered = merged((block.rows.source.number, *piece) for block in blocks for piece in block.rows.pieces)
    pieces = [(sources[number], start, stop) for number, start, stop in numbered]
    columns: dict[str, Any] = {
        **outcomes.columns,
        "kind": outcomes.kinds,
        "started_at": pa.array(np.repeat([block.started_at for block in blocks], sizes)),
        "finished_at": pa.array(np.repeat([block.finished_at for block in blocks], sizes)),
        "event_id": _event_ids(pieces, spans, outcomes.kinds_of_each()),
        "slip": _gathered(pieces, lambda source: source.slips),
        "task": _gathered(pieces, lambda source: source.identities),
        "epoch": pa.array(epochs),
        "agent_version": _repeated([versions[block.agent_id] for block in blocks], sizes),
    }
    return table("AgentEvent", columns, sum(sizes))


def _repeated(values: Sequence[str], sizes: Sequence[int]) -> Any:
    if len(set(values)) == 1:
        return values[0]
    return pa.array(values, pa.string()).take(pa.array(np.repeat(np.arange(len(sizes)), sizes)))


Piece = tuple[Dispatched, int, int]


def _gathered(pieces: Sequence[Piece], column_of: Callable[[Dispatched], pa.Array]) -> pa.Array:
    parts = [sliced(column_of(source), start, stop) for source, start, stop in pieces]
    return parts[0] if len(parts) == 1 else pa.concat_arrays(parts)


def _event_ids(pieces: Sequence[Piece], spans: Sequence[tuple[Span, int]], kinds: Sequence[str]) -> list[str]:
    """As `schemas.ids.agent_event_id`, whose parts behind the task are the same for many rows; `spans` with their
    sizes."""
    attempts, stages = (
        _gathered(pieces, lambda source, name=name: source.slips.field(name)).to_pylist()  # type: ignore[misc]
        for name in ("attempt", "stage")
    )
    whats = list(zip(attempts, stages, kinds, strict=True))
    between = {each: joined(*each) for each in set(whats)}
    rests: list[bytes] = []
    at = 0
    for span, n in spans:
        agent, epoch = joined(span.inbox.agent_id), joined(span.inbox.epoch)
        of_span = {what: f"{agent}{text}{epoch}".encode() for what, text in between.items()}
        rests += map(of_span.__getitem__, whats[at : at + n])
        at += n
    return fact_ids(_gathered(pieces, Dispatched.task_texts).to_pylist(), rests)
