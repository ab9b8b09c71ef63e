"""Our own processes by name: started and stopped together, started again when one ends, replaced while they serve.

I/O: processes, files.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TypeVar

from console.local.child import Child, ProcessEndedError, explanation, previous
from console.local.data import DataDirectory
from console.local.restarts import ENDS_MAX, Restarts
from console.local.services import LAST, Site
from schemas.errors import PointsmanError

READY_TIMEOUT_S = 90.0
# Seconds after the call of `stop` at which the last of each stage is killed.
TASKS_STOP_S = 4.5
LAST_STOP_S = 7.5
# What an old one gets to end by itself when a new one takes its place: its own bound (console/cli/serve.py) and a bit.
REPLACED_STOP_S = 8.0
POLL_S = 0.05
T = TypeVar("T")

NEXT = "next"
KILLED = -9


class Crew:
    """The services of a site."""

    def __init__(self, site: Site, data: DataDirectory, report: Callable[[str], None]) -> None:
        self._site, self._data, self._report = site, data, report
        self._children: dict[str, Child] = {}
        self._standby: dict[str, Child] = {}
        self._restarts: dict[str, Restarts] = {}
        self._coming: set[str] = set()
        self._topology = Path()

    @property
    def children(self) -> Mapping[str, Child]:
        return self._children

    def start(self, topology: Path, meanwhile: Callable[[], None]) -> dict[str, dict[str, object]]:
        """What each process announced, once all serve. Raises ProcessEndedError when one does not come to that.

        `meanwhile` is called while it waits, and may raise, too: whoever ends first is the one to tell of.
        """
        self._topology = topology
        for name in self._site.services:
            self._begin(name)
        deadline = time.monotonic() + READY_TIMEOUT_S
        return {name: _await(child, child.ready, deadline, meanwhile) for name, child in self._children.items()}

    def check(self) -> None:
        """Raises ProcessEndedError when one of the processes has ended."""
        for child in self._children.values():
            child.check()

    def tend(self) -> None:
        """Starts again what has ended, after a pause. Raises ProcessEndedError when that does not help."""
        now = time.monotonic()
        for name, child in self._children.items():
            due = self._restarts[name].due_at
            if due is not None and now >= due:
                self._begin(name)
                self._coming.add(name)
            elif due is None:
                self._look_after(name, child, now)

    def replace(self, names: Iterable[str], topology: Path) -> None:
        """New processes, serving this topology, in the place of these; of each, the old one ends before the new serves.

        The new ones load everything before an old one is asked to end, so that what cannot start costs nothing. Raises
        PointsmanError where the new do not come to serve; then processes with the topology from before are in place.
        """
        wanted = list(names)
        try:
            self._hold(wanted, topology)
            self._hand_over(wanted)
        except PointsmanError:
            self._drop_standby()
            self._bring_back(wanted)
            raise
        self._topology = topology

    def stop(self, began: float) -> bool:
        """Those that write to topics, then those that read them; whether all ended by themselves."""
        everybody = [*self._children.items(), *self._standby.items()]
        first = [child for name, child in everybody if name not in LAST]
        last = [child for name, child in everybody if name in LAST]
        return all([_stop_all(first, began + TASKS_STOP_S), _stop_all(last, began + LAST_STOP_S)])

    def kill(self) -> None:
        """Ends everything at once."""
        everybody = [*self._children.values(), *self._standby.values()]
        for child in everybody:
            child.kill()
        for child in everybody:
            child.wait(time.monotonic())

    def _begin(self, name: str) -> None:
        self._children[name] = self._child(name, self._topology)
        self._children[name].start()
        self._restarts.setdefault(name, Restarts()).started(time.monotonic())

    def _child(self, name: str, topology: Path, *, standby: bool = False) -> Child:
        log, ready = self._paths(name, standby=standby)
        command = [*self._site.command(name, topology, ready), *(["--hold"] if standby else [])]
        return Child(name, command, log, ready, self._site.environment(), inherit=[self._data.descriptor])

    def _paths(self, name: str, *, standby: bool) -> tuple[Path, Path]:
        stem = f"{name}.{NEXT}" if standby else name
        return self._site.directory / "logs" / f"{stem}.log", self._site.directory / "run" / f"{stem}.json"

    def _look_after(self, name: str, child: Child, now: float) -> None:
        try:
            if name in self._coming and child.ready() is not None:
                self._coming.discard(name)
                self._report(f"the {name} serves again")
            child.check()
        except ProcessEndedError as error:
            self._coming.discard(name)
            pause = self._restarts[name].ended(now)
            trouble = self._data.trouble()
            if pause is None or trouble:
                why = trouble or f"It was started again {ENDS_MAX} times, and that did not help."
                raise ProcessEndedError(name, error.status, error.log, error.words, why) from error
            self._report(f"{_told(error)}; starting it again in {pause:.0f} s (its log: {previous(child.log_path)})")

    def _hold(self, names: list[str], topology: Path) -> None:
        for name in names:
            self._standby[name] = self._child(name, topology, standby=True)
            self._standby[name].start()
        deadline = time.monotonic() + READY_TIMEOUT_S
        for name in names:
            _await(self._standby[name], self._standby[name].held, deadline, self._check_standby)

    def _hand_over(self, names: list[str]) -> None:
        """The old ones end together, and each new one serves as soon as its own is gone."""
        until = time.monotonic() + REPLACED_STOP_S
        for name in names:
            self._children[name].terminate()
        waiting = list(names)
        while waiting:
            for name in [*waiting]:
                if not self._children[name].running or time.monotonic() > until:
                    self._children[name].wait(until)
                    self._standby[name].release()
                    waiting.remove(name)
            time.sleep(POLL_S / 5)
        deadline = time.monotonic() + READY_TIMEOUT_S
        for name in names:
            _await(self._standby[name], self._standby[name].ready, deadline, self._check_standby)
        for name in names:
            child = self._children[name] = self._standby.pop(name)
            child.succeed(*self._paths(name, standby=False))
            self._restarts[name] = Restarts(started_at=time.monotonic())
            self._coming.discard(name)

    def _check_standby(self) -> None:
        for child in self._standby.values():
            child.check()

    def _drop_standby(self) -> None:
        for child in self._standby.values():
            child.kill()
            child.wait(time.monotonic())
        self._standby.clear()

    def _bring_back(self, names: list[str]) -> None:
        """Those of before, where they were asked to end already; whether they come to serve, `tend` sees to."""
        for name in names:
            child = self._children[name]
            if child.asked_to_end:
                child.wait(time.monotonic() + REPLACED_STOP_S)
                self._begin(name)
                self._coming.add(name)


def _told(error: ProcessEndedError) -> str:
    """Without the end of a log, which is a stranger to whoever reads: where it lies is said."""
    told = explanation(error.name, error.log)
    if error.status == KILLED:
        told = "killed by hand, or by the kernel for want of memory"
    return f"{error.headline}: {told}" if told else error.headline


def _await(child: Child, condition: Callable[[], T | None], deadline: float, meanwhile: Callable[[], None]) -> T:
    """What the condition gives once it gives something. Raises ProcessEndedError where that takes too long."""
    while (found := condition()) is None:
        if time.monotonic() > deadline:
            raise ProcessEndedError.of(child.name, None, child.log_path)
        meanwhile()
        time.sleep(POLL_S)
    return found


def _stop_all(children: Iterable[Child], until: float) -> bool:
    """Asks all, then waits for each; whether every one ended by itself."""
    asked = list(children)
    for child in asked:
        child.terminate()
    ended = [child.wait(until) for child in asked]
    return all(ended)
