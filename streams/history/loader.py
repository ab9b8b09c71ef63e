"""One load: what was read in a second or so, decoded, aligned and inserted, one insert per record type.

It returns only when everything is stored and every dead letter is delivered; until then it tries again. I/O:
ClickHouse over HTTP, Kafka (dead letters).
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

import pyarrow as pa
from clickhouse_connect.driver.exceptions import ClickHouseError

from schemas.admission import admit
from schemas.codec import Codec, DecodeFault
from schemas.errors import PointsmanError, UnreachableError
from schemas.reasons import DeadReason
from schemas.topics import Topics
from schemas.topology import Topology
from streams.history.migrations import DATABASE
from streams.history.queries import QueryError
from streams.history.tables import DEAD_LETTERS, TABLES, dead_rows_of, rows_of, stream_of
from streams.transport.batch import Batch
from streams.transport.deadletters import bury
from streams.transport.producer import Producer
from streams.transport.telemetry import ERRORS, HISTORY_INSERT_DURATION, HISTORY_ROWS, get_logger

log = get_logger("pointsman.history")

COMPONENT = "history"
# One thread a step: the machine belongs to the pipeline. Folding a block at its insert would cost more than all else
# together (2 to 4 us a row), and the views fold it anyway.
INSERT_SETTINGS = {"async_insert": 0, "max_insert_threads": 1, "max_threads": 1, "optimize_on_insert": 0}
BACKOFF_S = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
DELIVERY_POLL_S = 0.5


class StoppedError(PointsmanError):
    """The loader was told to stop before everything was stored."""


class Loader:
    """Loads batches whose channel is their record type, or the dead topic's name. One thread uses it.

    `connect` makes a clickhouse-connect client; it is called again after a failure.
    """

    def __init__(self, topology: Topology, codec: Codec, connect: Callable[[], Any], dead_letters: Producer) -> None:
        self._topics: Topics = topology.topics()
        self._rows_max = topology.limits.history_rows_max
        self._codec, self._connect, self._producer = codec, connect, dead_letters
        self._client: Any = None
        self._stopping = threading.Event()
        # Whoever reads these decides something by them, and puts away what is no record: the router, the breaker.
        self._others = frozenset({self._topics.submitted, self._topics.health})
        for name in (DEAD_LETTERS, *(table.name for table in TABLES.values())):
            HISTORY_ROWS.labels(name)  # from zero, so that a rate sees the first ones too

    def stop(self) -> None:
        """End a load that keeps trying: it raises StoppedError."""
        self._stopping.set()

    def load(self, batches: Sequence[Batch]) -> None:
        """Raises StoppedError after `stop`, DeliveryError where a dead letter cannot be delivered."""
        rows: defaultdict[str, list[pa.RecordBatch]] = defaultdict(list)
        for batch in batches:
            if batch.channel == self._topics.dead:
                rows[DEAD_LETTERS].append(dead_rows_of(batch))
            else:
                rows[TABLES[batch.channel].name].append(self._decoded(batch))
        while len(self._producer) and not self._producer.drained(DELIVERY_POLL_S):
            if self._stopping.is_set():
                raise StoppedError
        for table, parts in rows.items():
            self._insert_all(table, parts)

    def _decoded(self, batch: Batch) -> pa.RecordBatch:
        """The rows of the valid records; the others are put away, where that is this component's to do."""
        decoded = admit(self._codec, batch.channel, batch.values, batch.keys)
        ours = [fault for fault in decoded.faults if self._is_ours(batch, fault)]
        bury(self._producer, self._topics, batch, ours, COMPONENT)
        return rows_of(TABLES[batch.channel], decoded.batch, batch, decoded.rows)

    def _is_ours(self, batch: Batch, fault: DecodeFault) -> bool:
        """Whether putting it away is for nobody else."""
        topic = batch.topics[fault.row]
        return topic not in self._others and not (fault.reason is DeadReason.NULL_VALUE and self._is_compacted(topic))

    def _is_compacted(self, topic: str) -> bool:
        """There a null value is a tombstone, not a fault."""
        return topic in (self._topics.breakers, self._topics.cards)

    def _insert_all(self, table: str, parts: Sequence[pa.RecordBatch]) -> None:
        whole = pa.Table.from_batches(parts)
        for start in range(0, whole.num_rows, self._rows_max):
            part = whole.slice(start, self._rows_max)
            self._insert(table, part.schema.names, stream_of(part), part.num_rows)

    def _insert(self, table: str, columns: Sequence[str], block: bytes, rows: int) -> None:
        """Until ClickHouse has answered that it holds the block."""
        for attempt in count():
            started = time.perf_counter()
            try:
                if self._client is None:
                    self._client = self._connect()
                self._client.raw_insert(
                    f"{DATABASE}.{table}", columns, block, settings=INSERT_SETTINGS, fmt="ArrowStream"
                )
            except (ClickHouseError, UnreachableError, QueryError) as error:
                self._client = None
                ERRORS.labels(COMPONENT).inc()
                if attempt % 10 == 0:
                    log.warning("an insert failed; it is tried again", table=table, rows=rows, why=str(error)[:300])
                if self._stopping.wait(BACKOFF_S[min(attempt, len(BACKOFF_S) - 1)]):
                    raise StoppedError from error
            else:
                HISTORY_INSERT_DURATION.labels(table).observe(time.perf_counter() - started)
                HISTORY_ROWS.labels(table).inc(rows)
                return
