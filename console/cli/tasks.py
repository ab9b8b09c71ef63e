"""Tasks as people write them: from flags or from JSON lines to TaskSubmitted records.

I/O: reads the file of tasks, or standard input.
"""

from __future__ import annotations

import codecs
import json
import re
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import uuid4

import pyarrow as pa
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from console.cli.failures import InvalidInputError, UsageError
from schemas.codes import ErrorCode
from schemas.records import record, table

FAULTS_SHOWN_MAX = 20
INT64_MAX = 2**63 - 1


def _json_text(value: object) -> object:
    """A payload may be written as the JSON that it is, or as text that holds JSON."""
    if not isinstance(value, str):
        return None if value is None else json.dumps(value, ensure_ascii=False, allow_nan=False)
    try:
        json.loads(value)
    except (ValueError, RecursionError):
        raise ValueError("text that is not JSON") from None
    return value


Text = Annotated[str, Field(min_length=1)]
Upper = BeforeValidator(lambda value: value.upper() if isinstance(value, str) else value)


class Request(BaseModel):
    """One task of a file; names and meanings are TaskSubmitted's, but for `deadline_in_ms`, which counts from now."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    text: Text
    task_id: Text = Field(default_factory=lambda: str(uuid4()))
    tenant: Text = "default"
    conversation_id: Text | None = None
    payload: Annotated[str | None, BeforeValidator(_json_text)] = None
    intent: Text | None = None
    confidence: float | None = Field(None, ge=0, le=1)
    value_tier: Annotated[Literal["UNKNOWN", "LOW", "MEDIUM", "HIGH"], Upper] = "UNKNOWN"
    jurisdiction: str | None = None
    data_class: Annotated[Literal["UNKNOWN", "PUBLIC", "INTERNAL", "PERSONAL", "SENSITIVE"], Upper] = "UNKNOWN"
    language: str | None = None
    deadline_ms: int | None = Field(None, gt=0, le=INT64_MAX)
    deadline_in_ms: int | None = Field(None, gt=0, le=INT64_MAX // 2)
    budget_microusd: int | None = Field(None, ge=0, le=INT64_MAX)
    cause_id: str | None = None
    root_id: str | None = None
    depth: int = Field(0, ge=0, le=2**31 - 1)
    labels: Mapping[str, str] = Field(default_factory=dict)
    traceparent: str | None = None

    @property
    def key(self) -> bytes:
        """Of the Kafka record: what keeps a conversation, and a task with its duplicates, in one partition."""
        return (self.conversation_id or self.task_id).encode()

    def columns(self, now_us: int) -> dict[str, Any]:
        """Fields of TaskSubmitted, submitted at this time (microseconds since the epoch)."""
        fields = self.model_dump(exclude={"deadline_in_ms"})
        if self.deadline_in_ms is not None:
            fields["deadline_ms"] = now_us // 1000 + self.deadline_in_ms
        return fields | {"submitted_at": now_us}


def records(requests: Sequence[Request], now_us: int | None = None) -> pa.RecordBatch:
    """A TaskSubmitted batch, one row per request."""
    now_us = time.time_ns() // 1000 if now_us is None else now_us
    rows = [request.columns(now_us) for request in requests]
    kind = record("TaskSubmitted")
    columns = {
        field.name: pa.array([_arrow(row[field.name], field.type) for row in rows], field.type) for field in kind.arrow
    }
    return table(kind, columns, len(rows))


def _arrow(value: object, kind: pa.DataType) -> object:
    return list(value.items()) if isinstance(value, Mapping) and pa.types.is_map(kind) else value


def one_task(text: str | None, flags: Mapping[str, object], labels: Sequence[str]) -> Request:
    """The task that the flags describe. Raises UsageError."""
    if text is None:
        raise UsageError(
            'Nothing to submit: give a text, as in `pointsman submit "..."`, or a file with -f.',
            code=ErrorCode.NOTHING_TO_SUBMIT,
        )
    try:
        return Request.model_validate({**_stated(flags, labels), "text": text})
    except ValidationError as error:
        text = "; ".join(_flag_fault(dict(each)) for each in error.errors(include_url=False))
        raise UsageError(text, code=ErrorCode.FLAG_VALUE) from None


def read_tasks(file: Path, flags: Mapping[str, object], labels: Sequence[str]) -> list[Request]:
    """The tasks of a file, one JSON object a line; "-" is standard input. Flags are defaults for what a line omits.

    Raises InvalidInputError that names every faulty line, UsageError for flags that only one task can have.
    """
    if flags.get("task_id") is not None:
        raise UsageError(
            "--task-id names one task; in a file, each line states its own task_id.", code=ErrorCode.TASK_ID_OF_A_FILE
        )
    try:
        content = _standard_input() if str(file) == "-" else file.read_bytes()
    except OSError as error:
        raise InvalidInputError(f"{file} cannot be read: {error.strerror}") from None
    return parse_tasks(content, str(file), _stated(flags, labels))


def _standard_input() -> bytes:
    # What was closed before the process began is None.
    if sys.stdin is None:
        raise InvalidInputError("Standard input is closed: there is nothing to read tasks from.")
    return sys.stdin.buffer.read()


def parse_tasks(content: bytes, source: str, defaults: Mapping[str, object]) -> list[Request]:
    """As `read_tasks`; empty lines are skipped."""
    _require_utf_8(content, source)
    tasks: list[Request] = []
    faults: list[str] = []
    for number, line in enumerate(content.split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            tasks.append(_parse_line(line, defaults))
        except ValidationError as error:
            said = "; ".join(_line_fault(dict(each)) for each in error.errors(include_url=False))
            faults.append(f"{source}:{number}: {said}")
        except InvalidInputError as error:
            faults.append(f"{source}:{number}: {error}")
    if faults:
        count = f"{len(faults)} of the lines" if len(faults) > 1 else "1 line"
        raise InvalidInputError("\n".join([f"Nothing was submitted: {count} cannot be used.", *_cut(faults)]))
    if not tasks:
        raise InvalidInputError(f"{source} holds no task.")
    return tasks


def _require_utf_8(content: bytes, source: str) -> None:
    """Raises InvalidInputError for what begins like UTF-16 or UTF-32: no line of it could be read."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in content[:4]:
        raise InvalidInputError(
            f"{source} is not UTF-8 but, by its first bytes, UTF-16 or UTF-32. Convert it: iconv -f UTF-16 -t UTF-8"
        )


