"""What a check of `pointsman doctor` is given and gives, and how all of them are run: each on its own, in bounded time.

I/O: through the checks.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, wait
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import NamedTuple

from schemas.codes import ErrorCode
from schemas.errors import ConfigurationError, PointsmanError, UnreachableError
from schemas.settings import PREFIX, Settings
from schemas.topology import Topology
from streams.transport.threads import DaemonPool

# A request to a service has this, and so has a check, with what it does before and after.
ANSWER_S = 3.0
CHECK_S = 3.5


class Status(StrEnum):
    """Of one finding."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found, and what to do about it where something is; `code` is one that `pointsman explain` takes."""

    status: Status
    detail: str
    fix: str = ""
    code: ErrorCode | None = None


def ok(detail: str) -> Finding:
    return Finding(Status.OK, detail)


def warn(detail: str, fix: str) -> Finding:
    return Finding(Status.WARN, detail, fix)


def fail(detail: str, fix: str, code: ErrorCode | None = None) -> Finding:
    return Finding(Status.FAIL, detail, fix, code)


@dataclass(frozen=True)
class Case:
    """What is looked at. `settings` and `topology` are None where they are at fault, which their own checks say.

    `named` are the settings that a flag or a variable states: what is there by default may as well be absent.
    """

    data: Path
    environ: Mapping[str, str]
    topology_path: Path
    settings: Settings | None = None
    settings_error: ConfigurationError | None = None
    topology: Topology | None = None
    topology_error: ConfigurationError | None = None
    named: frozenset[str] = frozenset()

    @property
    def own_broker(self) -> bool:
        """Whether `pointsman dev` on this machine is what is meant, with a Kafka of its own."""
        return "broker" not in self.named


class Check(NamedTuple):
    """One line of the report, or several. `needs` are fields of the case without which it has nothing to look at."""

    area: str
    name: str
    run: Callable[[Case], Finding | Iterable[Finding]]
    needs: tuple[str, ...] = ()
    limit_s: float = CHECK_S


class Line(NamedTuple):
    """A check's finding."""

    check: Check
    finding: Finding


def examine(case: Case, checks: Iterable[Check]) -> Iterator[Line]:
    """Every check's findings, in the order of the table; all run at once, and none can hold or end the others."""
    able = [check for check in checks if all(getattr(case, need) is not None for need in check.needs)]
    pool = DaemonPool("doctor", len(able))
    began = time.monotonic()
    futures = [(check, pool.submit(partial(_findings, check, case))) for check in able]
    for check, future in futures:
        for finding in _within(future, check, began + check.limit_s - time.monotonic()):
            yield Line(check, finding)
    pool.close()


def _findings(check: Check, case: Case) -> list[Finding]:
    try:
        found = check.run(case)
    except UnreachableError as error:
        return [fail(f"cannot reach {error.service} at {error.address}: {error.why}", error.hint, error.error_code)]
    except PointsmanError as error:
        return [fail(str(error), "", error.error_code)]
    except Exception as error:  # noqa: BLE001  one broken check must not keep the others from their findings
        return [fail(f"the check itself failed: {type(error).__name__}: {error}", "Report it.", ErrorCode.UNEXPECTED)]
    return [found] if isinstance(found, Finding) else list(found)


def _within(future: Future[list[Finding]], check: Check, seconds: float) -> list[Finding]:
    if wait([future], max(0.0, seconds)).done:
        return future.result()
    return [fail(f"gave no answer within {check.limit_s:g} s", "Look at what it asks; it may be overloaded or stuck.")]


def named_settings(flags: Mapping[str, object], environ: Mapping[str, str]) -> frozenset[str]:
    """Settings that a flag or a variable states."""
    names = (name for name in Settings.model_fields if environ.get(f"{PREFIX}{name.upper()}"))
    return frozenset({*names, *(name for name, value in flags.items() if value is not None)})
