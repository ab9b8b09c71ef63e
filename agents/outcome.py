"""What becomes of one attempt, in the columns of an agent's log.

I/O: none.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from numbers import Real
from typing import Any, NamedTuple

import pyarrow as pa

from agents.contract import BATCH_OUTPUT, BATCH_REFUSED, AgentFailed, AgentRefused, Answer
from agents.memory.model import ToolCall
from agents.memory.sources import tool_calls_text
from schemas.reasons import ErrorClass

STARTED, COMPLETED, FAILED, REFUSED, NOTE = "STARTED", "COMPLETED", "FAILED", "REFUSED", "NOTE"
OUTCOMES = frozenset({COMPLETED, FAILED, REFUSED})

ERROR_CHARS_MAX = 500
SILENT = "the agent gave this row no answer"
INT64_MAX = 2**63 - 1


class Outcome(NamedTuple):
    """A fact about an attempt. The fields are columns of AgentEvent, under the same names; times are in us."""

    kind: str
    answer: str | None = None
    vote_key: str | None = None
    payload: str | None = None
    confidence: float | None = None
    citations: tuple[str, ...] = ()
    facts: tuple[str, ...] = ()
    error_class: str | None = None
    error: str | None = None
    tokens_in: int = 0
    tokens_out: int = 0
    cost_microusd: int = 0
    started_at: int = 0
    finished_at: int = 0
    ordinal: int = 0
    tool_calls: str | None = None


class OutcomeUnclear(Exception):  # noqa: N818  what happened, not what is wrong with the program
    """The agent was called, and what came of it was not learned. Of one that only reads it failed, as `error_class`."""

    def __init__(self, message: str, error_class: str = ErrorClass.INTERNAL) -> None:
        self.error_class = str(error_class)
        super().__init__(message)


class UnusableAnswer(OutcomeUnclear):
    """An agent returned something that is no answer."""


def failed(error_class: str, error: str) -> Outcome:
    return Outcome(FAILED, error_class=_clean(str(error_class)), error=_clean(error))


def timed_out(error: str) -> Outcome:
    return failed(ErrorClass.TIMEOUT, error)


def refused(error: str) -> Outcome:
    return Outcome(REFUSED, error=_clean(error))


def from_error(error: BaseException, *, may_have_acted: bool) -> Outcome:
    """What an exception out of an agent says.

    `may_have_acted`: of a write agent that was called. What it did not report itself leaves its outcome unknown.
    """
    if isinstance(error, AgentFailed):
        return failed(error.error_class, str(error))
    if isinstance(error, AgentRefused):
        return refused(str(error))
    text, error_class = f"{type(error).__name__}: {error}", str(ErrorClass.INTERNAL)
    if isinstance(error, OutcomeUnclear):
        text, error_class = str(error), error.error_class
    return failed(ErrorClass.UNKNOWN_OUTCOME if may_have_acted else error_class, text)


def from_answer(answer: object) -> Outcome:
    """Raises UnusableAnswer for what the log cannot hold. A confidence out of range, or NaN, passes: it is judged."""
    if not isinstance(answer, Answer):
        raise UnusableAnswer(f"the agent returned {_type(answer)}, not an Answer")
    return Outcome(
        COMPLETED,
        answer=_text("text", answer.text),
        vote_key=None if answer.vote_key is None else _text("vote_key", answer.vote_key),
        payload=None if answer.payload is None else _json(answer.payload),
        confidence=None if answer.confidence is None else _real("confidence", answer.confidence),
        citations=_texts("citations", answer.citations),
        facts=_texts("facts", answer.facts),
        tokens_in=_count("tokens_in", answer.tokens_in),
        tokens_out=_count("tokens_out", answer.tokens_out),
        cost_microusd=_count("cost_microusd", answer.cost_microusd),
        tool_calls=tool_calls_text(_calls(answer.tool_calls)),
    )


def from_batch(rows: object, expected: int, *, may_have_acted: bool) -> list[Outcome]:
    """Outcomes of a batch agent's output, one per row. Raises UnusableAnswer where it does not fit its input."""
    given = rows_of(rows, expected)
    columns = [column_of(given, field).to_pylist() for field in BATCH_OUTPUT]
    silent = failed(ErrorClass.UNKNOWN_OUTCOME if may_have_acted else ErrorClass.INTERNAL, SILENT)
    return [_from_row(row, silent) for row in zip(*columns, strict=True)]