def _parse_line(line: bytes, defaults: Mapping[str, object]) -> Request:
    """Raises InvalidInputError, or ValidationError."""
    try:
        said = json.loads(line)
    except UnicodeDecodeError as error:
        raise InvalidInputError(
            f"is not UTF-8 at byte {error.start + 1}; of Latin-1, for one, iconv -f LATIN1 -t UTF-8 makes it"
        ) from None
    except json.JSONDecodeError as error:
        raise InvalidInputError(f"is not JSON: {error.msg} at column {error.colno}") from None
    except RecursionError:
        raise InvalidInputError("is nested too deeply") from None
    except ValueError as error:  # a number of thousands of digits
        raise InvalidInputError(f"is no JSON that can be used: {str(error).partition(';')[0]}") from None
    if not isinstance(said, dict):
        raise InvalidInputError('is not a JSON object, as in {"text": "..."}')
    return Request.model_validate({**defaults, **said})


def _stated(flags: Mapping[str, object], labels: Sequence[str]) -> dict[str, object]:
    stated = {name: value for name, value in flags.items() if value is not None}
    if labels:
        stated["labels"] = dict(_pairs(labels))
    return stated


def _pairs(labels: Iterable[str]) -> Iterator[tuple[str, str]]:
    for label in labels:
        key, equals, value = label.partition("=")
        if not equals or not key:
            raise UsageError(f"--label {label}: must be KEY=VALUE", code=ErrorCode.FLAG_VALUE)
        yield key, value


_FLAGS = {
    "text": "TEXT",
    "conversation_id": "--conversation",
    "value_tier": "--tier",
    "deadline_in_ms": "--deadline-ms",
}


def _flag_fault(error: dict[str, Any]) -> str:
    name = str(error["loc"][0])
    return f"{_FLAGS.get(name, '--' + name.replace('_', '-'))}: {_wrong(error)}"


def _line_fault(error: dict[str, Any]) -> str:
    return f"{'.'.join(map(str, error['loc']))}: {_wrong(error)}"


def _wrong(error: dict[str, Any]) -> str:
    if error["type"] == "missing":
        return "is missing"
    if error["type"] == "extra_forbidden":
        return "is no field of a task"
    return re.sub("^(Input|String|Value error,) ", "", str(error["msg"]))


def _cut(faults: list[str]) -> list[str]:
    more = len(faults) - FAULTS_SHOWN_MAX
    return faults if more <= 0 else [*faults[:FAULTS_SHOWN_MAX], f"... and {more} more"]
