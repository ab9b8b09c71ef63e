"""Errors sorted by what the caller must do; each builds its text from typed fields.

I/O: none.
"""

from __future__ import annotations

from dataclasses import dataclass


class PointsmanError(Exception):
    """Root of all that this project raises on purpose."""


class ConfigurationError(PointsmanError):
    """Stop at start: a person has to change something first."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong with a configuration.

    `path` is the key path (`routes.financial_query.agents[1]`); `line` and `column` count from 1, 0 when unknown.
    """

    path: str
    message: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        where = f"{self.line}:{self.column}: " if self.line else ""
        return f"{where}{self.path}: {self.message}" if self.path else f"{where}{self.message}"


class TopologyError(ConfigurationError):
    """Every fault of a topology file at once."""

    def __init__(self, source: str, faults: tuple[Fault, ...]) -> None:
        self.source, self.faults = source, faults
        plural = "" if len(faults) == 1 else "s"
        super().__init__("\n".join((f"{source}: {len(faults)} fault{plural}", *(f"  {fault}" for fault in faults))))


class UnreachableError(PointsmanError):
    """A service cannot be reached: say which, why, and what to do next."""

    def __init__(self, service: str, address: str, why: str, hint: str) -> None:
        self.service, self.address, self.why, self.hint = service, address, why, hint
        super().__init__(f"Cannot reach {service} at {address} ({why}). {hint}")


class DeliveryError(PointsmanError):
    """Records could not be delivered: the process must end, and recover from its last cut."""

    def __init__(self, topic: str, failed: int, why: str) -> None:
        self.topic, self.failed, self.why = topic, failed, why
        super().__init__(f"{failed} record(s) to {topic or 'several topics'} were not delivered: {why}")


class UnknownSchemaError(PointsmanError):
    """No schema has this id in the registry."""

    def __init__(self, schema_id: int) -> None:
        self.schema_id = schema_id
        super().__init__(f"schema id {schema_id} is not in the registry")