def _from_row(row: tuple[Any, ...], silent: Outcome) -> Outcome:
    answer, confidence, vote_key, payload, citations, facts, error_class, error, tokens_in, tokens_out, cost = row
    if error_class == BATCH_REFUSED:
        return refused(error or "")
    if error_class is not None:
        return failed(error_class, error or "")
    if answer is None:
        return silent
    return Outcome(
        COMPLETED,
        answer,
        vote_key,
        payload,
        confidence,
        tuple(citations or ()),
        tuple(facts or ()),
        tokens_in=tokens_in or 0,
        tokens_out=tokens_out or 0,
        cost_microusd=cost or 0,
    )


def rows_of(rows: object, expected: int) -> pa.RecordBatch:
    """A batch agent's output. Raises UnusableAnswer where it is none."""
    if not isinstance(rows, pa.RecordBatch):
        raise UnusableAnswer(f"the agent returned {_type(rows)}, not a RecordBatch")
    if rows.num_rows != expected:
        raise UnusableAnswer(f"the agent returned {rows.num_rows} rows for {expected}")
    return rows


def column_of(rows: pa.RecordBatch, field: pa.Field) -> pa.Array:
    """A column of a batch agent's output, null where it is left out. Raises UnusableAnswer for what no log can hold."""
    index = rows.schema.get_field_index(field.name)
    if index < 0:
        return pa.nulls(rows.num_rows, field.type)
    try:
        column = rows.column(index)
        if column.type != field.type:
            column = column.cast(field.type)
        column.validate(full=True)  # text that is not UTF-8 would stop the reader, not the writer
    except pa.ArrowException as error:
        raise UnusableAnswer(f"column {field.name} cannot be read as {field.type}") from error
    if pa.types.is_list(field.type) and column.flatten().null_count:
        raise UnusableAnswer(f"column {field.name} holds a null")
    return column


def _text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise UnusableAnswer(f"{name} is {_type(value)}, not str")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise UnusableAnswer(f"{name} holds half a surrogate pair, which is no text") from error
    return value


def _texts(name: str, values: object) -> tuple[str, ...]:
    # What agents mostly give is asked for first here and below: a protocol as Iterable costs as much as all else.
    if not isinstance(values, tuple) and (isinstance(values, str | Mapping) or not isinstance(values, Iterable)):
        raise UnusableAnswer(f"{name} is {_type(values)}, not a tuple of str")
    return tuple([_text(name, value) for value in values])


def _calls(values: object) -> tuple[ToolCall, ...]:
    if values == ():
        return ()
    calls = tuple(values) if isinstance(values, Iterable) else (values,)
    if not all(isinstance(each, ToolCall) for each in calls):
        raise UnusableAnswer(f"tool_calls is {_type(values)}, not a tuple of ToolCall")
    for call in calls:
        for name in ("call_id", "name", "arguments"):
            _text(f"tool_calls.{name}", getattr(call, name))
        if call.result is not None:
            _text("tool_calls.result", call.result)
    return calls


def _real(name: str, value: object) -> float:
    if not isinstance(value, float | Real) or isinstance(value, bool):
        raise UnusableAnswer(f"{name} is {_type(value)}, not a number")
    try:
        return float(value)
    except OverflowError as error:
        raise UnusableAnswer(f"{name} is too large a number") from error


def _count(name: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= INT64_MAX:
        raise UnusableAnswer(f"{name} is no count")
    return value


def _json(value: object) -> str:
    try:
        return _text("payload", json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":")))
    except (TypeError, ValueError, RecursionError) as error:
        raise UnusableAnswer("payload is nothing that JSON can hold") from error


def _clean(text: str) -> str:
    return text[:ERROR_CHARS_MAX].encode("utf-8", "replace").decode()


def _type(value: object) -> str:
    return type(value).__name__
