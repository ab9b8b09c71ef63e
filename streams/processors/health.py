"""Tells the fleet's breakers what one partition saw of each agent.

I/O: Kafka, through the producer that it is given.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from schemas.codec import Codec
from schemas.topics import Topics
from streams.core.health import Counts
from streams.processors.outbox import Sender
from streams.transport.partitioner import partition_of

_COUNTS = tuple(field.name for field in fields(Counts))


class HealthReport:
    """Keyed by agent, in the key's partition: its hash makes one worker the reader of all counts of an agent."""

    def __init__(self, topics: Topics, codec: Codec, producer: Sender) -> None:
        self._topics, self._codec, self._producer = topics, codec, producer

    def send(self, partition: int, counts: Mapping[str, Counts], now_ms: int) -> None:
        """The counts since the last call; `now_ms` is their window's id. Raises DeliveryError."""
        if not counts:
            return
        columns: dict[str, Any] = {name: [getattr(each, name) for each in counts.values()] for name in _COUNTS}
        agents = list(counts)
        columns |= {"agent_id": agents, "partition": partition, "window_id": now_ms}
        values = self._codec.encode_values(columns, len(agents), "HealthCounts")
        for agent_id, value in zip(agents, values, strict=True):
            key = agent_id.encode()
            self._producer.send_one(self._topics.health, value, key, partition_of(key, self._topics.partitions))
