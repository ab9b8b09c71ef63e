"""What rests for the whole fleet: topics of which too much has to be put away, topics and agents that people pause.

`control.pause.v1` is the state: it is read to its end before anything else is read, so a restart changes nothing. What
a process pauses itself rests at once here, and everywhere as soon as the others have read it. I/O: Kafka, through the
producer and the view.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from schemas.codec import Codec
from schemas.dead_share import DeadShares, Exceeded
from schemas.ids import fact_id
from schemas.reasons import PauseReason
from schemas.records import table
from schemas.topology import Topology
from streams.transport.batch import Batch
from streams.transport.clients import BrokerSettings, client_config
from streams.transport.compacted import CompactedView
from streams.transport.producer import Sends
from streams.transport.telemetry import AGENT_PAUSED, TOPIC_PAUSED, get_logger

log = get_logger("pointsman.pauses")

AT_MAX = 1 << 62
SCOPE = "topic:"
AGENT = "agent:"


class Pause(NamedTuple):
    """Whether a topic or an agent rests, why, since when (microseconds), who said so, and what they said of it.

    `scope` is `topic:NAME` or `agent:NAME`; `reason` is a code, `note` a person's words.
    """

    scope: str
    paused: bool
    reason: str
    at: int
    by: str = ""
    note: str = ""

    @property
    def name(self) -> str:
        """Of the topic or the agent."""
        return self.scope.partition(":")[2]

    @property
    def is_retired(self) -> bool:
        return self.paused and self.reason == PauseReason.RETIRED


class Shown(Protocol):
    """The part of PauseView that is used here."""

    @property
    def version(self) -> int: ...

    def snapshot(self) -> Mapping[str, Pause]: ...


class PauseView(CompactedView[Pause]):
    """The scopes of `control.pause.v1`, by name. `codec` is this view's own: it is used in its thread."""

    def __init__(self, settings: BrokerSettings, topology: Topology, codec: Codec) -> None:
        config = client_config(settings, topology, "consumer", name="pointsman-pause-view")
        super().__init__(config, topology.topics().pauses, lambda values: _pauses(codec, values))


def _pauses(codec: Codec, values: Sequence[bytes]) -> list[Pause | None]:
    decoded = codec.decode(values, "PauseState")
    found: list[Pause | None] = [None] * len(values)
    for row, fields in zip(decoded.rows.tolist(), decoded.batch.to_pylist(), strict=True):
        # The next one is said to be later: a time that leaves no room for one is nobody's.
        found[row] = Pause(*(fields[name] for name in Pause._fields)) if fields["at"] <= AT_MAX else None
    return found


