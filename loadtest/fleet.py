"""The topology that a scenario runs on: the routes of a deployment, or made up ones, all served by rule.

I/O: none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from loadtest.scenario import Agents, Scenario
from schemas.topology import Topology

RULE = "agents.builtin.rules:answer"
RULE_OF_ONE = "agents.builtin.rules:answer_one"
PER_ROUTE = 3
# Of an agent these stay as the deployment says.
_KEPT = ("timeout_ms", "accuracy", "confidence_when_unstated", "grounded", "version")


def fleet(topology: Topology, scenario: Scenario) -> Topology:
    """The scenario's agents on the deployment's limits; routes and names are the deployment's, unless it counts them.

    Nothing of the deployment's own agents runs: neither code, nor programs, nor services.
    """
    whole: dict[str, Any] = topology.model_dump(mode="json")
    if scenario.agents.count is not None:
        whole |= _made_up(scenario.agents.count)
    else:
        whole["agents"] = {
            name: {kept: getattr(agent, kept) for kept in _KEPT} for name, agent in topology.agents.items()
        }
    if scenario.partitions is not None:
        whole["partitions"] = scenario.partitions
    whole["agents"] = _served(whole["agents"], scenario.agents)
    return Topology.model_validate(whole)


def _served(agents: Mapping[str, Mapping[str, Any]], wishes: Agents) -> dict[str, Any]:
    slow = round(wishes.slow * len(agents))
    slow_ones = _spread(slow, len(agents))
    remembering = _spread(round(wishes.remember * len(agents)), len(agents))
    return {
        name: {
            **fields,
            "kind": "python" if number in remembering else "batch",
            "run": RULE_OF_ONE if number in remembering else RULE,
            "effect": "read",
            "options": {
                "salt": number,
                "fail": wishes.fail,
                "burst": wishes.burst,
                "error_class": wishes.error_class,
                "disagree": wishes.disagree,
                "slow_ms": wishes.slow_ms if number in slow_ones else 0,
            },
        }
        for number, (name, fields) in enumerate(agents.items())
    }


def _spread(count: int, among: int) -> set[int]:
    return {round(number * among / count) for number in range(count)}


def _made_up(count: int) -> dict[str, Any]:
    """So many agents, three a route; the last of each is the fallback."""
    names = [f"agent_{number:03}" for number in range(count)]
    chains = [names[start : start + PER_ROUTE] for start in range(0, count - PER_ROUTE + 1, PER_ROUTE)]
    for spare in names[len(chains) * PER_ROUTE :]:
        chains[-1].append(spare)
    routes = {
        f"intent_{number:03}": {
            "agents": chain,
            "phrases": [{"phrase": f"subject{number:03}", "confidence": 0.95}],
            "fallback": {"agent": chain[-1], "answer": "Nobody could say."},
        }
        for number, chain in enumerate(chains)
    }
    return {"agents": {name: {} for name in names}, "routes": routes, "default_route": next(iter(routes))}
