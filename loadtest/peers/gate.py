"""The Kafka side of a run: topics filled behind a gate, what a peer wrote, how far it got.

The records that are measured are written in a transaction while the peer is at rest; committing it opens the gate, and
all of them are there at once. So no peer is measured while it starts, compiles or fetches ahead. I/O: Kafka.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from types import TracebackType
from typing import Any, Self

import confluent_kafka as ck

from loadtest.peers.judge import Place, Written
from schemas.settings import Settings
from schemas.topology import Topology
from streams.client import Prepared
from streams.transport.admin import delete_topics, ensure_topics
from streams.transport.clients import client_config
from streams.transport.consumer import BatchConsumer
from streams.transport.producer import Producer
from streams.transport.topic_admin import TopicAdmin

ROWS_MAX = 20_000
BYTES_MAX = 64 * 1024 * 1024
TIMEOUT_S = 120.0
POLL_S = 0.05

Submitted = Mapping[int, Sequence[Written]]
"""Keys and values of the submissions of each partition, in order."""


class Stage:
    """The topics of one run, on a broker that others share: a prefix of its own, gone when it is closed."""

    def __init__(self, settings: Settings, topology: Topology) -> None:
        self._settings, self._topology = settings, topology
        self._topics = topology.topics()
        self._specs = self._topics.specs()
        self.outputs = (*self._topics.inboxes, self._topics.results, self._topics.orchestrator)
        ensure_topics(settings, self._specs, topology)
        config = client_config(settings, topology, "consumer", fetch="bulk", name="peers-judge")
        self._reader = BatchConsumer(config, str, rows_max=ROWS_MAX, bytes_max=BYTES_MAX, poll_s=POLL_S)
        self._places = self._reader.partitions_of(self.outputs)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._reader.close()
        delete_topics(self._settings, [spec.name for spec in self._specs], self._topology)

    # ------------------------------------------------------------------ in

    def fill(self, batches: Iterable[Prepared]) -> None:
        """Writes submissions wherever their keys belong."""
        producer = Producer(client_config(self._settings, self._topology, "producer", name="peers-fill"))
        try:
            for batch in batches:
                producer.send(self._topics.submitted, -1, batch.values, batch.keys)
            producer.flush(TIMEOUT_S)
        finally:
            producer.close()

    def copy(self, submitted: Submitted, *, behind_a_gate: bool) -> Callable[[], None]:
        """Writes these records again, each into its partition; nobody sees them before the answer is called."""
        config = client_config(self._settings, self._topology, "producer", name="peers-fill")
        config |= {"transactional.id": f"{self._topology.prefix}fill", "transaction.timeout.ms": int(TIMEOUT_S * 1000)}
        producer = ck.Producer(config)
        producer.init_transactions(TIMEOUT_S)
        producer.begin_transaction()
        for partition, records in submitted.items():
            rows = iter([{"key": key, "value": value} for key, value in records])
            while part := list(islice(rows, ROWS_MAX)):
                if producer.produce_batch(self._topics.submitted, part, partition=partition) != len(part):
                    raise BufferError("the producer's queue is smaller than a part")
                if producer.flush(TIMEOUT_S):
                    raise TimeoutError("the broker does not take the submissions")

        def open_gate() -> None:
            producer.commit_transaction(TIMEOUT_S)

        if not behind_a_gate:
            open_gate()
        return open_gate

    def submitted(self) -> Submitted:
        """What stands in the topic of submissions."""
        found, _last_ms = self._read([self._topics.submitted])
        return {partition: records for (_topic, partition), records in sorted(found.items())}

    # ------------------------------------------------------------------ out

    def written(self) -> int:
        """How many records stand in the output topics; exact where nobody writes in transactions."""
        return sum(high - low for low, high in self._reader.watermarks(self._places).values())

    def read_back(self) -> tuple[dict[Place, list[Written]], int]:
        """All output in order, and when the last of it was appended (ms)."""
        return self._read(self.outputs)

    def committed(self, group: str) -> bool:
        """Whether the group's positions stand behind the last submission of each partition."""
        marks = self._reader.watermarks(self._reader.partitions_of([self._topics.submitted]))
        positions = TopicAdmin(self._settings, self._topology).positions(group)
        # The last record of each is followed by the marker of its transaction.
        return all(positions.get((tp.topic, tp.partition), -1) >= high - 1 for tp, (_low, high) in marks.items())

    def _read(self, topics: Iterable[str]) -> tuple[dict[Place, list[Written]], int]:
        found: defaultdict[Place, list[Written]] = defaultdict(list)
        marks = self._reader.watermarks(self._reader.partitions_of(topics))
        starts = {tp: low for tp, (low, _high) in marks.items()}
        last_ms = 0
        for batch in self._reader.read_to_end(starts, {tp: high for tp, (_low, high) in marks.items()}):
            last_ms = max(last_ms, int(batch.timestamps_ms.max()))
            for number, key, value in zip(batch.partitions.tolist(), batch.keys, batch.values, strict=True):
                found[batch.channel, number].append((key, value))
        return dict(found), last_ms


def wait_until(met: Callable[[], bool], timeout_s: float, alive: Callable[[], Any] = lambda: True) -> bool:
    """Whether it came true within the time, while `alive` held."""
    until = time.monotonic() + timeout_s
    while not met():
        if time.monotonic() > until or not alive():
            return False
        time.sleep(POLL_S)
    return True
