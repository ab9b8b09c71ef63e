"""On what a run was made: the machine, the versions, the commit. I/O: /proc, processes."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping
from hashlib import blake2b
from importlib.metadata import version
from pathlib import Path

import confluent_kafka as ck

from console.local.data import versions_here
from console.local.java import JARS
from loadtest.scenario import Scenario
from schemas.topology import Topology

PACKAGES = ("confluent-kafka", "faust-streaming", "numpy", "polars", "pyarrow", "pyruhvro")
ROOT = Path(__file__).resolve().parents[2]


def machine() -> dict[str, object]:
    """What its speed depends on, as far as it can be seen from here; null where it cannot."""
    return {
        "cpu": _field("/proc/cpuinfo", "model name"),
        "cores": len(os.sched_getaffinity(0)),
        "memory_mib": _kib("MemTotal"),
        "kernel": platform.release(),
        "architecture": platform.machine(),
        "load_before": round(os.getloadavg()[0], 2),
    }


def versions(*, own_broker: bool) -> dict[str, str]:
    """Of what ran."""
    found = {"python": platform.python_version(), "librdkafka": ck.libversion()[0]}
    found |= {name: version(name) for name in PACKAGES}
    found |= versions_here(JARS if own_broker else None, embedded=True)
    if own_broker and (java := _said("java", "-version")):
        found["java"] = java.splitlines()[0]
    return found


def commit() -> str | None:
    """Of the working copy that this ran from, `+` where something in it is not committed; null outside of one."""
    found = _said("git", "-C", str(ROOT), "rev-parse", "--short=12", "HEAD")
    if found is None:
        return None
    changed = _said("git", "-C", str(ROOT), "status", "--porcelain", "--untracked-files=no")
    return found + ("+" if changed else "")


def config_hash(topology: Topology, scenario: Scenario, more: Mapping[str, object]) -> str:
    """The same for runs that were asked for alike."""
    text = topology.model_dump_json() + scenario.model_dump_json() + repr(sorted(more.items()))
    return blake2b(text.encode(), digest_size=8).hexdigest()


def _said(*command: str) -> str | None:
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return (found.stdout or found.stderr).strip()


def _field(path: str, name: str) -> str | None:
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return None
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), None)


def _kib(name: str) -> int | None:
    found = _field("/proc/meminfo", name)
    return None if found is None else int(found.split()[0]) // 1024
