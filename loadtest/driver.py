"""Submits tasks on a wall-clock schedule, whether or not the pipeline keeps up, and says whether it kept up itself.

Open loop: the time at which a task was meant to be sent is in its record, so that whoever measures from there on does
not forgive the pipeline what it made the sender wait. `python -m loadtest.driver --help`. I/O: Kafka, the clock,
standard input and output.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TextIO

from loadtest.ahead import Ahead
from loadtest.scenario import Mix
from loadtest.schedule import Schedule, Stage
from loadtest.workload import Workload
from schemas.codec import Codec
from schemas.registry import FileRegistry
from schemas.settings import Settings
from schemas.topology import Topology, load_topology
from streams.transport.admin import check_topics
from streams.transport.clients import client_config
from streams.transport.turn_producer import producer_for

# A tick is a produce request: what it costs does not depend much on what is in it, and the broker spends on each twice
# as much as we do. How long a task waits for its tick counts as latency.
TICK_S = 0.02
FLUSH_S = 60.0
ROWS_MAX = 20_000  # of a tick that has to catch up
LINGER_MS = 1  # librdkafka's, where an operator wants what only it can do: a tick is a batch already


@dataclass(frozen=True)
class Sent:
    """What was done. `began_us`: when task 0 was meant to be sent, since the epoch.

    `behind_s`: by stage, how late the latest measured task was handed over; a run that was later than a hundredth of
    its time is void. `cpu_s` is this process's, from the first task to the last.
    """

    tasks: int
    seconds: float
    began_us: int
    behind_s: Sequence[float]
    behind_max_s: float
    cpu_s: float

    @property
    def is_void(self) -> bool:
        return max(self.behind_s) > self.behind_max_s


class Driver:
    """One run: `prepare` draws and encodes what can be, `drive` sends it."""

    def __init__(self, settings: Settings, topology: Topology, workload: Workload, schedule: Schedule) -> None:
        self._ahead, self._schedule = Ahead(workload, schedule), schedule
        self._topic = topology.topics().submitted
        check_topics(settings, [self._topic])
        config = client_config(settings, topology, "producer", name="pointsman-load")
        self._producer = producer_for({**config, "linger.ms": LINGER_MS})
        self._stopping = False

    def stop(self) -> None:
        """What is not due yet is not sent. Safe in a signal handler."""
        self._stopping = True

    def drive(self, began_us: int, measured_from_s: float = 0.0, *, at_once: bool = False) -> Sent:
        """Sends each task when it is due, counted from `began_us`; with `at_once` as fast as they are taken.

        Raises DeliveryError.
        """
        schedule, sent = self._schedule, 0
        self._ahead.begin(began_us)
        behind_s = [0.0] * len(schedule.stages)
        cpu_s = time.process_time()
        while sent < schedule.tasks and not self._stopping:
            elapsed_s = _now_us() / 1e6 - began_us / 1e6
            due = schedule.tasks if at_once else schedule.due(elapsed_s)
            upto = min(due, sent + ROWS_MAX)
            if upto > sent:
                for tick in self._ahead.between(sent, upto):
                    self._producer.send(self._topic, tick.partition, tick.values, tick.keys)
                self._producer.poll()  # the tick is over: it goes now
                # Of the oldest task of this tick: a tick's length is the price of a tick, not lateness.
                late_s = (_now_us() - began_us - schedule.offset_us(sent)) / 1e6 - TICK_S
                if not at_once and elapsed_s > measured_from_s:
                    stage = schedule.stage_of(sent)
                    behind_s[stage] = max(behind_s[stage], late_s)
                sent = upto
            if upto == due:
                time.sleep(TICK_S - (_now_us() - began_us) / 1e6 % TICK_S if not at_once else 0.0)
        took_s, cpu_s = (_now_us() - began_us) / 1e6, time.process_time() - cpu_s
        self._producer.flush(FLUSH_S)
        return Sent(sent, took_s, began_us, behind_s, schedule.behind_max_s(), cpu_s)

    def close(self) -> None:
        self._producer.close()


def main(arguments: Sequence[str], stdin: TextIO = sys.stdin) -> int:
    """Prints what was sent as one line of JSON; 1 when the run is void."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.driver", description=__doc__)
    parser.add_argument("--broker", default=None)
    parser.add_argument("--topology", type=Path, default=Path("topology.yaml"))
    parser.add_argument("--tasks-per-second", type=float, default=1000.0)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--run", default=None, help="begins every task id; default: s and the seed")
    parser.add_argument("--routes", default=None, help="JSON: a list of those to be served; default: all")
    parser.add_argument(
        "--stages", default=None, help="JSON: [[seconds, tasks a second], ...]; instead of the two above"
    )
    parser.add_argument("--mix", default="{}", help="JSON: the keys of a scenario's mix")
    parser.add_argument("--measured-from", type=float, default=0.0, help="seconds after the start; a warm-up is before")
    parser.add_argument("--at-once", action="store_true", help="send everything as fast as it is taken")
    parser.add_argument("--hold", action="store_true", help="say when ready, then wait for a line: the start, in us")
    given = parser.parse_args(arguments)
    settings, topology = Settings.resolve({"broker": given.broker}, os.environ), load_topology(given.topology)
    stages = json.loads(given.stages) if given.stages else [[given.seconds, given.tasks_per_second]]
    schedule = Schedule([Stage(*stage) for stage in stages])
    codec = Codec(FileRegistry.load(), topology.limits.record_bytes_max)
    routes = json.loads(given.routes) if given.routes else None
    mix = Mix.model_validate_json(given.mix)
    workload = Workload(topology, codec, given.seed, mix=mix, run=given.run, routes=routes)
    driver = Driver(settings, topology, workload, schedule)
    signal.signal(signal.SIGTERM, lambda *_: driver.stop())
    began_us = _now_us()
    if given.hold:
        sys.stdout.write('{"ready": true}\n')
        sys.stdout.flush()
        began_us = int(stdin.readline())
    # Nothing here is garbage until the end, and looking for it costs the schedule.
    gc.collect()
    gc.freeze()
    time.sleep(max(0.0, (began_us - _now_us()) / 1e6))
    sent = driver.drive(began_us, given.measured_from, at_once=given.at_once)
    driver.close()
    sys.stdout.write(json.dumps(asdict(sent)) + "\n")
    return 1 if sent.is_void else 0


def _now_us() -> int:
    return time.time_ns() // 1000


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
