"""CPU time of processes and of the machine, out of /proc.

I/O: /proc.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
CORES = os.cpu_count() or 1
MIB = 1024 * 1024


@dataclass(frozen=True)
class Sample:
    """CPU seconds so far: of each named process with its children, of the whole machine, and when (monotonic)."""

    at: float
    cpu_s: Mapping[str, float]
    machine_s: float

    def since(self, before: Sample) -> Spent:
        spent = {name: self.cpu_s[name] - before.cpu_s[name] for name in self.cpu_s}
        return Spent(self.at - before.at, spent, self.machine_s - before.machine_s)


@dataclass(frozen=True)
class Spent:
    """What was spent between two samples, in seconds."""

    wall_s: float
    cpu_s: Mapping[str, float]
    machine_s: float

    @property
    def foreign_share(self) -> float:
        """Share of the machine's cores that went to others than the named processes; hypervisors' steal included."""
        others = max(0.0, self.machine_s - sum(self.cpu_s.values()))
        return others / (self.wall_s * CORES) if self.wall_s > 0 else 0.0


def sample(pids: Mapping[str, int]) -> Sample:
    """A process that is gone has spent nothing: look before it ends."""
    stats = _stats()
    children: defaultdict[int, list[int]] = defaultdict(list)
    for pid, (parent, *_) in stats.items():
        children[parent].append(pid)
    return Sample(
        time.monotonic(),
        {name: sum(stats[each][1] for each in _family(pid, children) if each in stats) for name, pid in pids.items()},
        _machine_s(),
    )


def rss_mib(pid: int) -> float:
    """The most that the process ever had in memory."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    kib = next((int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), 0)
    return kib * 1024 / MIB


def _family(pid: int, children: Mapping[int, list[int]]) -> list[int]:
    """The process and all that descend from it."""
    found = [pid]
    for each in found:
        found += children.get(each, ())
    return found


def _stats() -> dict[int, tuple[int, float]]:
    """Parent and CPU seconds of each process, with those of its children that have ended."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:  # it ended meanwhile
                continue
            found[int(entry.name)] = (int(fields[1]), sum(map(int, fields[11:15])) / TICKS)
    return found


def _machine_s() -> float:
    """All but idle and waiting for disks; guests are in user time already."""
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(
        int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
    )
    return (user + nice + system + irq + softirq + steal) / TICKS
