"""Errors sorted by what the caller must do; each builds its text from typed fields.

I/O: none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from schemas.codes import ErrorCode, FaultCode

TASK_FAULTS_SHOWN_MAX = 20


class PointsmanError(Exception):
    """Root of all that this project raises on purpose.

    `error_code` is what `pointsman explain` takes: a class has one, and an error may be raised with a more exact one.
    """

    error_code = ErrorCode.FAILED

    def __init__(self, text: str = "", *, code: ErrorCode | None = None) -> None:
        super().__init__(text)
        if code is not None:
            self.error_code = code


class ConfigurationError(PointsmanError):
    """Stop at start: a person has to change something first."""

    error_code = ErrorCode.INVALID


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong with a configuration.

    `path` is the key path (`routes.financial_query.agents[1]`); `line` and `column` count from 1, 0 when unknown;
    `width` is how many characters from there on are meant, 0 when that cannot be said.
    """

    code: FaultCode
    path: str
    message: str
    line: int = 0
    column: int = 0
    width: int = 0

    def __str__(self) -> str:
        where = f"{self.line}:{self.column}: " if self.line else ""
        what = f"{self.path}: " if self.path else ""
        return f"{where}{what}{self.message} [{self.code}]"

    def of(self, source: str) -> str:
        """The fault as compilers write it, so that editors find the place: `FILE:LINE:COLUMN: KEY: MESSAGE [CODE]`."""
        return f"{source}:{self}" if self.line else f"{source}: {self}"


class TopologyError(ConfigurationError):
    """Every fault of a topology file at once, one a line, in the order of the file."""

    error_code = ErrorCode.FAULTY_TOPOLOGY

    def __init__(self, source: str, faults: tuple[Fault, ...]) -> None:
        self.source = source
        self.faults = tuple(sorted(faults, key=lambda fault: (fault.line, fault.column)))
        super().__init__("\n".join((self.headline, *(fault.of(source) for fault in self.faults))))

    @property
    def headline(self) -> str:
        """`topology.yaml: 2 faults`."""
        return f"{self.source}: {len(self.faults)} fault{'' if len(self.faults) == 1 else 's'}"


class UnreachableError(PointsmanError):
    """A service cannot be reached: say which, why, and what to do next."""

    error_code = ErrorCode.UNREACHABLE

    def __init__(self, service: str, address: str, why: str, hint: str, *, code: ErrorCode | None = None) -> None:
        self.service, self.address, self.why, self.hint = service, address, why, hint
        super().__init__(f"Cannot reach {service} at {address} ({why}). {hint}", code=code)


class DeliveryError(PointsmanError):
    """Records could not be delivered: the process must end, and recover from its last cut."""

    error_code = ErrorCode.NOT_DELIVERED

    def __init__(self, topic: str, failed: int, why: str) -> None:
        self.topic, self.failed, self.why = topic, failed, why
        super().__init__(f"{failed} record(s) to {topic or 'several topics'} were not delivered: {why}")


class UnknownSchemaError(PointsmanError):
    """No schema has this id in the registry."""

    error_code = ErrorCode.UNKNOWN_SCHEMA_ID

    def __init__(self, schema_id: int) -> None:
        self.schema_id = schema_id
        super().__init__(f"schema id {schema_id} is not in the registry")


def first(faults: Sequence[object]) -> list[str]:
    """As many of the faults of tasks as are shown, a line each, and how many more there are."""
    more = len(faults) - TASK_FAULTS_SHOWN_MAX
    shown = list(map(str, faults[:TASK_FAULTS_SHOWN_MAX]))
    return [*shown, f"... and {more} more"] if more > 0 else shown


class TaskFault(NamedTuple):
    """Why a task cannot be submitted. `row` counts from 0 within the call, `task_id` is None where none is known."""

    row: int
    task_id: str | None
    message: str

    def __str__(self) -> str:
        return f"{self.task_id or f'task {self.row}'}: {self.message}"


class InvalidTasksError(PointsmanError):
    """Tasks that would be refused, or put away, by the deployment; every one that was looked at is named."""

    error_code = ErrorCode.TASK_REFUSED

    def __init__(self, faults: Sequence[TaskFault]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(first(faults)))
