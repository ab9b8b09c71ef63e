"""`pointsman validate`: a topology, checked without starting anything.

I/O: reads the file, imports the agents; stdout.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from agents.registry import look_up
from console.cli.failures import ExitCode
from console.cli.faults import lines_of
from console.cli.output import Format, Output, Row
from schemas.errors import Fault, TopologyError
from schemas.topology import Topology, load_topology


def validate_topology(path: Path, *, form: Format, out: Output) -> ExitCode:
    """Prints what is wrong, every fault at once, or what the file describes. INVALID when anything is wrong.

    The code of the agents belongs to it: it is imported, as a host would do it, and not called.
    """
    try:
        topology = load_topology(path)
        _check_agents(topology)
    except TopologyError as error:
        _print_faults(error, form, out)
        return ExitCode.INVALID
    _print_summary(path, topology, form, out)
    return ExitCode.OK


def _check_agents(topology: Topology) -> None:
    """Raises TopologyError for agents whose code, program or variables cannot be found."""
    _, faults = look_up(topology)
    if faults:
        raise TopologyError(topology.source, tuple(faults))


def _print_faults(error: TopologyError, form: Format, out: Output) -> None:
    if form is Format.TABLE:
        for line in lines_of(error, on_screen=out.fancy):
            out.line(line)
    elif form is Format.JSONL:
        out.records([_row(fault) for fault in error.faults], (), form)
    else:
        out.json(_report(error.source, [_row(fault) for fault in error.faults], None))
    out.note(f"{error.headline}; `pointsman explain {error.faults[0].code}` says more")


def _row(fault: Fault) -> Row:
    return {
        "code": fault.code,
        "line": fault.line or None,
        "column": fault.column or None,
        "width": fault.width or None,
        "path": fault.path or None,
        "message": fault.message,
    }


def _print_summary(path: Path, topology: Topology, form: Format, out: Output) -> None:
    if form is Format.TABLE:
        out.line(
            f"{path}: valid, {len(topology.agents)} agents, {len(topology.routes)} routes, version {topology.version}"
        )
    elif form is Format.JSON:
        out.json(_report(str(path), [], topology))


def _report(source: str, faults: Sequence[Row], topology: Topology | None) -> Row:
    """The same fields whether it is valid or not; what an invalid file cannot say is null."""
    return {
        "source": source,
        "valid": topology is not None,
        "faults": faults,
        "agents": list(topology.agents) if topology else None,
        "routes": list(topology.routes) if topology else None,
        "version": topology.version if topology else None,
    }
