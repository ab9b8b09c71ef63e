"""`pointsman validate`: a topology, checked without starting anything.

I/O: reads the file, imports the agents; stdout.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from agents.registry import look_up
from console.cli.failures import ExitCode
from console.cli.faults import lines_of
from console.cli.output import Format, Output, Row
from schemas.codes import FaultCode
from schemas.errors import Fault, TopologyError
from schemas.topology import Reading, Topology, read_topology
from streams.transport.properties import property_faults


def validate_topology(path: Path, *, form: Format, out: Output) -> ExitCode:
    """Prints what is wrong, every fault at once, or what the file describes. INVALID when anything is wrong.

    The code of the agents belongs to it: it is imported, as a host would do it, and not called.
    """
    reading = read_topology(path)
    faults = (*reading.faults, *_faults_beyond(reading))
    if reading.topology is None or faults:
        _print_faults(TopologyError(reading.source, faults), form, out)
        return ExitCode.INVALID
    _print_summary(path, reading.topology, form, out)
    return ExitCode.OK


def _faults_beyond(reading: Reading) -> Iterator[Fault]:
    """What the file alone cannot tell: agents that cannot be called, properties that librdkafka does not take.

    Nothing is said of an agent or a property that has a fault already.
    """
    topology = reading.topology
    if topology is None:
        return
    at_fault = {*reading.doubtful, *(fault.path for fault in reading.faults)}
    sound = {name: agent for name, agent in topology.agents.items() if not _touched(f"agents.{name}", at_fault)}
    yield from look_up(topology.model_copy(update={"agents": sound}))[1]
    for name, said in property_faults(topology.kafka).items():
        if not _touched(f"kafka.{name}", at_fault):
            yield topology.fault(FaultCode.KAFKA_PROPERTY, ("kafka", name), said)


def _touched(path: str, at_fault: Iterable[str]) -> bool:
    """Whether one of these lies at the path, in it, or around it."""
    return any(each == path or each.startswith(f"{path}.") or path.startswith(f"{each}.") for each in at_fault if each)


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
