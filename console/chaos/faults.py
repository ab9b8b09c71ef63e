"""The faults themselves: each a class that does it and takes it back.

What each kind is for is in `console.chaos.kinds`. I/O: through the fleet; Kafka (`Corrupt`, `Rebalance`).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Protocol

from agents.builtin.switched import Behaviour
from console.chaos.corrupt import Corrupter
from console.chaos.fleet import Fleet
from console.chaos.members import Storm
from console.chaos.proxy import SOUND, Mode, Trouble
from console.chaos.schedule import Due
from schemas.settings import Settings
from schemas.topology import Topology

DELAY_MS, JITTER_SHARE = 150.0, 0.5
SHARE, SLOW_MS = 0.5, 800.0
RECORDS = 2
MEMBERS_EVERY_S = 1.5
JUMP_S = 3_600.0


class Processes(Protocol):
    """What signals are sent to, by name."""

    def kill(self, name: str, down_s: float) -> None: ...

    def terminate(self, name: str, down_s: float) -> None: ...

    def pause(self, name: str) -> None: ...

    def go_on(self, name: str) -> None: ...


class Ground(Protocol):
    """What faults are done to. `own`: a fleet of our own; None where the deployment is somebody else's."""

    @property
    def processes(self) -> Processes: ...

    @property
    def own(self) -> Fleet | None: ...

    @property
    def settings(self) -> Settings: ...

    @property
    def topology(self) -> Topology: ...

    @property
    def corrupter(self) -> Corrupter: ...


class Skipped(Exception):  # noqa: N818  nothing is wrong
    """A fault that cannot be done here, and why."""


class Postponed(Exception):  # noqa: N818  as above
    """A fault that cannot be done at this moment: the broker is away."""


class Fault:
    """One fault of a schedule. `inject` raises Skipped where it cannot be done, Postponed where not now."""

    def __init__(self, due: Due, ground: Ground) -> None:
        self.due, self.ground = due, ground
        self._draw = random.Random(due.seed)  # noqa: S311  a seed has to repeat it

    @property
    def fleet(self) -> Fleet:
        """Raises Skipped where what this needs is not ours to touch."""
        if self.ground.own is None:
            raise Skipped("it needs a deployment of its own")
        return self.ground.own

    def inject(self) -> None:
        raise NotImplementedError

    def heal(self) -> None:
        pass

    @property
    def lasts(self) -> bool:
        """Whether it is not over yet, although its time is: what it did takes longer to take back."""
        return False


class Kill(Fault):
    """The supervisor starts it again by itself."""

    def inject(self) -> None:
        self.ground.processes.kill(self.due.on, self.due.for_s)


class Stop(Fault):
    def inject(self) -> None:
        self.ground.processes.terminate(self.due.on, self.due.for_s)


class Pause(Fault):
    def inject(self) -> None:
        self.ground.processes.pause(self.due.on)

    def heal(self) -> None:
        self.ground.processes.go_on(self.due.on)


class BrokerRestart(Fault):
    def inject(self) -> None:
        if not self.fleet.broker_answers:
            raise Postponed
        self.fleet.stop_broker(self.due.for_s, clean=self.due.kind == "broker-restart")

    @property
    def lasts(self) -> bool:
        """A node needs its time to start: how long is not the deployment's doing."""
        return not self.fleet.broker_answers


class OnLink(Fault):
    """Whatever is wrong with a link."""

    def trouble(self) -> Trouble:
        match self.due.kind:
            case "delay":
                delay_ms = self.due.step.delay_ms or DELAY_MS
                return Trouble(delay_ms=delay_ms, jitter_ms=delay_ms * JITTER_SHARE)
            case "cut":
                return Trouble(Mode.CUT)
            case "half-open":
                return Trouble(Mode.SILENT)
            case "errors":
                return Trouble(Mode.ERRORS)
            case "lost-answers":
                return Trouble(Mode.NO_ANSWERS)
            case _:
                return Trouble(self._draw.choice((Mode.CUT, Mode.SILENT, Mode.ERRORS)))

    def inject(self) -> None:
        self.fleet.link[self.due.on].set(self.trouble())

    def heal(self) -> None:
        self.fleet.link[self.due.on].set(SOUND)


class Misbehave(Fault):
    def inject(self) -> None:
        share = self.due.step.share or SHARE
        behaviours: Mapping[str, Behaviour] = {
            "agent-slow": Behaviour(slow_ms=self.due.step.slow_ms or SLOW_MS),
            "agent-fails": Behaviour(fail=share),
            "agent-hangs": Behaviour(hang=share),
            "agent-unsure": Behaviour(unsure=share),
            "agent-wrong": Behaviour(wrong=share),
        }
        self.fleet.behave(self.due.on, behaviours[self.due.kind])

    def heal(self) -> None:
        self.fleet.behave(self.due.on, Behaviour())


class Corrupt(Fault):
    def inject(self) -> None:
        if self.ground.own is not None and not self.ground.own.broker_answers:
            raise Postponed
        self.ground.corrupter.send(self.due.step.records or RECORDS, self._draw)


class Rebalance(Fault):
    def __init__(self, due: Due, ground: Ground) -> None:
        super().__init__(due, ground)
        self._storm = Storm(ground.settings, ground.topology, due.on, due.step.every_s or MEMBERS_EVERY_S)

    def inject(self) -> None:
        self._storm.begin()

    def heal(self) -> None:
        self._storm.end()


class ClockJump(Fault):
    def inject(self) -> None:
        self.fleet.set_clock(self.due.on, self.due.step.by_s or self._draw.choice((-JUMP_S, JUMP_S)))

    def heal(self) -> None:
        self.fleet.set_clock(self.due.on, 0.0)


_CLASSES: Mapping[str, Callable[[Due, Ground], Fault]] = {
    "kill": Kill,
    "stop": Stop,
    "pause": Pause,
    **dict.fromkeys(("broker-restart", "broker-kill"), BrokerRestart),
    **dict.fromkeys(("delay", "cut", "half-open", "errors", "lost-answers", "api-outage"), OnLink),
    **dict.fromkeys(("agent-slow", "agent-fails", "agent-hangs", "agent-unsure", "agent-wrong"), Misbehave),
    "corrupt": Corrupt,
    "rebalance": Rebalance,
    "clock-jump": ClockJump,
}


def fault_of(due: Due, ground: Ground) -> Fault:
    return _CLASSES[due.kind](due, ground)
