"""The breaker processor: folds what partitions saw of each agent into the fleet's one breaker of it, and publishes it.

Counts are keyed by agent id, so that one worker alone writes an agent's breaker; the topic is its state.
I/O: Kafka, through the producer that it is given.
"""

from __future__ import annotations

import json
import random
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from schemas.ids import fact_id
from schemas.records import table
from streams.core.breaker import Changed, Event, HealthSeen, Phase, Policy, State, Tick, columns, step
from streams.core.breaker_book import Health
from streams.processors.outbox import Outbox, Sender
from streams.transport.telemetry import ERRORS, get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from schemas.codec import Codec
    from schemas.topology import Topology
    from streams.transport.batch import Batch
    from streams.transport.pauses import TopicPauses

log = get_logger("pointsman.breaker")

COMPONENT = "breaker"


class View(Protocol):
    """The part of streams.control.BreakerView that is read here."""

    def snapshot(self) -> Mapping[str, State]: ...


class _Owned(NamedTuple):
    """An agent whose counts came to this worker, and the partition of `control.health.v1` that they came by."""

    state: State
    partition: int


class BreakerProcessor:
    """Call `handle` with each batch of `control.health.v1`, `tick` a few times a second, `release` on revocation.

    All three produce and wait for nothing; what they raise must end the worker. `draw` gives numbers from 0 to 1.
    """

    def __init__(
        self,
        topology: Topology,
        codec: Codec,
        producer: Sender,
        view: View,
        draw: Callable[[], float] = random.random,
        pauses: TopicPauses | None = None,
    ) -> None:
        self._codec, self._producer, self._view, self._draw = codec, producer, view, draw
        self._outbox = Outbox(topology, codec, producer, pauses)
        self._topics, self._version, self._partitions = topology.topics(), topology.version, topology.partitions
        self._policies = {
            name: Policy(topology.breaker, write=agent.effect == "write") for name, agent in topology.agents.items()
        }
        self._owned: dict[str, _Owned] = {}

    def handle(self, batch: Batch, now_ms: int) -> None:
        """Folds a batch. What cannot be decoded is dead-lettered; counts of agents not in the topology are ignored."""
        decoded = self._codec.decode(batch.values, "HealthCounts")
        self._outbox.bury(batch, decoded.faults, COMPONENT)
        counts: dict[str, list[Health]] = {}
        sources: dict[str, int] = {}
        names, rest = (
            decoded.batch.column("agent_id").to_pylist(),
            [decoded.batch.column(name).to_pylist() for name in Health._fields],
        )
        for row, agent_id, *numbers in zip(decoded.rows.tolist(), names, *rest, strict=True):
            health = Health(*numbers)
            if min(health) < 0 or health.partition >= self._partitions:
                ERRORS.labels(component=COMPONENT).inc()
            elif agent_id in self._policies:
                counts.setdefault(agent_id, []).append(health)
                sources[agent_id] = int(batch.partitions[row])
        self._step({agent: (HealthSeen(tuple(seen)), sources[agent]) for agent, seen in counts.items()}, now_ms)

    def tick(self, now_ms: int) -> None:
        """Ends open times and moves overdue probes, of agents whose counts came to this worker."""
        self._step({agent: (Tick(), owned.partition) for agent, owned in self._owned.items()}, now_ms)

    def release(self, partitions: Iterable[int]) -> None:
        """Forgets the agents whose counts came by these partitions: another worker writes their breakers now."""
        gone = set(partitions)
        self._owned = {agent: owned for agent, owned in self._owned.items() if owned.partition not in gone}

    def _step(self, events: Mapping[str, tuple[Event, int]], now_ms: int) -> None:
        shown, changes = self._view.snapshot(), {}
        for agent_id, (event, partition) in events.items():
            before = self._reconciled(agent_id, shown.get(agent_id))
            after, changed = step(self._policies[agent_id], before, event, now_ms, self._draw())
            self._owned[agent_id] = _Owned(after, partition)
            if changed:
                changes[agent_id] = changed[-1]
        if changes:
            self._publish(changes, now_ms)

    def _reconciled(self, agent_id: str, shown: State | None) -> State:
        """What the topic says wins over what is held here, unless it only lags behind it: the topic is the state."""
        owned = self._owned.get(agent_id)
        if owned is None:
            return shown or State()
        held = owned.state
        if shown is None or shown.epoch < held.epoch or replace(shown, book=held.book) == held:
            return held
        return replace(shown, book=held.book.forget_outcomes(shown.epoch))

    def _publish(self, changes: Mapping[str, Changed], now_ms: int) -> None:
        states = {agent: change.after for agent, change in changes.items()}
        values = self._codec.encode(table("BreakerState", columns(states), len(states)), "BreakerState")
        self._producer.send(self._topics.breakers, 0, values, [agent.encode() for agent in states])
        for agent_id, change in changes.items():
            if change.before.phase is change.after.phase:
                continue  # probes moved: the breaker's own topic tells it
            log.info("breaker", agent=agent_id, state=change.after.phase, reason=change.cause, epoch=change.after.epoch)
            value, partition = self._event(agent_id, change, now_ms), self._owned[agent_id].partition
            self._producer.send(self._topics.orchestrator, partition, [value], [agent_id.encode()])

    def _event(self, agent_id: str, change: Changed, now_ms: int) -> bytes:
        after = change.after
        fields: dict[str, Any] = {
            "event_id": fact_id("BREAKER_CHANGED", agent_id, after.epoch, after.since_ms, change.cause),
            "kind": "BREAKER_CHANGED",
            "agent_id": agent_id,
            "reason": str(change.cause),
            "detail": json.dumps(_detail(change), separators=(",", ":")),
            "at": now_ms * 1000,
            "route_version": self._version,
        }
        return self._codec.encode(table("OrchestratorEvent", fields, 1), "OrchestratorEvent")[0]


def _detail(change: Changed) -> dict[str, Any]:
    before, after = change.before, change.after
    detail: dict[str, Any] = {"from": str(before.phase), "to": str(after.phase), "epoch": after.epoch}
    if after.phase is Phase.OPEN:
        detail |= {"until_ms": after.until_ms, "trips": after.trips}
    if after.phase is Phase.HALF_OPEN:
        detail["probe_partitions"] = list(after.probe_partitions)
    return detail
