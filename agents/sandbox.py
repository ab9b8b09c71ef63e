"""How a program is kept to itself: by bubblewrap where that works on this machine, else by resource limits alone.

I/O: asks bubblewrap once whether it works.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import PurePosixPath

from agents.targets import Program, Unfit, UnfitAgentError
from schemas.codes import FaultCode
from schemas.settings import KAFKA_CONFIG
from schemas.topology import Agent
from schemas.topology_agent import MIB

PROBE_S = 5.0
# Replaced by empty folders of the program's own: what others left there, and the sockets of services, stay out of
# sight. What stands directly below and holds the program itself is shown.
MASKED = ("/tmp", "/var/tmp", "/run")  # noqa: S108  no file is made there
NAMES_OF_HOSTS = "/run/systemd/resolve"  # where resolv.conf may point to


@dataclass(frozen=True, slots=True)
class Bubblewrap:
    """`path` of the program where it works, else None and `why`."""

    path: str | None
    why: str = ""


@cache
def find_bubblewrap(path: str | None) -> Bubblewrap:
    """Whether it is on this PATH and may make namespaces: containers often forbid that. Tried once a process."""
    found = shutil.which("bwrap", path=path)
    if found is None:
        return Bubblewrap(None, "bubblewrap is not installed")
    command = [found, "--unshare-all", "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "--", "true"]
    try:
        tried = subprocess.run(command, capture_output=True, timeout=PROBE_S, check=False, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Bubblewrap(None, f"bubblewrap does not work here: {type(error).__name__}")
    if tried.returncode:
        said = tried.stderr.decode(errors="replace").strip().splitlines()
        return Bubblewrap(None, f"bubblewrap does not work here: {said[-1] if said else tried.returncode}")
    return Bubblewrap(found)


def guarded(program: Program, agent: Agent, environ: Mapping[str, str]) -> Program:
    """The program as it is run, within its limits. Raises UnfitAgentError where only bubblewrap will do, and is not."""
    bubblewrap = Bubblewrap(None, "sandbox: off") if agent.sandbox == "off" else find_bubblewrap(environ.get("PATH"))
    if agent.sandbox == "required" and bubblewrap.path is None:
        raise UnfitAgentError([Unfit(FaultCode.NO_SANDBOX, ("sandbox",), f"is required, and {bubblewrap.why}")])
    hidden = [os.path.realpath(environ[KAFKA_CONFIG])] if environ.get(KAFKA_CONFIG) else []
    return replace(
        program,
        words=tuple(words(program, agent, bubblewrap.path, hidden)),
        limits=limits(agent),
        protection=description(agent, bubblewrap),
    )


def words(program: Program, agent: Agent, bubblewrap: str | None, hidden: Sequence[str]) -> list[str]:
    """What to run for this program: itself, or bubblewrap with it.

    There its root is read-only, and `hidden`, files of the host that hold secrets, show nothing.
    """
    if bubblewrap is None:
        return list(program.words)
    return [
        bubblewrap,
        "--die-with-parent",
        "--unshare-all",
        *(("--share-net",) if agent.network else ()),
        *("--cap-drop", "ALL"),
        *("--ro-bind", "/", "/"),
        *("--dev", "/dev"),
        *("--proc", "/proc"),
        *(word for folder in MASKED for word in ("--tmpfs", folder)),
        *(word for path in _shown(program) for word in ("--ro-bind", path, path)),
        *(("--ro-bind-try", NAMES_OF_HOSTS, NAMES_OF_HOSTS) if agent.network else ()),
        *(word for path in hidden for word in ("--ro-bind", "/dev/null", path)),
        *("--chdir", program.cwd),
        "--",
        *program.words,
    ]


def _shown(program: Program) -> list[str]:
    """What the program needs of the masked folders: whatever stands directly below them and holds one of its paths."""
    found: dict[str, None] = {}
    for word in (program.cwd, *program.words):
        parts = PurePosixPath(word).parts
        for folder in MASKED:
            depth = len(PurePosixPath(folder).parts)
            if PurePosixPath(*parts[:depth]) == PurePosixPath(folder) and len(parts) > depth and ".." not in parts:
                found[str(PurePosixPath(*parts[: depth + 1]))] = None
    return list(found)


def limits(agent: Agent) -> dict[str, int]:
    """Of each of its processes, by the name of the resource. Address space is not bounded: runtimes reserve far more
    than they use; nor are processes, which the system counts by user and not by program."""
    return {"RLIMIT_DATA": agent.memory_mib_max * MIB, "RLIMIT_NOFILE": agent.files_max, "RLIMIT_CORE": 0}


def description(agent: Agent, bubblewrap: Bubblewrap) -> str:
    """Which of the two protects an agent, and from what; for logs and cards."""
    bounds = f"{agent.memory_mib_max} MiB and {agent.files_max} files a process"
    if bubblewrap.path is None:
        return f"resource limits only ({bubblewrap.why}): {bounds}; neither network nor files are cut off"
    network = "network" if agent.network else "no network"
    return f"bubblewrap: {network}, files read-only, a /tmp of its own; {bounds}"
