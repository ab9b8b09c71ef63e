"""What a process of the pipeline spends from its start until it serves, on a broker of its own without load.

`python -m console.bench_start` starts a worker and a host `--times` times each, with the fleet of `pointsman chaos
run`, and gives for each the CPU seconds of its process until it said that it serves, the time that took, and its
memory. With `--busy` so many processes that do nothing but count are beside it, as where the cores are full. After a
fault this is what nobody is served for (docs/cost-model.md). I/O: processes, files, loopback sockets, /proc, stdout.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from console.chaos.fleet import OUR_CODE, fleet_topology
from console.chaos.plan import Plan
from console.cli.output import Output
from console.load.probe import usage
from console.local.broker import LocalBroker
from console.local.child import Child, ProcessEndedError
from console.local.ports import free_ports
from schemas.settings import Settings
from streams.transport.admin import check_broker, ensure_topics

KINDS = ("worker", "host")
READY_S, STOP_S, POLL_S = 120.0, 15.0, 0.005


def start(kind: str, settings: Settings, directory: Path) -> tuple[float, float, int]:
    """CPU seconds and seconds until it serves, and its memory then, in MiB. Raises ProcessEndedError."""
    ready = directory / f"{kind}.json"
    command = [
        *(sys.executable, *OUR_CODE, kind, "--broker", settings.broker, "--topology", str(directory / "topology.yaml")),
        *("--stop-with-stdin", "--ready-file", str(ready)),
    ]
    child = Child(kind, command, directory / f"{kind}.log", ready, dict(os.environ))
    began = time.monotonic()
    child.start()
    try:
        while child.ready() is None:
            if time.monotonic() - began > READY_S:
                raise ProcessEndedError.of(kind, None, child.log_path)
            time.sleep(POLL_S)
        assert child.pid is not None
        used = usage(child.pid)
        if used is None:
            raise ProcessEndedError.of(kind, None, child.log_path)
        cpu_s, memory_mib = used
        return cpu_s, time.monotonic() - began, int(memory_mib)
    finally:
        child.terminate()
        child.wait(time.monotonic() + STOP_S)


@contextmanager
def busy(count: int) -> Iterator[None]:
    """So many processes that take all they can get."""
    spinning = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for each in spinning:
            each.kill()
            each.wait()


def main(arguments: Sequence[str]) -> int:
    """Prints a row for each kind of process."""
    parser = argparse.ArgumentParser(prog="python -m console.bench_start", description=__doc__)
    parser.add_argument("--times", type=int, default=5, help="starts of each kind")
    parser.add_argument("--busy", type=int, default=0, help="processes that spin beside it")
    given = parser.parse_args(arguments)
    rows = []
    with tempfile.TemporaryDirectory(prefix="pointsman-start-") as name:
        directory = Path(name)
        topology = fleet_topology(
            Plan.model_validate({"description": "None.", "faults": []}), directory, free_ports(1)[0]
        )
        (directory / "topology.yaml").write_text(topology.model_dump_json())
        with LocalBroker(directory / "broker") as broker:
            settings = Settings.resolve({"broker": broker.address}, {})
            check_broker(settings, topology)
            ensure_topics(settings, topology.topics().specs(), topology)
            for kind in KINDS:
                start(kind, settings, directory)  # the first one may have to compile modules
                with busy(given.busy):
                    found = [start(kind, settings, directory) for _ in range(given.times)]
                cpu, took, memory = (median(column) for column in zip(*found, strict=True))
                rows.append([kind, round(cpu, 2), round(took, 2), int(memory)])
    Output().table(["process", "cpu_s", "seconds", "rss_mib"], rows, "until it serves, medians")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
