"""`pointsman dev`: the whole pipeline on this machine, staying up until it is told to stop.

I/O: processes, files, stdout, stderr.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from agents.registry import resolve
from console.cli.banner import banner
from console.cli.deployment import Deployment
from console.cli.failures import UsageError
from console.cli.output import Output
from console.local.interrupts import interruptible
from console.local.ports import Ports
from console.local.supervisor import Supervisor

WATCH_S = 0.25
# Taken where nobody holds them, so that every other command finds them without being told.
USUAL_PORTS = Ports(broker=9092, clickhouse=8123, registry=8081)


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the command line asks for: services of the user's own are named by flags alone.

    The environment does not count: it is where the banner says to put the addresses of what is started here.
    """

    data: Path
    own_broker: bool
    own_clickhouse: bool
    ports: Ports

    def check(self) -> None:
        """Raises UsageError."""
        for flag, port, other, own in (
            ("--kafka-port", self.ports.broker, "--broker", self.own_broker),
            ("--clickhouse-port", self.ports.clickhouse, "--clickhouse", self.own_clickhouse),
        ):
            if port and not own:
                raise UsageError(f"{flag} is where a service of our own listens; with {other} there is none. Drop one.")


def run_dev(deployment: Deployment, wishes: Wishes, out: Output) -> None:
    """Starts everything, prints the banner, and returns after a signal asked for the end and all processes are gone.

    Raises UsageError, ConfigurationError for agents that cannot be called, what the supervisor raises,
    ProcessEndedError when a process dies meanwhile, and KeyboardInterrupt where a signal came before everything served,
    or a second one before everything was stopped: then what had been started is gone, too.
    """
    began = time.monotonic()
    wishes.check()
    resolve(deployment.topology)  # a typo in an agent is told now, and not by the end of a log
    had_data = (wishes.data / "run").exists()
    supervisor = Supervisor(
        deployment.topology_path,
        deployment.topology,
        wishes.data.resolve(),
        deployment.settings,
        own_broker=wishes.own_broker,
        own_clickhouse=wishes.own_clickhouse,
        usual=USUAL_PORTS,
        named=wishes.ports,
        report=out.note,
    )
    serving = False
    with interruptible(), supervisor:
        try:
            endpoints = supervisor.start()
            for line in banner(deployment, supervisor.site, endpoints, had_data=had_data):
                out.line(line)
            out.note(f"Ready after {time.monotonic() - began:.1f} s. Ctrl-C stops everything.")
            serving = True
            while True:
                supervisor.check()
                time.sleep(WATCH_S)
        except KeyboardInterrupt:
            out.note("stopping; a second Ctrl-C kills")
            if not serving:
                raise
    out.note("stopped")
