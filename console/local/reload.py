"""What `pointsman dev --reload` does when a file is saved: checked first, then applied, and told either way.

I/O: files, processes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from console.local.changes import compare
from console.local.check import Verdict, check
from console.local.services import listed
from console.local.supervisor import Supervisor
from console.local.watch import Digest, Watch
from schemas.codes import ErrorCode
from schemas.errors import PointsmanError, TopologyError
from schemas.topology import Topology, load_topology

AGENTS = frozenset({"host"})
# What this process is made of, and new ones would be in another version.
PROGRAM = ("console", "schemas", "streams")
ANOTHER = "pointsman itself has changed since this dev was started: stop it, and start it again"


class Reloader:
    """Watches the topology's file and those that its agents are made of; `poll` is called often.

    What is not valid, or does not come to serve, changes nothing: what was in force stays so. Not applied are changes
    of `prefix` and `partitions`, which belong to a deployment and not to its processes.
    """

    def __init__(
        self, path: Path, supervisor: Supervisor, verdict: Verdict, watch: Watch, say: Callable[[str], None]
    ) -> None:
        self._path, self._source, self._supervisor, self._say = path.absolute(), str(path), supervisor, say
        self._watch = watch
        self._watch.add(verdict.files)
        self._program = newest()
        # Of the code that the host runs.
        self._running = self._code()

    @property
    def files(self) -> list[Path]:
        """All that is watched and there."""
        return sorted(path for path, content in self._watch.digests.items() if content is not None)

    def poll(self) -> None:
        """Applies what was saved meanwhile."""
        if changed := self._watch.poll():
            saved = ", ".join(sorted(map(_short, changed)))
            began = time.monotonic()
            try:
                done = self._take()
            except TopologyError as error:
                faults = "\n".join(f"  {fault.of(error.source)}" for fault in error.faults)
                self._refuse(saved, faults)
            except PointsmanError as error:
                self._refuse(saved, f"  {_indented(error)}")
            else:
                self._say(f"{saved} saved: {done} ({time.monotonic() - began:.1f} s)")

    def _refuse(self, saved: str, why: str) -> None:
        # An old process and a new one do not agree on what is right, whatever the file says.
        hint = f"\n  {ANOTHER}" if newest() > self._program else ""
        self._say(f"{saved} saved, and not taken; what was in force stays so:\n{why}{hint}")

    def _take(self) -> str:
        """What was done. Raises PointsmanError where nothing was."""
        # Before anything is read: what is saved from here on is another change, for the next poll.
        code = self._code()
        snapshot = self._supervisor.snapshot(self._text())
        topology = self._checked(snapshot)
        code |= {path: content for path, content in self._code().items() if path not in code}
        # Files of agents that are new to the topology are not among those that run.
        edited = [path for path, content in self._running.items() if code.get(path) != content]
        changes = compare(self._supervisor.topology, topology)
        if changes.refused:
            raise PointsmanError("\n".join(changes.refused), code=ErrorCode.CANNOT_RELOAD)
        services = changes.services | (AGENTS if edited else frozenset())
        self._supervisor.apply(topology, snapshot, services)
        self._running = code
        told = [*changes.lines, *(f"code of agents changed: {_short(path)}" for path in edited)]
        if not told:
            return "as it was before, nothing to do"
        applied = f"applied with a new {listed(sorted(services))}" if services else "nothing that a process has to know"
        return "; ".join([*told, applied])

    def _text(self) -> bytes:
        try:
            return self._path.read_bytes()
        except OSError as error:
            text = f"{self._source} cannot be read: {error.strerror}"
            raise PointsmanError(text, code=ErrorCode.CANNOT_RELOAD) from error

    def _checked(self, snapshot: Path) -> Topology:
        """Raises TopologyError, CheckFailedError."""
        try:
            topology = load_topology(snapshot)
        except TopologyError as error:
            raise TopologyError(self._source, error.faults) from error
        verdict = check(snapshot, self._source, self._supervisor.site.environment())
        self._watch.add(verdict.files)
        if verdict.faults:
            raise TopologyError(self._source, verdict.faults)
        return topology

    def _code(self) -> dict[Path, Digest]:
        return {path: content for path, content in self._watch.digests.items() if path != self._path}


def newest() -> float:
    """When a file of this program was changed last, in seconds of the file system's clock."""
    root = Path(__file__).resolve().parents[2]
    times = [0.0]
    for path in (path for name in PROGRAM for path in (root / name).rglob("*.py")):
        with suppress(OSError):
            times.append(path.stat().st_mtime)
    return max(times)


def _short(path: Path) -> str:
    """From here, where it lies here."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def _indented(error: PointsmanError) -> str:
    return f"{error} [{error.error_code}]".replace("\n", "\n  ")
