"""Records that are none, on every topic of a deployment: made out of real ones by a seeded hand.

Each is held against the codec before it is sent, so that nothing goes out that anybody could take for a record. What
was sent where is kept: all of it has to come to the dead topic. I/O: Kafka.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import confluent_kafka as ck

from loadtest.audit_log import Place
from schemas.admission import admit
from schemas.codec import Codec
from schemas.registry import FileRegistry
from schemas.settings import Settings
from schemas.topics import TopicSpec
from schemas.topology import Topology
from streams.transport.clients import ConnectionWatch, client_config, opened
from streams.transport.consumer import BatchConsumer

TRIES_MAX = 50
FLUSH_S = 10.0
SAMPLES_MAX = 20
UNKNOWN_SCHEMA = b"\0" + (2**31 - 1).to_bytes(4, "big")


class Corrupter:
    """`places`: where what was sent lies, as far as the broker has said."""

    def __init__(self, settings: Settings, topology: Topology) -> None:
        self._settings, self._topology = settings, topology
        self._codec = Codec(FileRegistry.load(), topology.limits.record_bytes_max)
        self._producer: ck.Producer | None = None
        self.places: set[Place] = set()
        self.sent = 0

    def send(self, count: int, draw: random.Random) -> None:
        """`count` of them to each topic that carries records for a group to read, to partitions by the seed."""
        if self._producer is None:
            config = client_config(self._settings, self._topology, "producer", name="pointsman-chaos-corrupt")
            self._producer = opened(ck.Producer, config, ConnectionWatch("chaos-corrupt"))
        specs = [spec for spec in self._topology.topics().specs() if spec.record is not None and spec.kind != "spilled"]
        samples = self._samples(specs)
        for spec in specs:
            for _ in range(count):
                key, value = self._no_record(spec, samples.get(spec.name, []), draw)
                partition = draw.randrange(spec.partitions)
                self._producer.produce(
                    spec.name, value=value, key=key, partition=partition, on_delivery=self._delivered
                )
                self.sent += 1
        self._producer.flush(FLUSH_S)

    def finish(self, timeout_s: float) -> int:
        """Waits for what is not delivered yet; gives how many never were."""
        if self._producer is not None:
            self._producer.flush(timeout_s)
        return self.sent - len(self.places)

    def _delivered(self, error: ck.KafkaError | None, message: ck.Message) -> None:
        if error is None:
            self.places.add((message.topic() or "", message.partition() or 0, message.offset() or 0))

    def _samples(self, specs: list[TopicSpec]) -> dict[str, list[tuple[bytes | None, bytes]]]:
        """Keys and values of each topic's latest records."""
        config = client_config(self._settings, self._topology, "consumer", name="pointsman-chaos-corrupt")
        consumer = BatchConsumer(config, str, rows_max=1_000, bytes_max=2**22, poll_s=0.05)
        try:
            ends = {tp: high for tp, (_, high) in consumer.watermarks(_tps(specs)).items()}
            starts = {tp: max(0, end - SAMPLES_MAX) for tp, end in ends.items()}
            found: dict[str, list[tuple[bytes | None, bytes]]] = {}
            for batch in consumer.read_to_end(starts, ends):
                for topic, key, value in zip(batch.topics, batch.keys, batch.values, strict=True):
                    if value:
                        found.setdefault(topic, []).append((key, value))
            return found
        finally:
            consumer.close(1.0)

    def _no_record(
        self, spec: TopicSpec, samples: list[tuple[bytes | None, bytes]], draw: random.Random
    ) -> tuple[bytes | None, bytes | None]:
        for _ in range(TRIES_MAX):
            key, value = draw.choice(samples) if samples else (b"chaos", draw.randbytes(40))
            broken = mutated(value, draw)
            # A compacted topic keeps the latest of each key, and must keep it: the key is one that nobody has.
            own_key = draw.randbytes(6).hex().encode() if spec.cleanup == "compact" else key
            if self._is_none(spec, own_key, broken):
                return own_key, broken
        return b"chaos", b"\xff no record"

    def _is_none(self, spec: TopicSpec, key: bytes | None, value: bytes | None) -> bool:
        if value is None and spec.cleanup == "compact":
            return False  # there it is a deletion
        assert spec.record is not None
        return bool(admit(self._codec, spec.record, [value], [key]).faults)


def mutated(value: bytes, draw: random.Random) -> bytes | None:
    """The record, broken in one of many ways."""
    match draw.randrange(8):
        case 0:
            return None
        case 1:
            return b""
        case 2:
            return value[: draw.randrange(1, max(2, len(value)))]
        case 3:
            return UNKNOWN_SCHEMA + value[5:]
        case 4:
            return draw.randbytes(draw.randrange(1, 200))
        case 5:
            return b'{"task_id": ' + draw.randbytes(8)
        case 6:
            return value[:5] + b"\xff" * draw.randrange(1, 60)  # lengths beyond all bounds
        case _:
            return _with_flipped_bits(value, draw)


def _with_flipped_bits(value: bytes, draw: random.Random) -> bytes:
    broken = bytearray(value)
    for _ in range(draw.randrange(1, 9)):
        at = draw.randrange(len(broken))
        broken[at] ^= 1 << draw.randrange(8)
    return bytes(broken)


def _tps(specs: list[TopicSpec]) -> Iterator[tuple[str, int]]:
    return ((spec.name, number) for spec in specs for number in range(spec.partitions))
