"""Every topic name and key rule of a deployment: the one place where a topic string is built.

I/O: none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

Cleanup = Literal["delete", "compact"]

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """What `topics apply` creates. `record` names the Avro record; None where bytes are kept as they came."""

    name: str
    record: str | None
    partitions: int
    cleanup: Cleanup
    retention_ms: int


@dataclass(frozen=True)
class Topics:
    """Names for one deployment: `prefix` is its trust domain, `agents` come from the topology."""

    agents: tuple[str, ...]
    partitions: int
    prefix: str = ""

    @property
    def submitted(self) -> str:
        return f"{self.prefix}tasks.submitted.v1"

    @property
    def results(self) -> str:
        return f"{self.prefix}tasks.results.v1"

    @property
    def dead(self) -> str:
        return f"{self.prefix}tasks.dead.v1"

    @property
    def orchestrator(self) -> str:
        return f"{self.prefix}orchestrator.events.v1"

    @property
    def breakers(self) -> str:
        return f"{self.prefix}control.breakers.v1"

    @property
    def cards(self) -> str:
        return f"{self.prefix}control.agents.v1"

    @property
    def health(self) -> str:
        return f"{self.prefix}control.health.v1"

    def inbox(self, agent_id: str) -> str:
        return f"{self.prefix}agents.{agent_id}.inbox.v1"

    def events(self, agent_id: str) -> str:
        return f"{self.prefix}agents.{agent_id}.events.v1"

    @property
    def inboxes(self) -> tuple[str, ...]:
        return tuple(self.inbox(agent) for agent in self.agents)

    @property
    def logs(self) -> tuple[str, ...]:
        return tuple(self.events(agent) for agent in self.agents)

    def of_any_agent(self, names: Iterable[str]) -> Topics:
        """The same deployment with every agent whose inbox or log is among the names: agents that left it, too."""
        pattern = re.compile(rf"{re.escape(self.prefix)}agents\.([^.]+)\.(?:inbox|events)\.v1")
        found = {match[1] for match in map(pattern.fullmatch, names) if match}
        return replace(self, agents=(*self.agents, *sorted(found - set(self.agents))))

    def specs(self) -> tuple[TopicSpec, ...]:
        """All topics of the deployment, in the order in which records flow through them."""
        n = self.partitions
        return (
            TopicSpec(self.submitted, "TaskSubmitted", n, "delete", 7 * DAY_MS),
            *(TopicSpec(name, "TaskDispatched", n, "delete", 30 * DAY_MS) for name in self.inboxes),
            *(TopicSpec(name, "AgentEvent", n, "delete", 30 * DAY_MS) for name in self.logs),
            TopicSpec(self.results, "TaskResult", n, "delete", 7 * DAY_MS),
            TopicSpec(self.orchestrator, "OrchestratorEvent", n, "delete", 30 * DAY_MS),
            TopicSpec(self.dead, None, n, "delete", 30 * DAY_MS),
            TopicSpec(self.breakers, "BreakerState", 1, "compact", DAY_MS),
            TopicSpec(self.cards, "AgentCard", 1, "compact", DAY_MS),
            TopicSpec(self.health, "HealthCounts", n, "delete", HOUR_MS),
        )

    def record_of(self, topic: str) -> str | None:
        """The Avro record that `topic` carries; None for the dead topic and for foreign names."""
        return self._records.get(topic)

    @cached_property
    def _records(self) -> dict[str, str | None]:
        return {spec.name: spec.record for spec in self.specs()}
