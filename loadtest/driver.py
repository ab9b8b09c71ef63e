"""Submits tasks on a wall-clock schedule, whether or not the pipeline keeps up, and says whether it kept up itself.

Open loop: the time at which a task was meant to be sent is in its record, so that whoever measures from there on does
not forgive the pipeline what it made the sender wait. `python -m loadtest.driver --help`. I/O: Kafka, the clock.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from loadtest.workload import Workload
from schemas.settings import Settings
from schemas.topology import Topology, load_topology
from streams.client import Client

TICK_S = 0.02
FLUSH_S = 60.0
BEHIND_SHARE_MAX = 0.01


@dataclass(frozen=True)
class Sent:
    """`behind_s`: how late the latest task was sent; a run that is more than a hundredth of its time behind is void."""

    tasks: int
    seconds: float
    behind_s: float

    @property
    def is_void(self) -> bool:
        return self.behind_s > max(self.seconds * BEHIND_SHARE_MAX, 5 * TICK_S)


def drive(settings: Settings, topology: Topology, rate: float, seconds: float, seed: int = 1) -> Sent:
    """Sends `rate` tasks a second for so many seconds. Raises DeliveryError."""
    total = round(rate * seconds)
    began_us, behind_s = time.time_ns() // 1000, 0.0
    with Client.of(settings, topology, "pointsman-load") as client:
        for first, columns in _ticks(Workload(topology, seed), began_us, rate, total):
            prepared = client.prepare_columns(columns)
            client.hand_over(prepared)
            sent = first + len(prepared.task_ids)
            behind_s = max(behind_s, (time.time_ns() // 1000 - began_us) / 1e6 - sent / rate)
        took_s = (time.time_ns() // 1000 - began_us) / 1e6
        client.send([], timeout_s=FLUSH_S)
    return Sent(total, took_s, behind_s)


def _ticks(workload: Workload, began_us: int, rate: float, total: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """What is due, as soon as it is: number of the first task, columns."""
    sent = 0
    while sent < total:
        elapsed_s = (time.time_ns() // 1000 - began_us) / 1e6
        due = min(total, int(elapsed_s * rate))
        if due > sent:
            columns = workload.tasks(range(sent, due))
            columns["submitted_at"] = [began_us + int(number * 1e6 / rate) for number in range(sent, due)]
            yield sent, columns
            sent = due
        time.sleep(TICK_S)


def main(arguments: Sequence[str]) -> int:
    """Prints what was sent as one line of JSON; 1 when the run is void."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.driver", description=__doc__)
    parser.add_argument("--broker", default=None)
    parser.add_argument("--topology", type=Path, default=Path("topology.yaml"))
    parser.add_argument("--tasks-per-second", type=float, default=1000.0)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args(arguments)
    settings = Settings.resolve({"broker": given.broker}, os.environ)
    sent = drive(settings, load_topology(given.topology), given.tasks_per_second, given.seconds, given.seed)
    sys.stdout.write(json.dumps(asdict(sent)) + "\n")
    return 1 if sent.is_void else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
