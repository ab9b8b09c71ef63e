"""What a run looks at while it goes on: memory and open files of each process, and whether the history has caught up.

I/O: /proc, Kafka.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from console.chaos.members import read_by
from schemas.access import group_of
from schemas.settings import Settings
from schemas.topology import Topology
from streams.transport.batch import TopicPartition
from streams.transport.clients import TransportError, client_config
from streams.transport.consumer import BatchConsumer

PAGE = os.sysconf("SC_PAGE_SIZE")
MIB = 1024 * 1024
SAMPLE_S = 2.0
ASK_S = 0.5


@dataclass(slots=True)
class Series:
    """Of one life of a process: seconds since the start of the load, MiB, open files."""

    at_s: list[float] = field(default_factory=list)
    rss_mib: list[float] = field(default_factory=list)
    files: list[int] = field(default_factory=list)


class Usage:
    """`series` by process name and pid: a process that was started again begins a new one."""

    def __init__(self) -> None:
        self.series: dict[tuple[str, int], Series] = {}
        self._began, self._due_at = time.monotonic(), 0.0

    def look(self, pids: Mapping[str, int]) -> None:
        """Takes a sample where one is due."""
        now = time.monotonic()
        if now < self._due_at:
            return
        self._due_at = now + SAMPLE_S
        for name, pid in pids.items():
            try:
                pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
                files = len(list(Path(f"/proc/{pid}/fd").iterdir()))
            except (OSError, ValueError, IndexError):
                continue
            series = self.series.setdefault((name, pid), Series())
            series.at_s.append(round(now - self._began, 1))
            series.rss_mib.append(round(pages * PAGE / MIB, 1))
            series.files.append(files)


@dataclass(slots=True)
class CatchUp:
    """The history has recovered once the store has committed all that stood in the topics at `since`."""

    since: float
    ends: Mapping[TopicPartition, int]
    took_s: float | None = None


class HistoryWatch:
    """Measures how long the store takes to get to where the topics ended when a fault was over."""

    def __init__(self, settings: Settings, topology: Topology) -> None:
        group = group_of("store", topology.prefix)
        config = client_config(settings, topology, "consumer", group=group, name="pointsman-chaos-watch")
        self._consumer = BatchConsumer(config, str, rows_max=1, bytes_max=1024, poll_s=0.01)
        self._tps = self._consumer.partitions_of(read_by("store", topology.topics()))
        self._open: list[CatchUp] = []
        self._due_at = 0.0

    def begin(self) -> CatchUp | None:
        """None where the broker does not say where the topics end."""
        try:
            ends = {tp: high for tp, (low, high) in self._consumer.watermarks(self._tps).items() if high > low}
        except TransportError:
            return None
        self._open.append(CatchUp(time.monotonic(), ends))
        return self._open[-1]

    def look(self) -> None:
        now = time.monotonic()
        if not self._open or now < self._due_at:
            return
        self._due_at = now + ASK_S
        try:
            committed = self._consumer.committed(self._tps)
        except TransportError:
            return
        for each in list(self._open):
            # A marker of a transaction stands behind the last record and is never read.
            if all(committed.get(tp, (0, ""))[0] >= end - 1 for tp, end in each.ends.items()):
                each.took_s = time.monotonic() - each.since
                self._open.remove(each)

    def close(self) -> None:
        self._consumer.close(1.0)
