"""Every topic name and key rule of a deployment: the one place where a topic string is built.

I/O: none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, Protocol

Cleanup = Literal["delete", "compact"]
Kind = Literal[
    "submitted",
    "inbox",
    "events",
    "results",
    "orchestrator",
    "dead",
    "spilled",
    "breakers",
    "cards",
    "health",
    "pauses",
    "memory",
    "snapshots",
]

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
SNAPSHOT_SEGMENT_BYTES = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """What `topics apply` creates. `record` names the Avro record; None where bytes are kept as they came.

    `replication` and `min_insync_replicas`: None leaves them to the broker. `kind` is the part that the topic plays in
    a deployment; None for one outside of any.
    """

    name: str
    record: str | None
    partitions: int
    cleanup: Cleanup
    retention_ms: int
    kind: Kind | None = None
    replication: int | None = None
    min_insync_replicas: int | None = None

    def config(self) -> dict[str, str]:
        """The topic's properties as Kafka names them: all that this project has an opinion on."""
        kept = "delete.retention.ms" if self.cleanup == "compact" else "retention.ms"
        stated = {
            "cleanup.policy": self.cleanup,
            kept: str(self.retention_ms),
            # Recovery looks positions up by append time.
            "message.timestamp.type": "LogAppendTime",
        }
        if self.kind == "snapshots":
            # Read whole by whoever takes an agent over: what is superseded must not lie there for a week.
            stated["segment.bytes"] = str(SNAPSHOT_SEGMENT_BYTES)
        if self.min_insync_replicas is not None:
            stated["min.insync.replicas"] = str(self.min_insync_replicas)
        return stated


class TopicSettings(Protocol):
    """The part of `schemas.topology.TopicPolicy` that decides how topics are made."""

    @property
    def replication(self) -> int | None: ...

    @property
    def min_insync_replicas(self) -> int | None: ...

    @property
    def tasks_retention_ms(self) -> int: ...

    @property
    def logs_retention_ms(self) -> int: ...


@dataclass(frozen=True, slots=True)
class _Usual:
    """What a topology says that says nothing of its topics."""

    replication: int | None = None
    min_insync_replicas: int | None = None
    tasks_retention_ms: int = 7 * DAY_MS
    logs_retention_ms: int = 30 * DAY_MS


@dataclass(frozen=True)
class Topics:
    """Names for one deployment: `prefix` is its trust domain, `agents` and `settings` come from the topology."""

    agents: tuple[str, ...]
    partitions: int
    prefix: str = ""
    settings: TopicSettings = _Usual()

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
    def spilled(self) -> str:
        return f"{self.prefix}tasks.spilled.v1"

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
    def pauses(self) -> str:
        return f"{self.prefix}control.pause.v1"

    @property
    def memory(self) -> str:
        return f"{self.prefix}control.memory.v1"

    @property
    def health(self) -> str:
        return f"{self.prefix}control.health.v1"

    @property
    def snapshots(self) -> str:
        return f"{self.prefix}agents.snapshots.v1"

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
        return self._specs

    @cached_property
    def _specs(self) -> tuple[TopicSpec, ...]:
        tasks, logs = self.settings.tasks_retention_ms, self.settings.logs_retention_ms
        return (
            self._spec(self.submitted, "submitted", "TaskSubmitted", tasks),
            *(self._spec(name, "inbox", "TaskDispatched", logs) for name in self.inboxes),
            *(self._spec(name, "events", "AgentEvent", logs) for name in self.logs),
            self._spec(self.results, "results", "TaskResult", tasks),
            replace(self._spec(self.snapshots, "snapshots", None, DAY_MS, compacted=True), partitions=self.partitions),
            self._spec(self.orchestrator, "orchestrator", "OrchestratorEvent", logs),
            self._spec(self.dead, "dead", None, logs),
            self._spec(self.spilled, "spilled", "TaskSpilled", DAY_MS, compacted=True),
            self._spec(self.breakers, "breakers", "BreakerState", DAY_MS, compacted=True),
            self._spec(self.cards, "cards", "AgentCard", DAY_MS, compacted=True),
            self._spec(self.pauses, "pauses", "PauseState", DAY_MS, compacted=True),
            self._spec(self.memory, "memory", "MemoryDirective", DAY_MS, compacted=True),
            self._spec(self.health, "health", "HealthCounts", HOUR_MS),
        )

    def _spec(
        self, name: str, kind: Kind, record: str | None, retention_ms: int, *, compacted: bool = False
    ) -> TopicSpec:
        cleanup: Cleanup = "compact" if compacted else "delete"
        # What the owners of tasks' partitions keep is theirs by number; what everybody knows stands in one place.
        partitions = 1 if compacted and kind != "spilled" else self.partitions
        replicas = (self.settings.replication, self.settings.min_insync_replicas)
        return TopicSpec(name, record, partitions, cleanup, retention_ms, kind, *replicas)

    def record_of(self, topic: str) -> str | None:
        """The Avro record that `topic` carries; None for the dead topic and for foreign names."""
        return self._records.get(topic)

    @cached_property
    def _records(self) -> dict[str, str | None]:
        return {spec.name: spec.record for spec in self.specs()}
