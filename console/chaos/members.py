"""Members that join one of the deployment's groups and leave it again: a storm of rebalances.

They are given partitions, read nothing of them and commit nothing, so that positions stay where they are. I/O: Kafka.
"""

from __future__ import annotations

import threading
import time

from schemas.access import PROCESSES, USES, Principal, group_of
from schemas.settings import Settings
from schemas.topics import Topics
from schemas.topology import Topology
from streams.transport.clients import client_config
from streams.transport.consumer import BatchConsumer

STAY_SHARE = 0.6
POLL_S = 0.05
JOIN_S = 20.0
CLOSE_S = 10.0


class Storm:
    """In the group of `process`; a member joins each `every_s` and stays for a good half of that."""

    def __init__(self, settings: Settings, topology: Topology, process: str, every_s: float) -> None:
        assert process in PROCESSES
        self._settings, self._topology, self._every_s = settings, topology, every_s
        self._process: Principal = next(each for each in PROCESSES if each == process)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="chaos-storm", daemon=True)
        self.joined = 0

    def begin(self) -> None:
        self._thread.start()

    def end(self) -> None:
        """The last member leaves."""
        self._over.set()
        self._thread.join(CLOSE_S * 2)

    def _run(self) -> None:
        while not self._over.is_set():
            self._member()
            self._over.wait(self._every_s * (1 - STAY_SHARE))

    def _member(self) -> None:
        group = group_of(self._process, self._topology.prefix)
        config = client_config(self._settings, self._topology, "consumer", group=group, name="pointsman-chaos-member")
        consumer = BatchConsumer(config, str, rows_max=1, bytes_max=1024, poll_s=POLL_S)
        try:
            consumer.subscribe(read_by(self._process, self._topology.topics()), on_assign=lambda _tps: self._joined())
            joined, until = self.joined, time.monotonic() + JOIN_S
            while time.monotonic() < until and not self._over.is_set():
                # What it is given it only holds: nothing is fetched of a paused partition.
                consumer.pause(consumer.assignment())
                consumer.poll(POLL_S)
                if joined < self.joined:  # its stay begins when it has partitions
                    joined, until = self.joined, time.monotonic() + self._every_s * STAY_SHARE
        finally:
            consumer.close(CLOSE_S)

    def _joined(self) -> None:
        self.joined += 1


def read_by(process: Principal, topics: Topics) -> list[str]:
    """Topics that a process' group reads: those that it uses, less what a worker only reads back."""
    back = {
        "worker": {"inbox", "results", "orchestrator", "spilled", "breakers", "pauses"},
        "host": {"events", "pauses", "memory", "snapshots"},
    }.get(process, set())
    return [
        spec.name
        for spec in topics.specs()
        if spec.kind is not None and process in USES[spec.kind].readers and spec.kind not in back
    ]
