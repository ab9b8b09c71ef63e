"""Records put on the dead topic as the processes put them there, for tests of what is done about them.

I/O: Kafka.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from schemas.codec import DecodeFault
from schemas.reasons import DeadReason
from schemas.settings import Settings
from schemas.topology import Topology
from streams.transport.admin import ensure_topics
from streams.transport.batch import Batch, Headers
from streams.transport.clients import client_config
from streams.transport.deadletters import bury
from streams.transport.producer import Producer


def put_away(
    broker: str,
    topology: Topology,
    topic: str,
    records: Sequence[tuple[bytes | None, bytes | None]],
    *,
    reason: DeadReason = DeadReason.UNKNOWN_SCHEMA,
    partition: int = 0,
    first_offset: int = 0,
    headers: Headers | None = None,
) -> None:
    """Keys and values, as if they had stood at these offsets of a partition and nobody could take them."""
    settings, topics = Settings(broker=broker), topology.topics()
    ensure_topics(settings, topics.specs())
    producer = Producer(client_config(settings, topology, "producer"))
    offsets = np.arange(first_offset, first_offset + len(records))
    batch = Batch(
        channel=topic,
        values=[value for _, value in records],
        keys=[key for key, _ in records],
        topics=[topic] * len(records),
        partitions=np.full(len(records), partition, np.int32),
        offsets=offsets,
        timestamps_ms=np.full(len(records), 1_700_000_000_000, np.int64),
        headers=None if headers is None else [headers] * len(records),
        ends={(topic, partition): int(offsets[-1])},
    )
    bury(
        producer, topics, batch, [DecodeFault(row, reason, "as a test has it") for row in range(len(records))], "router"
    )
    assert producer.drained(30)
    producer.close()


def submission(task_id: str, **fields: Any) -> tuple[bytes, bytes]:
    """Key and value of a task, as JSON."""
    return task_id.encode(), json.dumps({"task_id": task_id, "text": "what is the revenue?", **fields}).encode()
