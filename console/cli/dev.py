"""`pointsman dev`: the whole pipeline on this machine, staying up until it is told to stop.

I/O: processes, files, stdout, stderr.
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from agents.registry import resolve
from console.cli.deployment import Deployment
from console.cli.output import Output
from console.local.ports import Ports
from console.local.supervisor import Endpoints, Supervisor
from schemas.registry import REGISTRY
from schemas.settings import Settings

WATCH_S = 0.25
# Taken where nobody holds them, so that every other command finds them without being told.
USUAL_PORTS = Ports(broker=9092, clickhouse=8123)


def run_dev(deployment: Deployment, data: Path, *, own_broker: bool, out: Output) -> None:
    """Starts everything, prints the banner, and returns after a signal asked for the end and all processes are gone.

    Raises ConfigurationError for agents that cannot be called, what the supervisor raises, and ProcessEndedError when a
    process dies meanwhile.
    """
    began = time.monotonic()
    resolve(deployment.topology)  # a typo in an agent is told now, and not by the end of a log
    supervisor = Supervisor(
        deployment.topology_path,
        deployment.topology,
        data.resolve(),
        deployment.settings,
        own_broker=own_broker,
        wished=USUAL_PORTS,
        report=out.note,
    )
    had_data = (data / "clickhouse").exists()
    with interruptible(), supervisor:
        try:
            endpoints = supervisor.start()
            _print_banner(deployment, endpoints, data, own_broker=own_broker, had_data=had_data, out=out)
            out.note(f"Ready after {time.monotonic() - began:.1f} s. Ctrl-C stops everything.")
            while True:
                supervisor.check()
                time.sleep(WATCH_S)
        except KeyboardInterrupt:
            out.note("stopping; a second Ctrl-C kills")
    out.note("stopped")


def _print_banner(
    deployment: Deployment, at: Endpoints, data: Path, *, own_broker: bool, had_data: bool, out: Output
) -> None:
    topology = deployment.topology
    whose = "started here" if own_broker else "yours"
    kept = "yes" if own_broker else "the history is; the topics as your Kafka keeps them"
    lines = {
        "Kafka": f"{at.broker}  ({whose}; topics {topology.topics().submitted}, {topology.topics().results}, ...)",
        "ClickHouse": f"{at.clickhouse}  (database pointsman; `pointsman history SQL`, curl, any client)",
        "metrics": "  ".join(f"{name} {url}" for name, url in at.metrics.items()),
        "registry": f"{REGISTRY}  (Avro schemas and their ids)",
        "topology": f"{deployment.topology_path.resolve()}  "
        f"({len(topology.agents)} agents, {len(topology.routes)} routes, version {topology.version})",
        "data": f"{data.resolve()}  ({'found from an earlier start' if had_data else 'new'})",
        "data survives a restart": kept,
    }
    width = max(map(len, lines))
    out.line("pointsman dev")
    for name, value in lines.items():
        out.line(f"  {name.ljust(width)}  {value}")
    for variable, value, usual in _settings_to_state(at):
        if value != usual:
            out.line(f"  export {variable}={value}")
    out.line('  Try: pointsman submit "find the Q3 revenue for EMEA" --wait')


def _settings_to_state(at: Endpoints) -> Iterator[tuple[str, str, str]]:
    """Variable, value, and the default that makes stating it unnecessary."""
    usual = Settings()
    yield "POINTSMAN_BROKER", at.broker, usual.broker
    yield "POINTSMAN_CLICKHOUSE", at.clickhouse.rstrip("/"), usual.clickhouse


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """SIGTERM and SIGHUP end the block as Ctrl-C does: what it started must not outlive it."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
