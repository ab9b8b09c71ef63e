"""What a deployment's topics need against what the broker has: to create, to change, left as they are, left over.

A plan never deletes a topic, moves a replica or changes a partition count. I/O: none.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from schemas.topics import Topics, TopicSpec

Action = Literal["create", "change", "unchanged", "refused", "left over"]

COPIES_WANTED = 3  # of a cluster that has so many brokers


@dataclass(frozen=True, slots=True)
class TopicState:
    """A topic as the broker has it. `config` holds all its properties, those by default too."""

    partitions: int
    replication: int
    config: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ClusterState:
    """The brokers' number, their default replication (None where it may not be seen), and the topics by name."""

    brokers: int
    default_replication: int | None
    topics: Mapping[str, TopicState]


class Change(NamedTuple):
    """A property that differs; `now` is None where the broker does not state it."""

    key: str
    now: str | None
    wanted: str


@dataclass(frozen=True, slots=True)
class Step:
    """What has to be done about one topic. `spec` is None for a topic that no longer belongs to the deployment."""

    topic: str
    action: Action
    spec: TopicSpec | None
    state: TopicState | None
    changes: tuple[Change, ...] = ()
    why: str = ""

    @property
    def partitions(self) -> int:
        """As they are, or will be."""
        return self.state.partitions if self.state else self.spec.partitions if self.spec else 0


@dataclass(frozen=True, slots=True)
class Plan:
    """Steps in the order of the flow, and what a person should know before they are taken."""

    steps: tuple[Step, ...]
    warnings: tuple[str, ...]
    default_replication: int | None = None

    def of(self, *actions: Action) -> tuple[Step, ...]:
        return tuple(step for step in self.steps if step.action in actions)

    @property
    def own(self) -> tuple[Step, ...]:
        """Steps about topics that the deployment needs."""
        return tuple(step for step in self.steps if step.spec is not None)

    def replication(self, step: Step) -> int | None:
        """Copies of each partition as they are, or will be; None where only the broker knows."""
        if step.state is not None:
            return step.state.replication
        return step.spec.replication if step.spec and step.spec.replication else self.default_replication

    def replicas(self) -> int | None:
        """Partitions times copies over all topics of the deployment; None where only the broker knows."""
        counts = [(step.partitions, self.replication(step)) for step in self.own]
        known = [partitions * copies for partitions, copies in counts if copies is not None]
        return sum(known) if len(known) == len(counts) else None


def plan_topics(topics: Topics, cluster: ClusterState) -> Plan:
    """Compares every topic of the deployment, and those of agents that have left it."""
    specs = topics.specs()
    told = topics.of_any_agent(cluster.topics)
    gone = [name for name in (*told.inboxes, *told.logs) if name in cluster.topics and topics.record_of(name) is None]
    steps = (
        *compare(specs, cluster.topics),
        *(Step(name, "left over", None, cluster.topics[name], why="its agent left") for name in gone),
    )
    return Plan(steps, tuple(_warnings(specs, steps, cluster)), cluster.default_replication)


def compare(specs: Iterable[TopicSpec], existing: Mapping[str, TopicState]) -> Iterator[Step]:
    """One step for each topic that is wanted."""
    for spec in specs:
        state = existing.get(spec.name)
        if state is None:
            yield Step(spec.name, "create", spec, None)
        elif state.partitions != spec.partitions:
            why = f"has {state.partitions} partitions, topology says {spec.partitions}"
            yield Step(spec.name, "refused", spec, state, why=why)
        else:
            changes = tuple(
                Change(key, state.config.get(key), wanted)
                for key, wanted in spec.config().items()
                if state.config.get(key) != wanted
            )
            yield Step(spec.name, "change" if changes else "unchanged", spec, state, changes)


def _warnings(specs: tuple[TopicSpec, ...], steps: tuple[Step, ...], cluster: ClusterState) -> Iterator[str]:
    plan = Plan(steps, (), cluster.default_replication)
    single = [step.topic for step in plan.own if plan.replication(step) == 1]
    if single and cluster.brokers >= COPIES_WANTED:
        yield (
            f"{len(single)} of {len(specs)} topics have one copy on a cluster of {cluster.brokers} brokers: what a "
            "broker loses is lost. Set topic_policy.replication: 3 and min_insync_replicas: 2 in the topology."
        )
    other = [
        f"{step.topic} has {step.state.replication}"
        for step in plan.own
        if step.state and step.spec and step.spec.replication not in (None, step.state.replication)
    ]
    if other:
        yield (
            f"Copies differ from topic_policy.replication and are not moved ({_few(other)}): move them with "
            "kafka-reassign-partitions, or as your cluster's operator does it."
        )
    stamped = [step.topic for step in plan.own for change in step.changes if change.key == "message.timestamp.type"]
    if stamped:
        yield (
            f"Records that are there keep their producers' time, by which recovery looks them up ({_few(stamped)}): "
            "change this before the first task, or let all tasks finish first."
        )
    yield from _fragile(specs)


def _fragile(specs: tuple[TopicSpec, ...]) -> Iterator[str]:
    copies, needed = specs[0].replication, specs[0].min_insync_replicas
    if copies is not None and needed is not None and copies > 1 and needed == copies:
        yield (
            f"min_insync_replicas is replication, {copies}: with one broker down nothing can be written. "
            f"Set it to {copies - 1}."
        )


def _few(names: list[str], most: int = 3) -> str:
    more = f", and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
