"""A task as its producer states it: checked field by field, then a row of TaskSubmitted columns.

I/O: none.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, Self
from uuid import uuid4

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from schemas.errors import InvalidTasksError, TaskFault
from schemas.records import Column

INT64_MAX = 2**63 - 1


def _json_text(value: object) -> object:
    """A payload may be given as the value that it is, or as text that holds JSON."""
    if not isinstance(value, str):
        return None if value is None else json.dumps(value, ensure_ascii=False, allow_nan=False)
    try:
        json.loads(value)
    except (ValueError, RecursionError):
        raise ValueError("text that is not JSON") from None
    return value


Text = Annotated[str, Field(min_length=1)]
Upper = BeforeValidator(lambda value: value.upper() if isinstance(value, str) else value)


class Submission(BaseModel):
    """One task; names and meanings are TaskSubmitted's, but for `deadline_in_ms`, which counts from its submission."""

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
    labels: dict[str, str] = Field(default_factory=dict)
    traceparent: str | None = None

    @model_validator(mode="after")
    def _one_deadline(self) -> Self:
        if self.deadline_ms is not None and self.deadline_in_ms is not None:
            raise ValueError("deadline_ms and deadline_in_ms cannot both be stated")
        return self


_PLAIN = tuple(name for name in Submission.model_fields if name not in {"deadline_ms", "deadline_in_ms", "labels"})


def checked(tasks: Sequence[Submission | Mapping[str, Any]]) -> list[Submission]:
    """The tasks, each as a Submission. Raises InvalidTasksError that names every faulty one."""
    found: list[Submission] = []
    faults: list[TaskFault] = []
    for row, task in enumerate(tasks):
        try:
            found.append(task if isinstance(task, Submission) else Submission.model_validate(task))
        except ValidationError as error:
            stated = task.get("task_id") if isinstance(task, Mapping) else None
            faults.append(TaskFault(row, stated if isinstance(stated, str) else None, "; ".join(wrong(error))))
    if faults:
        raise InvalidTasksError(faults)
    return found


def wrong(error: ValidationError) -> Iterator[str]:
    """Each thing that is wrong with a task: its field, and why; never the value."""
    for each in error.errors(include_url=False, include_input=False):
        where = ".".join(map(str, each["loc"]))
        yield f"{where}: {reason(dict(each))}" if where else reason(dict(each))


def reason(error: Mapping[str, Any]) -> str:
    """One of pydantic's errors in our words."""
    if error["type"] == "missing":
        return "is missing"
    if error["type"] == "extra_forbidden":
        return "is no field of a task"
    return re.sub("^(Input|String|Value error,) ", "", str(error["msg"]))


def columns_of(tasks: Sequence[Submission], now_us: int) -> dict[str, Column]:
    """Columns of TaskSubmitted, a value a task, submitted at this time (microseconds since the epoch)."""
    now_ms = now_us // 1000
    columns: dict[str, Column] = {name: [getattr(task, name) for task in tasks] for name in _PLAIN}
    columns["deadline_ms"] = [
        task.deadline_ms if task.deadline_in_ms is None else now_ms + task.deadline_in_ms for task in tasks
    ]
    if any(task.labels for task in tasks):
        columns["labels"] = [list(task.labels.items()) for task in tasks]
    columns["submitted_at"] = now_us
    return columns
