"""What every code means that pointsman can say: one table of faults, errors, and the codes of events and results.

I/O: reads the three files beside this module.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path

from schemas.codes import ErrorCode, FaultCode
from schemas.reasons import (
    AgentState,
    DeadReason,
    DispatchReason,
    ErrorClass,
    FailReason,
    LateReason,
    PauseReason,
    ResultReason,
)
from schemas.records import RECORDS
from schemas.redrive import Refusal
from streams.core.breaker import Cause, Phase

FILES = tuple(Path(__file__).with_name(f"{name}.toml") for name in ("faults", "errors", "reasons"))

# Symbols of Avro enums that stand for "not known to this version", and those that nothing writes yet.
NOT_EMITTED = frozenset({"UNKNOWN", "PARKED", "RESUMED", "HEALED", "CANCELLED"})

_REASONS: Mapping[str, type[StrEnum]] = {
    "why an agent was asked": DispatchReason,
    "why an attempt is no answer": FailReason,
    "error class of a failed attempt": ErrorClass,
    "why a task ended": ResultReason,
    "why a record was dead-lettered": DeadReason,
    "why an outcome decided nothing": LateReason,
    "why a dead letter is not redriven": Refusal,
    "why a topic or agent was paused, or goes on": PauseReason,
    "state of an agent": AgentState,
    "state of a breaker": Phase,
    "why a breaker changed": Cause,
}
_SYMBOLS: Mapping[str, tuple[str, str]] = {
    "event of the orchestrator": ("OrchestratorEvent", "kind"),
    "event of an agent": ("AgentEvent", "kind"),
    "status of a result": ("TaskResult", "status"),
    "band: how a task is served": ("Slip", "band"),
}


@dataclass(frozen=True, slots=True)
class Explanation:
    """`kinds` says where the code is met. `why` is the usual reason, `do` what to do; "" where there is nothing to say.

    `wrong` and `right` are parts of a topology: one with this fault, and the same without it.
    """

    code: str
    kinds: tuple[str, ...]
    title: str
    means: str
    why: str = ""
    do: str = ""
    wrong: str = ""
    right: str = ""

    def row(self) -> Mapping[str, object]:
        """As JSON has it; what there is not to say is null."""
        return {name: value or None for name, value in asdict(self).items()}


@cache
def table() -> Mapping[str, Explanation]:
    """Every code with its explanation: faults, errors, then the others, each in the order of its file."""
    kinds = met()
    found: dict[str, Explanation] = {}
    for file in FILES:
        for code, said in tomllib.loads(file.read_text("utf-8")).items():
            found[code] = Explanation(
                code, tuple(kinds.get(code, ())), **{key: text.strip("\n") for key, text in said.items()}
            )
    return found


def met() -> Mapping[str, list[str]]:
    """Where each code that the program can say is met."""
    found: dict[str, list[str]] = {}
    for kind, code in _met():
        found.setdefault(code, []).append(kind)
    return found


def _met() -> Iterator[tuple[str, str]]:
    for fault in FaultCode:
        yield "fault of a topology", fault.value
    for error in ErrorCode:
        yield f"error, exit code {error.value[1]}", error.value
    for kind, reasons in _REASONS.items():
        yield from ((kind, reason.value) for reason in reasons)
    for kind, (record, field) in _SYMBOLS.items():
        yield from ((kind, symbol) for symbol in RECORDS[record].enums[field] if symbol not in NOT_EMITTED)
