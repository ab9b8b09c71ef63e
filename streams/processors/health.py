"""Tells the fleet's breakers what one partition saw of each agent.

I/O: Kafka, through the producer that it is given.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

from schemas.codec import Codec
from schemas.records import table
from streams.core.health import Counts
from streams.processors.outbox import Sender


class HealthReport:
    """Keyed by agent and without a partition: the key's hash makes one worker the reader of all counts of an agent."""

    def __init__(self, topic: str, codec: Codec, producer: Sender) -> None:
        self._topic, self._codec, self._producer = topic, codec, producer

    def send(self, partition: int, counts: Mapping[str, Counts], now_ms: int) -> None:
        """The counts since the last call; `now_ms` is their window's id. Raises DeliveryError."""
        if not counts:
            return
        fields = [asdict(each) for each in counts.values()]
        columns = {name: [each[name] for each in fields] for name in fields[0]}
        agents = list(counts)
        batch = table(
            "HealthCounts",
            {**columns, "agent_id": agents, "partition": partition, "window_id": now_ms},
            len(agents),
        )
        for agent_id, value in zip(agents, self._codec.encode(batch, "HealthCounts"), strict=True):
            self._producer.send_one(self._topic, value, agent_id.encode())
