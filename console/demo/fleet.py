"""The demo's fleet: the deployment's agents, and those examples that are programs whose interpreters are there.

I/O: reads docs/examples/agents/topology.yaml, looks for programs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from agents.registry import resolve_agent
from agents.targets import UnfitAgentError
from console.cli.deployment import Deployment
from schemas.topology import Agent, Topology
from schemas.topology_yaml import read_yaml

EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples" / "agents"


def with_examples(deployment: Deployment, folder: Path, note: Callable[[str], None]) -> Deployment:
    """The deployment with the examples in it, its topology written into `folder`; as it is, where none can run or the
    routes that they join are not its own. `note` is told which are left out, and why."""
    if not (EXAMPLES / "topology.yaml").is_file():  # installed without its pages
        return deployment
    part = read_yaml((EXAMPLES / "topology.yaml").read_text("utf-8")).data
    agents, missing = _usable(part["agents"])
    for name, why in missing.items():
        note(f"{name} is left out of the fleet: {why}")
    topology = joined(deployment.topology, agents, part["routes"])
    if topology is None or not agents:
        return deployment
    words = ", ".join(f"{name} ({(agent.command or ('',))[0]})" for name, agent in agents.items())
    note(f"joined by agents that are programs of their own: {words}")
    path = folder / "topology.yaml"
    path.write_text(topology.model_dump_json(indent=2))  # JSON is YAML
    return replace(deployment, topology=topology, topology_path=path)


def joined(topology: Topology, agents: Mapping[str, Agent], routes: Mapping[str, Any]) -> Topology | None:
    """`topology` with these agents, and with what `routes` say of its own routes and of new ones.

    Of a list of agents those that are not there are left out, and of routes those without agents. None where a route
    of the topology would lose an agent that it has.
    """
    known = {*topology.agents, *agents}
    said = {
        name: {**route, "agents": [each for each in route["agents"] if each in known]} for name, route in routes.items()
    }
    whole: dict[str, Any] = topology.model_dump()
    whole["agents"] |= {name: agent.model_dump() for name, agent in agents.items()}
    for name, route in said.items():
        if name in topology.routes and not set(topology.routes[name].agents) <= set(route["agents"]):
            return None
        if route["agents"]:
            whole["routes"][name] = whole["routes"].get(name, {}) | route
    return Topology.model_validate(whole)


def _usable(stated: Mapping[str, Any]) -> tuple[dict[str, Agent], dict[str, str]]:
    """The agents whose programs are there, with absolute folders, and what is wrong with the others."""
    found: dict[str, Agent] = {}
    missing: dict[str, str] = {}
    for name, fields in stated.items():
        agent = Agent.model_validate({**fields, "cwd": str(EXAMPLES / fields["cwd"])})
        try:
            resolve_agent(agent)
            found[name] = agent
        except UnfitAgentError as error:
            missing[name] = str(error)
    return found, missing
