"""The runner of each kind. I/O: none."""

from __future__ import annotations

from agents.calls import Runner
from agents.registry import Target
from agents.runners.command import CommandRunner
from agents.runners.http_service import HttpRunner
from agents.runners.in_process import BatchRunner, PythonRunner
from agents.runners.turns import CallThreads
from agents.targets import Endpoint, Program
from agents.wire import Heard, unheard
from schemas.topology import Agent


def make_runner(
    agent_id: str, agent: Agent, target: Target, heard: Heard = unheard, threads: CallThreads | None = None
) -> Runner:
    """`target` is what agents.registry found of it; `heard` is told what a service or a program responds. `threads` are
    what the batch agents of a host share."""
    if isinstance(target, Endpoint):
        return HttpRunner(agent_id, agent, target, heard)
    if isinstance(target, Program):
        return CommandRunner(agent_id, agent, target, heard)
    if agent.kind == "batch":
        return BatchRunner(agent, target, threads or CallThreads())
    return PythonRunner(agent_id, agent, target)
