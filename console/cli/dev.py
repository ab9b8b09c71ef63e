"""`pointsman dev`: the whole pipeline on this machine, staying up until it is told to stop.

I/O: processes, files, stdout, stderr.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from console.cli.banner import banner
from console.cli.deployment import Deployment
from console.cli.failures import UsageError
from console.cli.output import Output
from console.local.check import check
from console.local.interrupts import interruptible
from console.local.nearby import told
from console.local.ports import USUAL, Ports
from console.local.reload import Reloader
from console.local.supervisor import Supervisor
from console.local.watch import Watch
from schemas.codes import ErrorCode
from schemas.errors import TopologyError

WATCH_S = 0.1


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the command line asks for: services of the user's own are named by flags alone.

    The environment does not count: it is where the banner says to put the addresses of what is started here.
    """

    data: Path
    own_broker: bool
    own_clickhouse: bool
    ports: Ports
    reload: bool = False

    def check(self) -> None:
        """Raises UsageError."""
        for flag, port, other, own in (
            ("--kafka-port", self.ports.broker, "--broker", self.own_broker),
            ("--clickhouse-port", self.ports.clickhouse, "--clickhouse", self.own_clickhouse),
        ):
            if port and not own:
                text = f"{flag} is where a service of our own listens; with {other} there is none. Drop one."
                raise UsageError(text, code=ErrorCode.FLAGS_CONTRADICT)


def run_dev(deployment: Deployment, wishes: Wishes, out: Output) -> None:
    """Starts everything, prints the banner, and returns after a signal asked for the end and all processes are gone.

    Raises UsageError, TopologyError for agents that cannot be called, what the supervisor raises, ProcessEndedError
    when a process ends over and over, and KeyboardInterrupt where a signal came before everything served, or a second
    one before everything was stopped: then what had been started is gone, too.
    """
    began = time.monotonic()
    wishes.check()
    path = deployment.topology_path
    had_data = (wishes.data / "run").exists()
    serving = False
    with interruptible():
        # From before anything is read: what is saved while this starts is a change.
        watch = Watch([path.absolute()])
        supervisor = _supervisor(deployment, wishes, out)
        out.note(f"checking {path} and its agents")
        verdict = check(path, str(path), supervisor.site.environment())
        if verdict.faults:
            raise TopologyError(str(path), verdict.faults)
        with supervisor:
            try:
                endpoints = supervisor.start()
                with told(supervisor.site.directory, endpoints.settings):
                    for line in banner(deployment, supervisor.site, endpoints, had_data=had_data):
                        out.line(line)
                    reloader = Reloader(path, supervisor, verdict, watch, out.note) if wishes.reload else None
                    took = f"Ready after {time.monotonic() - began:.1f} s."
                    out.note(f"{took} Ctrl-C stops everything.{_watched(path, reloader)}")
                    serving = True
                    _serve(supervisor, reloader)
            except KeyboardInterrupt:
                out.note("stopping; a second Ctrl-C kills")
                if not serving:
                    raise
    out.note("stopped")


def _supervisor(deployment: Deployment, wishes: Wishes, out: Output) -> Supervisor:
    return Supervisor(
        deployment.topology_path.read_bytes(),
        deployment.topology,
        wishes.data.resolve(),
        deployment.settings,
        own_broker=wishes.own_broker,
        own_clickhouse=wishes.own_clickhouse,
        usual=USUAL,
        named=wishes.ports,
        report=out.note,
    )


def _serve(supervisor: Supervisor, reloader: Reloader | None) -> NoReturn:
    while True:
        supervisor.tend()
        if reloader is not None:
            reloader.poll()
        time.sleep(WATCH_S)


def _watched(path: Path, reloader: Reloader | None) -> str:
    return (
        f" Reloads when {path.name} or the agents' code ({len(reloader.files) - 1} files) is saved." if reloader else ""
    )
