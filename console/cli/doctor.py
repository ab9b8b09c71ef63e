"""`pointsman doctor`: every prerequisite and every configured service, each with its fix.

I/O: through the checks; stdout, stderr.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path

from console.cli.deployment import load_settings
from console.cli.failures import ExitCode
from console.cli.output import Format, Output, Row
from console.doctor import deployment, machine, place, services
from console.doctor.check import Case, Check, Finding, Line, Status, examine, named_settings
from schemas.errors import ConfigurationError
from schemas.topology import load_topology

COLUMNS = ("status", "check", "detail", "fix")


def run_doctor(flags: Mapping[str, object], data: Path, form: Format, out: Output) -> ExitCode:
    """Prints a row for each finding. OK when nothing fails; else the code that all failures share, or FAILED."""
    case = case_of(flags, data)
    failed: list[Finding] = []
    counts = dict.fromkeys(Status, 0)

    def rows() -> Iterator[Row]:
        for line in examine(case, all_checks()):
            counts[line.finding.status] += 1
            if line.finding.status is Status.FAIL:
                failed.append(line.finding)
            yield row_of(line)

    out.records(rows(), COLUMNS, form)
    out.note(", ".join(f"{count} {status}" for status, count in counts.items()))
    return exit_code_of(failed)


def all_checks() -> list[Check]:
    return list(chain.from_iterable(part.checks() for part in (machine, place, deployment, services)))


def case_of(flags: Mapping[str, object], data: Path) -> Case:
    """What there is to look at; what is wrong with settings or topology is a finding, and keeps from nothing else."""
    environ = dict(os.environ)
    settings, settings_error, topology, topology_error = None, None, None, None
    try:
        settings = load_settings(flags)
    except ConfigurationError as error:
        settings_error = error
    named = flags.get("topology") or environ.get("POINTSMAN_TOPOLOGY") or "topology.yaml"
    path = settings.topology if settings is not None else Path(str(named))
    try:
        topology = load_topology(path)
    except ConfigurationError as error:
        topology_error = error
    return Case(data, environ, path, settings, settings_error, topology, topology_error, named_settings(flags, environ))


def row_of(line: Line) -> Row:
    check, finding = line
    return {
        "area": check.area,
        "check": check.name,
        "status": str(finding.status),
        "detail": finding.detail,
        "fix": finding.fix or None,
        "code": finding.code,
    }


def exit_code_of(failed: list[Finding]) -> ExitCode:
    """An error's code begins with the exit code that it has everywhere else."""
    if not failed:
        return ExitCode.OK
    codes = {ExitCode(int(finding.code[1])) if finding.code else ExitCode.FAILED for finding in failed}
    return codes.pop() if len(codes) == 1 else ExitCode.FAILED
