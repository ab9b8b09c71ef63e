"""The values of events that end one by one; those of a batch, as `agents/event_columns.py` has them. I/O: none."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from itertools import groupby
from typing import Any, NamedTuple

import pyarrow as pa

from agents.dispatches import Attempt, Dispatched
from agents.outcome import COMPLETED, Outcome, failed
from agents.rows import sliced
from schemas.codec import FEW, Codec
from schemas.ids import agent_event_id
from schemas.reasons import ErrorClass
from schemas.records import table


class Entry(NamedTuple):
    """One event. `delivered` is for who waits until the log has it."""

    attempt: Attempt
    outcome: Outcome
    delivered: asyncio.Future[Any] | None


class EventEncoder:
    """`versions` are those that answer, by agent; `writers`, agents of which an answer that is lost leaves doubt.

    `changed` is told of an attempt of which the log gets another outcome than was given.
    """

    def __init__(
        self,
        codec: Codec,
        versions: Mapping[str, str],
        writers: frozenset[str],
        record_bytes_max: int,
        changed: Callable[[Attempt], None],
    ) -> None:
        self._codec, self._versions, self._writers = codec, versions, writers
        self._record_bytes_max, self._changed = record_bytes_max, changed

    def encoded(self, pending: list[Entry]) -> tuple[list[Entry], list[bytes]]:
        """The entries, those of one batch of dispatches together, and the value of each."""
        # In the order in which the batches were read, so that a conversation's events keep theirs.
        ordered = sorted(pending, key=lambda entry: entry.attempt.source.number)
        values = self._values([list(group) for _, group in groupby(ordered, lambda entry: entry.attempt.source.number)])
        too_large = [i for i, value in enumerate(values) if len(value) > self._record_bytes_max]
        for i in too_large:
            entry = ordered[i]
            if entry.outcome.kind == COMPLETED:
                self._changed(entry.attempt)
                ordered[i] = entry._replace(outcome=self._oversized(entry, len(values[i])))
                values[i] = self._values([[ordered[i]]])[0]
        return ordered, values

    def _oversized(self, entry: Entry, size: int) -> Outcome:
        acted = entry.attempt.inbox.agent_id in self._writers
        outcome = failed(
            ErrorClass.UNKNOWN_OUTCOME if acted else ErrorClass.INTERNAL,
            f"the answer makes a record of {size} bytes, {self._record_bytes_max} are allowed",
        )
        kept = entry.outcome
        return outcome._replace(started_at=kept.started_at, finished_at=kept.finished_at, ordinal=kept.ordinal)

    def _values(self, groups: list[list[Entry]]) -> list[bytes]:
        entries = [entry for group in groups for entry in group]
        columns: dict[str, Any] = dict(
            zip(Outcome._fields, map(list, zip(*(entry.outcome for entry in entries), strict=True)), strict=True)
        )
        columns |= {
            "event_id": [
                agent_event_id(
                    entry.attempt.id.tenant,
                    entry.attempt.id.task_id,
                    entry.attempt.agent_id,
                    entry.attempt.id.attempt,
                    entry.attempt.id.stage,
                    entry.outcome.kind,
                    entry.attempt.inbox.epoch,
                )
                for entry in entries
            ],
            "epoch": [entry.attempt.inbox.epoch for entry in entries],
            "agent_version": [self._versions[entry.attempt.inbox.agent_id] for entry in entries],
        }
        if len(entries) <= FEW:  # as those of agents that are called one by one: without Arrow a tenth, and no waiting
            columns["slip"] = [entry.attempt.source.slips[entry.attempt.row].as_py() for entry in entries]
            columns["task"] = [entry.attempt.source.identities[entry.attempt.row].as_py() for entry in entries]
            return self._codec.encode_values(columns, len(entries), "AgentEvent")
        columns |= {"slip": _gathered(groups, _slips), "task": _gathered(groups, _identities)}
        return self._codec.encode(table("AgentEvent", columns, len(entries)), "AgentEvent")


def _slips(source: Dispatched) -> pa.StructArray:
    return source.slips


def _identities(source: Dispatched) -> pa.StructArray:
    return source.identities


def _gathered(groups: list[list[Entry]], column_of: Callable[[Dispatched], pa.StructArray]) -> pa.StructArray:
    """The rows of all entries in a column of their sources; a group has one source. A poll has one for each inbox, so
    all are taken in one call: each costs as much as hundreds of rows. Mostly they stand as they were read."""
    parts: list[pa.StructArray] = []
    places: list[int] = []
    n = 0
    for group in groups:
        rows = [entry.attempt.row for entry in group]
        first, stop = min(rows), max(rows) + 1
        parts.append(sliced(column_of(group[0].attempt.source), first, stop))
        places += [n + row - first for row in rows]
        n += stop - first
    together = parts[0] if len(parts) == 1 else pa.concat_arrays(parts)
    return together if places == list(range(n)) else together.take(pa.array(places, pa.int64()))