class TopicPauses:
    """What rests, as one process knows it. All methods are for one thread; `saw` and `publish` raise DeliveryError."""

    def __init__(
        self, topology: Topology, codec: Codec, producer: Sends, view: Shown, clock_us: Callable[[], int] | None = None
    ) -> None:
        limits = topology.limits
        self._topics, self._version = topology.topics(), topology.version
        self._codec, self._producer, self._view = codec, producer, view
        self._shares = DeadShares(limits.dead_records_min, limits.dead_share_max)
        self._clock_us = clock_us or (lambda: time.time_ns() // 1_000)
        # Paused here, and not to be seen in the view yet.
        self._own: dict[str, Pause] = {}
        self._seen_version = -1
        self._resting: frozenset[str] = frozenset()
        self._agents: frozenset[str] = frozenset()

    @property
    def agents(self) -> frozenset[str]:
        """The agents that are not to be asked now."""
        _ = self.resting  # looks whether the view has changed
        return self._agents

    @property
    def resting(self) -> frozenset[str]:
        """The topics that are not to be read now."""
        version = self._view.version  # before the snapshot: no change is missed
        if version != self._seen_version:
            self._seen_version = version
            self._settle(self._view.snapshot())
        return self._resting

    def saw(self, batch: Batch, bad_rows: Iterable[int]) -> None:
        """A batch was read, and these of its rows were put away. Pauses a topic of which that is too many."""
        dead = Counter(batch.topics[row] for row in bad_rows)
        if not dead and self._shares.is_idle:
            return
        names = {topic for topic, _ in batch.ends}
        read = {next(iter(names)): len(batch)} if len(names) == 1 else Counter(batch.topics)
        for exceeded in self._shares.seen(read, dead):
            self._pause(exceeded, min(number for topic, number in batch.ends if topic == exceeded.topic))

    def _pause(self, exceeded: Exceeded, partition: int) -> None:
        topic = exceeded.topic
        self._shares.forget(topic)
        if topic in self.resting:
            return
        before = self._view.snapshot().get(SCOPE + topic)
        at = max(self._clock_us(), before.at + 1 if before else 0)  # clocks differ
        pause = Pause(SCOPE + topic, True, PauseReason.DEAD_SHARE, at, f"{socket.gethostname()}-{os.getpid()}")
        self._own[topic] = pause
        self._settle(self._view.snapshot())
        log.error(
            "a topic is paused: too many of its records cannot be taken; `pointsman topics resume` lets it go on",
            topic=topic,
            read=exceeded.read,
            dead=exceeded.dead,
        )
        self.publish(pause, partition, {"read": exceeded.read, "dead": exceeded.dead})

    def publish(self, pause: Pause, partition: int, detail: Mapping[str, int]) -> None:
        """Says it to the fleet and to the history."""
        publish(self._producer, self._codec, self._topics.pauses, [pause])
        event = event_of(self._codec, pause, self._version, detail)
        self._producer.send(self._topics.orchestrator, partition, [event], [pause.name.encode()])

    def _settle(self, shown: Mapping[str, Pause]) -> None:
        """The view is the state, but for what was paused here and has not come back to us yet."""
        for scope, pause in shown.items():
            own = self._own.get(pause.name)
            if own is not None and scope == own.scope and pause.at >= own.at:
                del self._own[pause.name]
        of_fleet = {pause.name for scope, pause in shown.items() if scope.startswith(SCOPE) and pause.paused}
        resting = frozenset(of_fleet | self._own.keys())
        for topic in self._resting ^ resting:
            TOPIC_PAUSED.labels(topic=topic).set(topic in resting)
            self._shares.forget(topic)  # whoever let it go on has looked at it
        if gone := self._resting - resting:
            log.warning("reading goes on", topics=sorted(gone))
        if new := resting - self._resting - self._own.keys():
            log.warning("topics are paused: they are not read", topics=sorted(new))
        self._resting = resting
        self._settle_agents({pause.name: pause for scope, pause in shown.items() if scope.startswith(AGENT)})

    def _settle_agents(self, shown: Mapping[str, Pause]) -> None:
        agents = frozenset(name for name, pause in shown.items() if pause.paused)
        for name in agents ^ self._agents:
            AGENT_PAUSED.labels(agent=name).set(name in agents)
            told = {} if name not in shown else {"reason": shown[name].reason, "by": shown[name].by}
            log.warning("an agent is not asked" if name in agents else "an agent is asked again", agent=name, **told)
        self._agents = agents


def publish(producer: Sends, codec: Codec, topic: str, pauses: Sequence[Pause]) -> None:
    """The states to the topic of pauses. Raises DeliveryError."""
    columns: dict[str, Any] = {
        **{name: [getattr(each, name) for each in pauses] for name in ("scope", "paused", "by", "at", "note")},
        "reason": [str(each.reason) for each in pauses],
    }
    values = codec.encode(table("PauseState", columns, len(pauses)), "PauseState")
    producer.send(topic, 0, values, [each.scope.encode() for each in pauses])


def event_of(codec: Codec, pause: Pause, version: str, detail: Mapping[str, int]) -> bytes:
    """The orchestrator's event that tells of it."""
    is_agent = pause.scope.startswith(AGENT)
    told = {"agent" if is_agent else "topic": pause.name, "paused": pause.paused, "by": pause.by, **detail}
    if pause.note:
        told["note"] = pause.note
    fields: dict[str, Any] = {
        "event_id": fact_id("PAUSE_CHANGED", pause.name, pause.at, pause.by, pause.reason),
        "agent_id": pause.name if is_agent else None,
        "kind": "PAUSE_CHANGED",
        "reason": str(pause.reason),
        "detail": json.dumps(told, separators=(",", ":")),
        "at": pause.at,
        "route_version": version,
    }
    return codec.encode(table("OrchestratorEvent", fields, 1), "OrchestratorEvent")[0]
