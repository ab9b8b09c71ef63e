"""`pointsman validate`: a topology, checked without starting anything.

I/O: reads the file; stdout.
"""

from __future__ import annotations

from pathlib import Path

from console.cli.failures import ExitCode
from console.cli.output import Format, Output, Row
from schemas.errors import Fault, TopologyError
from schemas.topology import Topology, load_topology


def validate_topology(path: Path, *, form: Format, out: Output) -> ExitCode:
    """Prints what is wrong, every fault at once, or what the file describes. INVALID when anything is wrong."""
    try:
        topology = load_topology(path)
    except TopologyError as error:
        _print_faults(error, form, out)
        return ExitCode.INVALID
    _print_summary(path, topology, form, out)
    return ExitCode.OK


def _print_faults(error: TopologyError, form: Format, out: Output) -> None:
    if form is Format.TABLE:
        for fault in error.faults:
            out.line(f"{error.source}:{fault}")
    elif form is Format.JSONL:
        out.records([_row(fault) for fault in error.faults], (), form)
    else:
        out.json({"source": error.source, "valid": False, "faults": [_row(fault) for fault in error.faults]})
    plural = "" if len(error.faults) == 1 else "s"
    out.note(f"{error.source}: {len(error.faults)} fault{plural}")


def _row(fault: Fault) -> Row:
    return {"line": fault.line, "column": fault.column, "path": fault.path, "message": fault.message}


def _print_summary(path: Path, topology: Topology, form: Format, out: Output) -> None:
    if form is Format.TABLE:
        out.line(
            f"{path}: valid, {len(topology.agents)} agents, {len(topology.routes)} routes, version {topology.version}"
        )
    elif form is Format.JSON:
        summary = {"agents": list(topology.agents), "routes": list(topology.routes), "version": topology.version}
        out.json({"source": str(path), "valid": True, "faults": [], **summary})
