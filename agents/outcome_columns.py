"""What came of rows, in columns: those of all agents and calls of a moment judged at once.

A call into Arrow costs as much as a hundred rows of it, and a poll has a dozen agents, each of which gives back a batch
of its own. So a batch is only looked at for what no log can hold; what its rows say is told of all batches together.
`agents.outcome.from_batch` is the same, row by row. I/O: none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from agents.contract import BATCH_OUTPUT, BATCH_REFUSED
from agents.outcome import COMPLETED, ERROR_CHARS_MAX, FAILED, REFUSED, SILENT, Outcome, column_of, rows_of
from schemas.reasons import ErrorClass

# What stands in the place of null where the log takes none; all else that its agent leaves unsaid is null there.
_EMPTY: Mapping[str, Any] = {"citations": [], "facts": [], "tokens_in": 0, "tokens_out": 0, "cost_microusd": 0}
_ERRORS = frozenset({"error_class", "error"})


@dataclass(frozen=True, slots=True, repr=False)
class Given:
    """What a batch agent gave for `n` rows, or was said in its place: columns of BATCH_OUTPUT, all that it stated."""

    n: int
    columns: Mapping[str, pa.Array]

    def __len__(self) -> int:
        return self.n


def given_of(rows: object, expected: int) -> Given:
    """A batch agent's output. Raises UnusableAnswer where it does not fit its input, or no log can hold it."""
    given = rows_of(rows, expected)
    names = set(given.schema.names)
    return Given(expected, {each.name: column_of(given, each) for each in BATCH_OUTPUT if each.name in names})


def failed_of(verdicts: Sequence[Outcome], which: npt.NDArray[np.integer[Any]]) -> Given:
    """Rows that failed without a call, each as the verdict of that index says."""
    indices = pa.array(which)
    said = {name: [getattr(each, name) for each in verdicts] for name in ("error_class", "error")}
    return Given(len(which), {name: pa.array(texts, pa.string()).take(indices) for name, texts in said.items()})


@dataclass(frozen=True, slots=True, repr=False)
class Outcomes:
    """Columns of AgentEvent of `n` rows, but for their times. Of what no row states there is no column: it is as the
    defaults of AgentEvent, and of Outcome, have it."""

    n: int
    kinds: Any
    columns: Mapping[str, pa.Array]

    def kinds_of_each(self) -> list[str]:
        kinds: list[str] = [self.kinds] * self.n if isinstance(self.kinds, str) else self.kinds.to_pylist()
        return kinds

    def counts(self, sizes: Sequence[int]) -> list[Mapping[str, int]]:
        """How many there are of each kind, among so many rows, and so many behind them, and so on."""
        if isinstance(self.kinds, str):
            return [{self.kinds: n} for n in sizes]
        coded = self.kinds.dictionary_encode()
        names = coded.dictionary.to_pylist()
        cells = np.repeat(np.arange(len(sizes)) * len(names), sizes) + coded.indices.to_numpy()
        table = np.bincount(cells, minlength=len(sizes) * len(names)).reshape(len(sizes), len(names))
        return [{name: count for name, count in zip(names, row, strict=True) if count} for row in table.tolist()]

    def rows(self) -> list[Outcome]:
        """The same, one object a row."""
        columns = {name: column.to_pylist() for name, column in self.columns.items()}
        columns |= {name: list(map(tuple, columns[name])) for name in ("citations", "facts") if name in columns}
        stated = zip(*columns.values(), strict=True) if columns else repeat((), self.n)
        return [
            Outcome(kind, **dict(zip(columns, row, strict=True)))
            for kind, row in zip(self.kinds_of_each(), stated, strict=True)
        ]


def judged(parts: Sequence[Given]) -> Outcomes:
    """The outcomes of the rows of all parts, one part behind the other."""
    n = sum(map(len, parts))
    stated = {name for part in parts for name in part.columns}
    found = {each.name: _together(parts, each) for each in BATCH_OUTPUT if each.name in stated}
    plain = {name: _filled(column, _EMPTY.get(name)) for name, column in found.items() if name not in _ERRORS}
    error_class, answer = found.get("error_class"), found.get("answer")
    none_failed = error_class is None or error_class.null_count == n
    if none_failed and answer is not None and not answer.null_count:
        return Outcomes(n, COMPLETED, plain)
    error_class, answer, error = (_stated(found.get(name), n) for name in ("error_class", "answer", "error"))
    named, answered = error_class.is_valid(), answer.is_valid()
    refused = pc.fill_null(pc.equal(error_class, BATCH_REFUSED), pa.scalar(False))
    completed = pc.and_(pc.invert(named), answered)
    kinds = pc.if_else(refused, REFUSED, pc.if_else(completed, COMPLETED, FAILED))
    columns = {name: pc.if_else(completed, column, _nothing(column.type)) for name, column in plain.items()}
    said = pc.if_else(named, pc.fill_null(error, ""), SILENT)
    columns["error"] = _cut(pc.if_else(completed, _nothing(pa.string()), said))
    # No agent that writes is served in columns: what stays silent has done nothing.
    named_as = pc.if_else(named, error_class, str(ErrorClass.INTERNAL))
    columns["error_class"] = _cut(pc.if_else(pc.or_(completed, refused), _nothing(pa.string()), named_as))
    return Outcomes(n, kinds, columns)


def _together(parts: Sequence[Given], field: pa.Field) -> pa.Array:
    """One column of all parts, null where one did not state it."""
    stated = [part.columns.get(field.name) for part in parts]
    arrays = [_stated(column, part.n, field.type) for column, part in zip(stated, parts, strict=True)]
    return arrays[0] if len(arrays) == 1 else pa.concat_arrays(arrays)


def _stated(column: pa.Array | None, n: int, kind: pa.DataType | None = None) -> pa.Array:
    return pa.nulls(n, kind or pa.string()) if column is None else column


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
