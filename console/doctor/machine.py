"""What this machine has to have: Python and its packages, Java and Kafka's jars, files, memory, processors.

I/O: files, /proc, processes.
"""

from __future__ import annotations

import os
import re
import resource
import shutil
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from console.doctor.check import Case, Check, Finding, fail, ok, warn
from console.local.java import JARS, JAVA_VERSION_MIN, REPOSITORY, java_version
from schemas.codes import ErrorCode

PYTHON_MIN = (3, 11)
LOCK = REPOSITORY / "requirements.lock"
POM = REPOSITORY / "ops" / "broker" / "pom.xml"
_LOCKED = re.compile(r"^([\w.-]+)==([^\s;\\]+)([^\\\n]*)", re.MULTILINE)
_KAFKA = re.compile(r"<artifactId>kafka_[\d.]+</artifactId>\s*<version>([^<]+)<")
SHOWN_MAX = 3
MIB = 1024 * 1024
# A partition of a local broker holds five files or so open, and there are some thirty topics of four.
FILES_PLENTY, FILES_WANTED, FILES_MIN = 65_536, 4096, 1024
# Broker, store with ClickHouse, worker and host at rest take 1.2 GiB; the rest is for work.
MEMORY_WANTED_MIB, MEMORY_MIN_MIB = 2048, 1024
PROCESSORS_WANTED = 2
SETUP = "Run `make setup`."


def python(_case: Case) -> Finding:
    found = f"Python {sys.version.split()[0]} at {sys.executable}"
    if sys.version_info[:2] < PYTHON_MIN:
        return fail(found, "Install Python 3.11 or later, and run `make clean setup`.", ErrorCode.PREREQUISITES)
    return ok(found)


def packages(_case: Case) -> Finding:
    if not LOCK.exists():
        return ok("installed without the lock file, so not compared with it")
    others, missing, count = [], [], 0
    for name, locked, marker in _LOCKED.findall(LOCK.read_text("utf-8")):
        count += 1
        try:
            found = version(name)
        except PackageNotFoundError:
            if ";" not in marker:  # a package of another Python's
                missing.append(name)
            continue
        if found != locked:
            others.append(f"{name} {found} (locked: {locked})")
    if others:
        return fail(f"{len(others)} of {count} locked packages differ: {_few(others)}", SETUP, ErrorCode.PREREQUISITES)
    if missing:
        return warn(f"{len(missing)} of {count} locked packages are not installed: {_few(missing)}", SETUP)
    return ok(f"{count} packages, each as the lock file has it")


def java(case: Case) -> Finding:
    found = java_version()
    said = f"Java {found}" if found else "no Java that runs"
    if found >= JAVA_VERSION_MIN:
        return ok(f"{said} at {shutil.which('java')}")
    if not case.own_broker:
        return ok(f"{said}; only a local broker needs it, and a Kafka of your own is named")
    return fail(
        f"{said}; a local broker needs Java {JAVA_VERSION_MIN} or later",
        "Install it (apt-get install openjdk-17-jre-headless), or name a Kafka of your own with --broker.",
        ErrorCode.PREREQUISITES,
    )


def jars(case: Case) -> Finding:
    found = sorted(path.stem.rpartition("-")[2] for path in JARS.glob("kafka_*.jar"))
    wanted = _KAFKA.search(POM.read_text("utf-8")) if POM.exists() else None
    if found and (wanted is None or found == [wanted[1]]):
        return ok(f"Apache Kafka {found[-1]} in {JARS}")
    said = f"Apache Kafka {', '.join(found)} in {JARS}, where {wanted[1]} is wanted" if found and wanted else ""
    said = said or f"no jars of Apache Kafka in {JARS}"
    if not case.own_broker:
        return ok(f"{said}; only a local broker needs them, and a Kafka of your own is named")
    maven = "" if shutil.which("mvn") else " It needs Maven: apt-get install maven."
    return fail(said, f"{SETUP}{maven} Or name a Kafka of your own with --broker.", ErrorCode.PREREQUISITES)


def open_files(_case: Case) -> Finding:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    said = f"{'any number' if soft == resource.RLIM_INFINITY else soft} of files may be open"
    if soft == resource.RLIM_INFINITY or soft >= FILES_WANTED:
        return ok(said)
    most = FILES_PLENTY if hard == resource.RLIM_INFINITY else min(hard, FILES_PLENTY)
    fix = f"Raise it before the start: ulimit -n {most}."
    return fail(said, fix) if soft < FILES_MIN else warn(said, fix)


def memory(_case: Case) -> Finding:
    free = available_mib()
    if free is None:
        return ok("this machine does not tell how much memory is available")
    said = f"{free} MiB of memory are available"
    if free >= MEMORY_WANTED_MIB:
        return ok(said)
    fix = f"Close other programs, or give it more: {MEMORY_WANTED_MIB} MiB are wanted, half of it for a local broker."
    return fail(said, fix) if free < MEMORY_MIN_MIB else warn(said, fix)


def available_mib() -> int | None:
    """Of the machine, or of the container that this runs in where that has less."""
    found = re.search(r"^MemAvailable:\s+(\d+) kB", _read("/proc/meminfo"), re.MULTILINE)
    known = [int(found[1]) // 1024] if found else []
    limit, used = _read("/sys/fs/cgroup/memory.max").strip(), _read("/sys/fs/cgroup/memory.current").strip()
    if limit.isdigit() and used.isdigit():
        known.append(max(0, int(limit) - int(used)) // MIB)
    return min(known, default=None)


def processors(_case: Case) -> Finding:
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    said = f"{count} processor{'' if count == 1 else 's'}"
    if count < PROCESSORS_WANTED:
        return warn(said, "It works, and slowly: broker, store, worker and host share it.")
    return ok(said)


def _read(path: str) -> str:
    try:
        return Path(path).read_text("utf-8")
    except OSError:
        return ""


def _few(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN_MAX} more" if len(names) > SHOWN_MAX else ""
    return ", ".join(names[:SHOWN_MAX]) + more


def checks() -> Iterator[Check]:
    yield Check("machine", "Python", python)
    yield Check("machine", "packages", packages)
    yield Check("machine", "Java", java)
    yield Check("machine", "Kafka's jars", jars)
    yield Check("machine", "open files", open_files)
    yield Check("machine", "memory", memory)
    yield Check("machine", "processors", processors)
