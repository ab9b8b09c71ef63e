"""Tasks as people write them: from flags or from JSON lines to submissions.

I/O: reads the file of tasks, or standard input.
"""

from __future__ import annotations

import codecs
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from console.cli.failures import InvalidInputError, UsageError
from schemas.codes import ErrorCode
from schemas.errors import first
from streams.client import Submission
from streams.client.submissions import reason, wrong


def tasks_of(
    text: str | None, file: Path | None, flags: Mapping[str, object], labels: Sequence[str]
) -> list[Submission]:
    """The one task of a text, or those of a file. Raises UsageError, InvalidInputError."""
    if file is None:
        return [one_task(text, flags, labels)]
    if text is not None:
        raise UsageError(f"Give a text or a file, not both: {text!r} and {file}.", code=ErrorCode.COMMAND_LINE)
    return read_tasks(file, flags, labels)


def one_task(text: str | None, flags: Mapping[str, object], labels: Sequence[str]) -> Submission:
    """The task that the flags describe. Raises UsageError."""
    if text is None:
        raise UsageError(
            'Nothing to submit: give a text, as in `pointsman submit "..."`, or a file with -f.',
            code=ErrorCode.NOTHING_TO_SUBMIT,
        )
    try:
        return Submission.model_validate({**_stated(flags, labels), "text": text})
    except ValidationError as error:
        text = "; ".join(_flag_fault(dict(each)) for each in error.errors(include_url=False))
        raise UsageError(text, code=ErrorCode.FLAG_VALUE) from None


def read_tasks(file: Path, flags: Mapping[str, object], labels: Sequence[str]) -> list[Submission]:
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


def parse_tasks(content: bytes, source: str, defaults: Mapping[str, object]) -> list[Submission]:
    """As `read_tasks`; empty lines are skipped."""
    _require_utf_8(content, source)
    tasks: list[Submission] = []
    faults: list[str] = []
    for number, line in enumerate(content.split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            tasks.append(_parse_line(line, defaults))
        except ValidationError as error:
            faults.append(f"{source}:{number}: {'; '.join(wrong(error))}")
        except InvalidInputError as error:
            faults.append(f"{source}:{number}: {error}")
    if faults:
        count = f"{len(faults)} of the lines" if len(faults) > 1 else "1 line"
        raise InvalidInputError("\n".join([f"Nothing was submitted: {count} cannot be used.", *first(faults)]))
    if not tasks:
        raise InvalidInputError(f"{source} holds no task.")
    return tasks


def _require_utf_8(content: bytes, source: str) -> None:
    """Raises InvalidInputError for what begins like UTF-16 or UTF-32: no line of it could be read."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in content[:4]:
        raise InvalidInputError(
            f"{source} is not UTF-8 but, by its first bytes, UTF-16 or UTF-32. Convert it: iconv -f UTF-16 -t UTF-8"
        )


def _parse_line(line: bytes, defaults: Mapping[str, object]) -> Submission:
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
    if "deadline_ms" in said:  # says the same in other words
        defaults = {name: value for name, value in defaults.items() if name != "deadline_in_ms"}
    return Submission.model_validate({**defaults, **said})


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
    return f"{_FLAGS.get(name, '--' + name.replace('_', '-'))}: {reason(error)}"
