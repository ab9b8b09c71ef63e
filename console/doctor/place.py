"""Where `pointsman dev` would run: its data directory, and the usual ports with whoever holds them.

I/O: files, sockets, /proc.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from console.doctor.check import Case, Check, Finding, fail, ok, warn
from console.local.data import FREE_BYTES_MIN, MIB, VOLATILE, filesystem_of, newer_than, owner_of, versions_here
from console.local.holders import holder_of
from console.local.java import JARS
from console.local.ports import FLAGS, LABELS, USUAL, Ports
from schemas.codes import ErrorCode

FREE_WANTED = 2048 * MIB
ELSEWHERE = "Make it writable, or choose another directory with --data DIR."


def directory(case: Case) -> Finding:
    path = case.data.absolute()
    there = _there(path)
    said = f"{path} ({'in use by a pointsman, pid ' + str(owner) if (owner := owner_of(path)) else _state(path)})"
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        why = "cannot be written" if there.is_dir() else "is no directory"
        return fail(f"{said}: {there} {why}", ELSEWHERE, ErrorCode.DATA_DIRECTORY)
    if (newer := newer_than(path, versions_here(JARS, embedded=True))) is not None:
        return fail(newer, "", ErrorCode.DATA_OF_ANOTHER_VERSION)
    if (kind := filesystem_of(there)) in VOLATILE:
        return warn(f"{said} lies on {kind}", f"It is gone with the {VOLATILE[kind]}; --data DIR names another.")
    return ok(said)


def _there(path: Path) -> Path:
    """The path, or the nearest folder above it that exists."""
    return next(each for each in (path, *path.parents) if each.exists())


def _state(path: Path) -> str:
    return "from an earlier start" if path.exists() else "to be made"


def room(case: Case) -> Finding:
    path = case.data.absolute()
    there = _there(path)
    free = shutil.disk_usage(there).free
    said = f"{free // MIB} MiB are free on the disk of {path}"
    if free < FREE_BYTES_MIN:
        fix = (
            f"{FREE_BYTES_MIN // MIB} MiB are needed to start. Free some, or choose another directory with --data DIR."
        )
        return fail(said, fix, ErrorCode.DISK_FULL)
    if free < FREE_WANTED:
        return warn(said, "A day of load takes more: free some, or choose another directory with --data DIR.")
    return ok(said)


def port(name: str, case: Case) -> Finding:
    number = getattr(USUAL, name)
    holder = holder_of(number)
    if holder is None:
        return ok(f"port {number} is free")
    path = case.data.absolute()
    if (owner := owner_of(path)) is not None and getattr(Ports.remembered(path), name) == number:
        return ok(f"port {number} is that of the pointsman (pid {owner}) on {path}")
    fix = f"`pointsman dev` takes another one and says so, or the one that {FLAGS[name]} names."
    return warn(f"port {number} {holder}", fix)


def checks() -> Iterator[Check]:
    yield Check("place", "data directory", directory)
    yield Check("place", "disk", room)
    for name in FLAGS:
        yield Check("place", f"port of {LABELS[name].removeprefix('the ')}", partial(port, name))
