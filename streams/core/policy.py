"""The routing policy in force: the topology, compiled into what decisions look up.

I/O: none.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas.tenants import TenantDefaults
from schemas.topology import Topology
from streams.core.consensus import log_odds
from streams.core.intents import PhraseRules


class RoutePolicy(NamedTuple):
    """One intent. `chain` is who may answer, in order, the fallback agent last; `voters` may sit in a panel.

    `deadline_ms` is None where the route leaves it to the defaults of the task's tenant.
    """

    intent: str
    agents: tuple[str, ...]
    voters: tuple[str, ...]
    chain: tuple[str, ...]
    fallback_agent: str | None
    fallback_answer: str | None
    low_value_answer: str | None
    deadline_ms: int | None


class AgentPolicy(NamedTuple):
    timeout_ms: int
    write: bool
    grounded: bool
    confidence_when_unstated: float
    weight: float


NO_AGENT = AgentPolicy(
    timeout_ms=5_000, write=False, grounded=False, confidence_when_unstated=0.0, weight=log_odds(0.5)
)
"""Stands for an agent that left the topology while a task was on its way to it."""


@dataclass(frozen=True)
class AgentColumns:
    """All agents of a policy, a value for each."""

    names: pa.StringArray
    confidence_when_unstated: npt.NDArray[np.float64]
    grounded: npt.NDArray[np.bool_]
    weights: npt.NDArray[np.float64]


@dataclass(frozen=True)
class Policy:
    """Frozen for the life of a cell; a changed topology makes a new one with another `version`."""

    topology: Topology
    routes: dict[str, RoutePolicy]
    agents: dict[str, AgentPolicy]
    rules: PhraseRules
    defaults: TenantDefaults

    @classmethod
    def compile(cls, topology: Topology) -> Policy:
        agents = {
            name: AgentPolicy(
                timeout_ms=agent.timeout_ms,
                write=agent.effect == "write",
                grounded=agent.grounded,
                confidence_when_unstated=agent.confidence_when_unstated,
                weight=log_odds(agent.accuracy),
            )
            for name, agent in topology.agents.items()
        }
        routes = {intent: _route(topology, intent) for intent in topology.routes}
        return cls(topology, routes, agents, PhraseRules.compile(topology), TenantDefaults(topology))

    @cached_property
    def version(self) -> str:
        return self.topology.version

    @cached_property
    def intents(self) -> pa.StringArray:
        """The routes' names, in their order."""
        return pa.array(self.routes, pa.string())

    @cached_property
    def agent_columns(self) -> AgentColumns:
        agents = self.agents.values()
        return AgentColumns(
            names=pa.array(self.agents, pa.string()),
            confidence_when_unstated=np.array([each.confidence_when_unstated for each in agents], np.float64),
            grounded=np.array([each.grounded for each in agents], np.bool_),
            weights=np.array([each.weight for each in agents], np.float64),
        )

    def agent(self, agent_id: str) -> AgentPolicy:
        return self.agents.get(agent_id, NO_AGENT)

    def route(self, intent: str) -> RoutePolicy:
        """The route of `intent`; one without agents or fallback where the topology no longer has it."""
        found = self.routes.get(intent)
        return RoutePolicy(intent, (), (), (), None, None, None, None) if found is None else found


def _route(topology: Topology, intent: str) -> RoutePolicy:
    route = topology.routes[intent]
    return RoutePolicy(
        intent=intent,
        agents=route.agents,
        voters=topology.voters(intent),
        chain=route.plan,
        fallback_agent=route.fallback.agent,
        fallback_answer=route.fallback.answer,
        low_value_answer=route.low_value_answer,
        deadline_ms=route.deadline_ms,
    )
