"""Puts records away that nobody can take: key and value as they came, in their own partition number, with their origin.

I/O: Kafka, through the producer that it is given.
"""

from __future__ import annotations

from collections.abc import Iterable

from schemas.codec import DecodeFault
from schemas.deadletter import Origin, burial
from schemas.topics import Topics
from streams.transport.batch import Batch
from streams.transport.producer import SendsOne
from streams.transport.telemetry import DEAD_LETTERS


def bury(producer: SendsOne, topics: Topics, batch: Batch, faults: Iterable[DecodeFault], component: str) -> None:
    """The rows of the batch that the faults name go to the dead topic. Raises DeliveryError."""
    for fault in faults:
        topic, partition = batch.topics[fault.row], int(batch.partitions[fault.row])
        origin = Origin(topic, partition, int(batch.offsets[fault.row]), int(batch.timestamps_ms[fault.row]))
        value, key = batch.values[fault.row], batch.keys[fault.row]
        own = batch.headers[fault.row] if batch.headers is not None else ()
        letter = burial(value, key, origin, fault.reason, fault.detail, component, own)
        where = partition % topics.partitions  # a topic that left this topology may have had more
        producer.send_one(topics.dead, letter.value, letter.key, where, letter.headers)
        DEAD_LETTERS.labels(topic=topic, reason=fault.reason.value).inc()
