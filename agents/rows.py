"""Dispatches to batch agents as columns, from the poll to the log: no object for a row.

What is out of the ordinary (known before, overdue, given up, overrun, not answered in form) becomes attempts again, and
takes the way of every other agent: that way is the meaning, this one is quicker. I/O: none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from agents.contract import BATCH_OUTPUT, BATCH_REFUSED
from agents.dispatches import Attempt, Dispatched
from agents.inbox import Inbox
from agents.outcome import COMPLETED, ERROR_CHARS_MAX, FAILED, REFUSED, SILENT, Outcome, column_of, rows_of
from agents.recognition import AttemptId
from schemas.reasons import ErrorClass

# What a row has of which its agent says nothing; in columns nothing is remembered.
_UNSAID: Mapping[str, Any] = {
    **dict.fromkeys(("answer", "vote_key", "payload", "confidence", "tool_calls")),
    "citations": [],
    "facts": [],
    **dict.fromkeys(("tokens_in", "tokens_out", "cost_microusd", "ordinal"), 0),
}


class Span(NamedTuple):
    """Rows `start` to `stop` of a batch of dispatches, all of one inbox, with their ids and offsets, and when the first
    and the last of them are overdue."""

    inbox: Inbox
    start: int
    stop: int
    ids: Sequence[AttemptId]
    offsets: Sequence[int]
    expires_ms: tuple[int, int]


@dataclass(slots=True, eq=False, repr=False)
class Rows:
    """Dispatches of one poll to one batch agent. None of them was met before; all are in hand.

    `expires_ms` is when the first and the last of them are overdue. `pieces` is where they stand in the source: few
    pieces, as a fetch brings the partitions of a topic together.
    """

    source: Dispatched
    spans: Sequence[Span]
    expires_ms: tuple[int, int]
    expand: Callable[[Rows], list[Attempt]]
    pieces: Sequence[tuple[int, int]] = field(init=False)
    _n: int = field(init=False)

    def __post_init__(self) -> None:
        self.pieces = [(start, stop) for _, start, stop in merged((0, span.start, span.stop) for span in self.spans)]
        self._n = sum(stop - start for start, stop in self.pieces)

    def __len__(self) -> int:
        return self._n

    @property
    def inboxes(self) -> set[Inbox]:
        return {span.inbox for span in self.spans}

    def batch_input(self) -> pa.RecordBatch:
        """What their agent is given: the columns of BATCH_INPUT."""
        whole = self.source.batch_input()
        parts = [sliced(whole, start, stop) for start, stop in self.pieces]
        return parts[0] if len(parts) == 1 else pa.concat_batches(parts)

    def attempts(self) -> list[Attempt]:
        """The same, one object a row."""
        return self.expand(self)

    def keys(self) -> Iterator[list[bytes | None]]:
        """Of each span."""
        return (self.source.keys[span.start : span.stop] for span in self.spans)

    def ended(self, at: int) -> None:
        """They have their outcomes; `at` in us."""
        for span in self.spans:
            span.inbox.known.ended_all(span.ids, at)


@dataclass(frozen=True, slots=True, repr=False)
class Outcomes:
    """What came of rows: columns of AgentEvent of `n` rows, the ordinary ones as one value for all."""

    n: int
    kinds: Any
    columns: Mapping[str, Any]

    def __len__(self) -> int:
        return self.n

    def column(self, name: str) -> Any:
        return self.kinds if name == "kind" else self.columns[name]

    def kinds_of_each(self) -> list[str]:
        return _list(self.kinds, self.n)

    def counts(self) -> Mapping[str, int]:
        if isinstance(self.kinds, str):
            return {self.kinds: self.n}
        return {each["values"]: each["counts"] for each in pc.value_counts(self.kinds).to_pylist()}

    def at(self, started_us: int, finished_us: int) -> Outcomes:
        """The same, with these times."""
        return Outcomes(self.n, self.kinds, {**self.columns, "started_at": started_us, "finished_at": finished_us})

    def rows(self) -> list[Outcome]:
        """The same, one object a row."""
        columns = {name: _list(column, self.n) for name, column in self.columns.items()}
        columns["citations"], columns["facts"] = (list(map(tuple, columns[name])) for name in ("citations", "facts"))
        return [
            Outcome(kind, **dict(zip(columns, row, strict=True)))
            for kind, row in zip(self.kinds_of_each(), zip(*columns.values(), strict=True), strict=True)
        ]


def merged(pieces: Iterable[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """Pieces (source, start, stop) of sources, those that follow each other as one."""
    found: list[tuple[int, int, int]] = []
    for source, start, stop in pieces:
        if found and found[-1][0] == source and found[-1][2] == start:
            found[-1] = (source, found[-1][1], stop)
        else:
            found.append((source, start, stop))
    return found


def sliced(column: Any, start: int, stop: int) -> Any:
    """Rows of an array or of a record batch; itself, where that is all of it."""
    return column if stop - start == len(column) else column.slice(start, stop - start)


def _list(column: Any, n: int) -> list[Any]:
    return column.to_pylist() if isinstance(column, pa.Array) else [column] * n


def outcomes_of(rows: object, expected: int, *, may_have_acted: bool) -> Outcomes:
    """As `agents.outcome.from_batch`, in columns. Raises UnusableAnswer where the output does not fit its input."""
    given = rows_of(rows, expected)
    names = set(given.schema.names)
    found = {each.name: column_of(given, each) for each in BATCH_OUTPUT if each.name in names}
    plain = {**_UNSAID, **{name: _filled(column, _UNSAID[name]) for name, column in found.items() if name in _UNSAID}}
    error_class, answer = found.get("error_class"), found.get("answer")
    none_failed = error_class is None or error_class.null_count == expected
    if none_failed and answer is not None and not answer.null_count:
        return Outcomes(expected, COMPLETED, {**plain, "error_class": None, "error": None})
    error_class, answer, error = (_given(found.get(name), expected) for name in ("error_class", "answer", "error"))
    named, answered = error_class.is_valid(), answer.is_valid()
    refused = pc.fill_null(pc.equal(error_class, BATCH_REFUSED), pa.scalar(False))
    completed = pc.and_(pc.invert(named), answered)
    silent = ErrorClass.UNKNOWN_OUTCOME if may_have_acted else ErrorClass.INTERNAL
    kinds = pc.if_else(refused, REFUSED, pc.if_else(completed, COMPLETED, FAILED))
    columns: dict[str, Any] = {
        name: pc.if_else(completed, column, _nothing(column.type)) if isinstance(column, pa.Array) else column
        for name, column in plain.items()
    }
    said = pc.if_else(named, pc.fill_null(error, ""), SILENT)
    columns["error"] = _cut(pc.if_else(completed, _nothing(pa.string()), said))
    named_as = pc.if_else(named, error_class, str(silent))
    columns["error_class"] = _cut(pc.if_else(pc.or_(completed, refused), _nothing(pa.string()), named_as))
    return Outcomes(expected, kinds, columns)


def _given(column: pa.Array | None, n: int) -> pa.Array:
    return pa.nulls(n, pa.string()) if column is None else column


def _filled(column: pa.Array, value: Any) -> pa.Array:
    """The column with `value` in the place of null, where that is none itself."""
    return pc.fill_null(column, pa.scalar(value, column.type)) if value is not None and column.null_count else column


def _nothing(kind: pa.DataType) -> pa.Scalar:
    """What a row without an answer has in a column of this type."""
    if pa.types.is_list(kind):
        return pa.scalar([], kind)
    return pa.scalar(0 if pa.types.is_integer(kind) else None, kind)


def _cut(texts: pa.Array) -> pa.Array:
    return pc.utf8_slice_codeunits(texts, 0, ERROR_CHARS_MAX)
