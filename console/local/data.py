"""The data directory of one machine: whose it is now, whether it can be written, and which versions made what it holds.

I/O: files.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import IO

from schemas.codes import ErrorCode
from schemas.errors import ConfigurationError
from schemas.nearby import LOCK, is_held

LAYOUT = 1
MARKER = "made-by.json"
FOLDERS = ("logs", "run")
MIB = 1024 * 1024
# A start writes less than a tenth of it; what is below would end in the middle of somebody's first task.
FREE_BYTES_MIN = 256 * MIB
FULL_BELOW_BYTES = 4 * MIB
# What a supervisor that was killed leaves behind ends by itself within this: a guard gives the broker 9 s.
LEFTOVERS_S = 15.0
POLL_S = 0.1
# File systems that are gone with whom.
VOLATILE: Mapping[str, str] = {"tmpfs": "machine", "ramfs": "machine", "overlay": "container"}
OTHER = "Choose another directory with --data DIR."
_NUMBERS = re.compile(r"\d+")


class DataDirectory:
    """One supervisor's at a time. `open` and `close` it; processes that inherit `descriptor` keep it taken.

    So a directory stays taken until the last process that writes there is gone, however its supervisor ended.
    """

    def __init__(self, path: Path, report: Callable[[str], None] = lambda _text: None) -> None:
        self.path, self._report = path, report
        self._lock: IO[str] | None = None

    @property
    def descriptor(self) -> int:
        assert self._lock is not None
        return self._lock.fileno()

    def open(self, versions: Mapping[str, str]) -> None:
        """Takes the directory, made where it is missing, for these versions of what will write there.

        Raises ConfigurationError: it cannot be written, another pointsman has it, newer versions made it, or its disk
        is full.
        """
        try:
            for folder in (self.path, *(self.path / name for name in FOLDERS)):
                folder.mkdir(parents=True, exist_ok=True)
            # Not "w": who has it is written there, and may still have it.
            self._lock = (self.path / LOCK).open("a+")
            self._take()
            self._refuse_newer(versions)
            self._refuse_full()
            self._mark(versions)
        except OSError as error:
            self.close()
            why = error.strerror or type(error).__name__
            text = f"The data directory {self.path} cannot be used: {why}. {OTHER}"
            raise ConfigurationError(text, code=ErrorCode.DATA_DIRECTORY) from error
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def trouble(self) -> str | None:
        """What ails the disk, where a process ended and may have ended of it."""
        try:
            free = shutil.disk_usage(self.path).free
        except OSError as error:
            return f"The data directory {self.path} cannot be read any more: {error.strerror}."
        if free >= FULL_BELOW_BYTES:
            return None
        return (
            f"The disk of {self.path} is full ({free // 1024} KiB are free). Free some space and start again: what was "
            "accepted is kept."
        )

    def _take(self) -> None:
        assert self._lock is not None
        deadline, told = time.monotonic() + LEFTOVERS_S, False
        while True:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                owner = self._owner()
                if owner is not None or time.monotonic() > deadline:
                    who = f"another pointsman (pid {owner})" if owner else "processes that an earlier run left behind"
                    text = f"{self.path} is in use by {who}. Stop that one, or c{OTHER[1:]}"
                    raise ConfigurationError(text, code=ErrorCode.DIRECTORY_IN_USE) from None
                if not told:
                    self._report(f"waiting for what an earlier run left behind in {self.path} to end")
                    told = True
                time.sleep(POLL_S)
        self._lock.seek(0)
        self._lock.truncate()
        self._lock.write(f"{os.getpid()}\n")
        self._lock.flush()

    def _owner(self) -> int | None:
        """The supervisor that has the lock; None where it is gone and its processes are still ending."""
        assert self._lock is not None
        self._lock.seek(0)
        text = self._lock.read().strip()
        if not text.isdigit():
            return None
        try:
            os.kill(int(text), 0)
        except ProcessLookupError:
            return None
        except PermissionError:
            pass
        return int(text)

    def _refuse_newer(self, versions: Mapping[str, str]) -> None:
        if (why := newer_than(self.path, versions)) is not None:
            raise ConfigurationError(why, code=ErrorCode.DATA_OF_ANOTHER_VERSION)

    def _refuse_full(self) -> None:
        free = shutil.disk_usage(self.path).free
        if free < FREE_BYTES_MIN:
            raise ConfigurationError(
                f"The disk of {self.path} has {free // MIB} MiB left, and {FREE_BYTES_MIN // MIB} MiB are needed to "
                f"start. Free some space, or c{OTHER[1:]}",
                code=ErrorCode.DISK_FULL,
            )

    def _mark(self, versions: Mapping[str, str]) -> None:
        draft = self.path / f".{MARKER}"
        draft.write_text(json.dumps({**made_by(self.path), "layout": LAYOUT, **versions}) + "\n")
        draft.replace(self.path / MARKER)


def made_by(path: Path) -> dict[str, object]:
    """The versions that wrote to a data directory; empty where it is new."""
    try:
        made = json.loads((path / MARKER).read_text())
    except (OSError, ValueError):
        return {}
    return made if isinstance(made, dict) else {}


def newer_than(path: Path, versions: Mapping[str, str]) -> str | None:
    """Why these versions must not write to a data directory: a newer one has. None where they may."""
    made = made_by(path)
    layout = made.get("layout", LAYOUT)
    if not isinstance(layout, int) or layout > LAYOUT:
        return (
            f"{path} was made by a newer pointsman ({made.get('pointsman', 'unknown')}), whose layout is not known "
            f"here. Use that version, or c{OTHER[1:]}"
        )
    for name, ours in versions.items():
        theirs = str(made.get(name, ours))
        if name != "pointsman" and _order(theirs) > _order(ours):
            return (
                f"{path} was written by {name} {theirs}, and this is {name} {ours}, which may not read it. Install the "
                f"newer one (`make setup`), or c{OTHER[1:]}"
            )
    return None


def owner_of(path: Path) -> int | None:
    """The supervisor that has a data directory now; None where nobody has."""
    try:
        text = (path / LOCK).read_text().strip() if is_held(path / LOCK) else ""
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def versions_here(jars: Path | None, *, embedded: bool) -> dict[str, str]:
    """Of what will write to a data directory: this package, Kafka where `jars` has it, ClickHouse where it is ours."""
    found = {"pointsman": version("pointsman")}
    kafka = sorted(jars.glob("kafka_*.jar")) if jars else []
    if kafka:
        found["Kafka"] = kafka[-1].stem.rpartition("-")[2]
    if embedded:
        found["chDB"] = version("chdb")
    return found


def _order(text: str) -> tuple[int, ...]:
    return tuple(map(int, _NUMBERS.findall(text)))


def filesystem_of(path: Path) -> str:
    """The type of the file system that a path lies on; empty where the machine does not tell."""
    try:
        lines = Path("/proc/self/mounts").read_text().splitlines()
    except OSError:
        return ""
    best, kind = "", ""
    for line in lines:
        _, where, found, *_ = line.split(" ")
        point = where.encode().decode("unicode_escape")
        if len(point) >= len(best) and path.resolve().is_relative_to(point):
            best, kind = point, found
    return kind
