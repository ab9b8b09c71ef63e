"""From a plan and a seed to what happens when: the same for the same seed.

I/O: none.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from console.chaos.kinds import AGENTS
from console.chaos.plan import Plan, Step


@dataclass(frozen=True, slots=True)
class Due:
    """One fault: when, from the start of the load, for how long, to whom in particular. `seed` is for its own draws."""

    at_s: float
    for_s: float
    on: str
    step: Step
    seed: int

    @property
    def kind(self) -> str:
        return self.step.fault

    @property
    def ends_s(self) -> float:
        return self.at_s + self.for_s

    def __str__(self) -> str:
        lasting = f" for {self.for_s:.1f} s" if self.for_s else ""
        return f"{self.kind} on {self.on}{lasting}"


def schedule(plan: Plan, name: str, seed: int) -> list[Due]:
    """In order of time."""
    draw = random.Random(f"{name}/{seed}")  # noqa: S311  a seed has to repeat it
    return sorted((_due(plan, step, at_s, draw) for step, at_s in _timed(plan, draw)), key=lambda due: due.at_s)


def load_s(plan: Plan, dues: Sequence[Due]) -> float:
    """How long the load lasts."""
    return max([plan.duration_s, *(due.ends_s + plan.tail_s for due in dues)])


def _timed(plan: Plan, draw: random.Random) -> list[tuple[Step, float]]:
    if plan.order == "listed":
        return [(step, step.at_s or 0.0) for step in plan.faults]
    if plan.order == "shuffled":
        steps = list(plan.faults)
        draw.shuffle(steps)
    else:
        slots = max(1, int((plan.duration_s - plan.warm_up_s - plan.tail_s) / plan.every_s) + 1)
        steps = draw.choices(plan.faults, [step.weight for step in plan.faults], k=slots)
    return [(step, plan.warm_up_s + number * plan.every_s) for number, step in enumerate(steps)]


def _due(plan: Plan, step: Step, at_s: float, draw: random.Random) -> Due:
    jitter_s, on = draw.random() * step.jitter_s, step.target
    count = {"worker": plan.workers, "host": plan.hosts}.get(on, 0)
    number = draw.randrange(max(count, len(AGENTS)))
    if on == "agent":
        on = AGENTS[number % len(AGENTS)]
    elif count and step.fault != "rebalance":
        on = f"{on}-{number % count + 1}"
    return Due(at_s + jitter_s, step.lasts_s, on, step, draw.getrandbits(32))


def may_make_zombies(dues: Sequence[Due], *, slots: bool) -> bool:
    """Whether a worker may have been expelled from its group and not known of it: one that was paused or cut off."""
    session_s = 28.0 if slots else 5.0  # a session of 30 s, or 6, less what is left of it when the fault begins
    kinds = ("pause", "cut", "half-open", "delay")
    return any(due.on.startswith("worker") and due.kind in kinds and due.for_s >= session_s for due in dues)
