"""The agents of the simulated deployment: each does with each task what the scenario says, and all calls are counted.

I/O: none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from agents.contract import AgentFailed, AgentOverloaded, AgentRefused, AgentWrongInput, Answer, Context, Task
from tests.simulation.world import World, current


class Part(NamedTuple):
    """What an agent does with a task: after `after_s` it ends as `how` says."""

    how: str
    after_s: float
    answer: str = "yes"
    confidence: float | None = 0.95


class Call(NamedTuple):
    """One call of an agent's code, by whom, and when."""

    agent: str
    tenant: str
    task_id: str
    stage: str
    process: str
    at: float


@dataclass
class Stage:
    """What the agents play, and what they were called for."""

    world: World
    parts: Mapping[tuple[str, str], Part] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)


_STAGES: list[Stage] = []


def play(stage: Stage | None) -> None:
    """From now on the agents play on this stage, or on none."""
    _STAGES[:] = [] if stage is None else [stage]


ANSWERS = Part("answers", 0.05)


async def act(task: Task, context: Context, *, agent: str) -> Answer:
    """Every agent's code; the option says which one it is."""
    (stage,) = _STAGES
    part = stage.parts.get((task.task_id, agent), ANSWERS)
    process = current()
    name = "?" if process is None else process.name
    call = len(stage.calls)
    stage.calls.append(Call(agent, task.tenant, task.task_id, task.stage, name, stage.world.now))
    stage.world.note(name, f"{agent} is called for {task.task_id} ({task.stage}), {len(context.interactions)} before")
    await asyncio.sleep(part.after_s)
    if part.how == "fails":
        raise AgentFailed("it did not work")
    if part.how == "breaks":
        raise ZeroDivisionError("a fault of its own")
    if part.how == "is overloaded":
        raise AgentOverloaded("too much to do")
    if part.how == "refuses":
        raise AgentRefused("not my business")
    if part.how == "cannot":
        raise AgentWrongInput("nobody could")
    cited = ("page 1",) if task.stage == "REGROUND" else ()
    # The payload tells in a result which call it rests on.
    return Answer(part.answer, confidence=part.confidence, citations=cited, payload={"call": call})
