"""From raw records to rows, as they are read; and one load: what was read in a second or so, one insert per table.

A load returns only when everything is stored and every dead letter is delivered; until then it tries again. I/O:
ClickHouse over HTTP or, where it is embedded, in this process; Kafka (dead letters).
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

import numpy as np
import pyarrow as pa
from clickhouse_connect.driver.exceptions import ClickHouseError

from schemas.admission import admit, admit_log
from schemas.codec import FEW, Codec, DecodeFault
from schemas.errors import PointsmanError, UnreachableError
from schemas.reasons import DeadReason
from schemas.settings import DATABASE
from schemas.topics import Topics
from schemas.topology import Topology
from streams.history.engine import Engine, EngineError
from streams.history.queries import QueryError
from streams.history.tables import (
    DEAD_LETTERS,
    REDRIVES,
    TABLES,
    columns_of,
    places_of,
    places_of_log,
    rows_of,
    rows_of_dead_topic,
    stream_of,
)
from streams.transport.batch import Batch, TopicPartition, content_bytes, next_positions
from streams.transport.deadletters import bury
from streams.transport.packed import Packed
from streams.transport.producer import Producer
from streams.transport.telemetry import ERRORS, HISTORY_INSERT_DURATION, HISTORY_ROWS, get_logger

log = get_logger("pointsman.history")

COMPONENT = "history"
NEVER_MS = 2**63 - 1
"""When the earliest of no records was appended."""
# One thread a step: the machine belongs to the pipeline. Folding a block at its insert would cost more than all else
# together (2 to 4 us a row), and the views fold it anyway.
INSERT_SETTINGS = {"async_insert": 0, "max_insert_threads": 1, "max_threads": 1, "optimize_on_insert": 0}
ALIGN_ROWS = 16_384
_BY_NAME = {table.name: table for table in TABLES.values()}
# A second at most: what lies behind a ClickHouse that is back is the backlog of all that time, too.
BACKOFF_S = (0.1, 0.2, 0.5, 1.0)
DELIVERY_POLL_S = 0.5


class StoppedError(PointsmanError):
    """The loader was told to stop before everything was stored."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Records of one batch, decoded: `records` of them were read, `batch` holds the valid ones, and `places` where each
    stood (None where the batch says it itself). `faults` name rows of `bad`, the records that are to be put away.
    `also` is what it holds for another table.

    Raw records are Python objects, cold in the cache a moment later: so they are decoded as they come, not at the load.
    """

    table: str
    batch: pa.RecordBatch
    places: pa.RecordBatch | None
    bad: Batch | None
    faults: Sequence[DecodeFault]
    records: int
    positions: Mapping[TopicPartition, int]
    oldest_ms: int
    also: Rows | None = None

    def size_bytes(self) -> int:
        """What it holds in memory, about."""
        arrow = sum(each.get_total_buffer_size() for each in (self.batch, self.places) if each is not None)
        return int(arrow) + (0 if self.bad is None else content_bytes(self.bad))


class Loader:
    """Loads batches whose channel is their record type, or the dead topic's name.

    One thread calls `read`, one `load`. `connect` makes a clickhouse-connect client where `client`, the first one, is
    not given, and after a failure. Rows go through it, but where `engine` is the ClickHouse behind it: then they spare
    the socket.
    """

    def __init__(
        self,
        topology: Topology,
        codec: Codec,
        connect: Callable[[], Any],
        dead_letters: Producer,
        engine: Engine | None = None,
        database: str = DATABASE,
        client: Any = None,
    ) -> None:
        self._topics: Topics = topology.topics()
        self._codec, self._connect, self._producer, self._engine = codec, connect, dead_letters, engine
        self._client = client
        self._database = database
        self._stopping = threading.Event()
        # Whoever reads these decides something by them, and puts away what is no record: the router, the breaker.
        self._others = frozenset({self._topics.submitted, self._topics.health})
        for name in (DEAD_LETTERS, REDRIVES, *(table.name for table in TABLES.values())):
            HISTORY_ROWS.labels(name)  # from zero, so that a rate sees the first ones too

    def stop(self) -> None:
        """End a load that keeps trying: it raises StoppedError."""
        self._stopping.set()

    def read(self, batch: Batch) -> Rows:
        """The rows of a batch."""
        said = len(batch), next_positions(batch), int(batch.timestamps_ms.min(initial=NEVER_MS))
        if batch.channel == self._topics.dead:
            letters, markers = rows_of_dead_topic(batch)
            also = None if markers is None else Rows(REDRIVES, markers, None, None, (), *said)
            return Rows(DEAD_LETTERS, letters, None, None, (), *said, also)
        decoded = admit(self._codec, batch.channel, batch.values, batch.keys)
        ours = [fault for fault in decoded.faults if self._is_ours(batch, fault)]
        bad = batch.take(np.array([fault.row for fault in ours], np.intp)) if ours else None
        faults = [replace(fault, row=row) for row, fault in enumerate(ours)]
        places = places_of(batch, decoded.rows)
        return Rows(TABLES[batch.channel].name, decoded.batch, places, bad, faults, *said)

    def read_whole(self, log: Packed) -> Rows | None:
        """The rows of packs that hold nothing but valid records, all of them wanted; None where they may not."""
        if len(log) < FEW or any(pack.start > pack.base for pack in log.packs):
            return None
        decoded = admit_log(self._codec, log.channel, log.records(), len(log))
        if decoded is None:
            return None
        places, oldest_ms = places_of_log(log, decoded), min(pack.first_ms for pack in log.packs)
        table = TABLES[log.channel].name
        return Rows(table, decoded.batch, places, None, (), len(log), log.next_positions(), oldest_ms)

    def load(self, rows: Sequence[Rows]) -> None:
        """Raises StoppedError after `stop`, DeliveryError where a dead letter cannot be delivered."""
        by_table: defaultdict[str, list[Rows]] = defaultdict(list)
        for each in rows:
            if each.bad is not None:
                bury(self._producer, self._topics, each.bad, each.faults, COMPONENT)
            for part in (each, each.also):
                if part is not None and part.batch.num_rows:
                    by_table[part.table].append(part)
        while len(self._producer) and not self._producer.drained(DELIVERY_POLL_S):
            if self._stopping.is_set():
                raise StoppedError
        for table, parts in by_table.items():
            self._insert(table, parts)

    def _is_ours(self, batch: Batch, fault: DecodeFault) -> bool:
        """Whether putting it away is for nobody else."""
        topic = batch.topics[fault.row]
        return topic not in self._others and not (fault.reason is DeadReason.NULL_VALUE and self._is_compacted(topic))

    def _is_compacted(self, topic: str) -> bool:
        """There a null value is a tombstone, not a fault."""
        return topic in (self._topics.breakers, self._topics.cards, self._topics.pauses, self._topics.memory)

    def _insert(self, table: str, parts: Sequence[Rows]) -> None:
        """As one block, until ClickHouse has answered that it holds it."""
        rows = sum(part.batch.num_rows for part in parts)
        for attempt in count():
            started = time.perf_counter()
            try:
                if self._client is None:
                    self._client = self._connect()
                self._send(table, _aligned(parts))
            except (ClickHouseError, UnreachableError, QueryError, EngineError) as error:
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

    def _send(self, table: str, batches: Iterator[pa.RecordBatch]) -> None:
        name, columns = f"{self._database}.{table}", columns_of(table)
        if self._engine is None:
            self._client.raw_insert(name, columns, stream_of(batches), settings=INSERT_SETTINGS, fmt="ArrowStream")
            return
        with self._engine.handle({name: str(value) for name, value in INSERT_SETTINGS.items()}) as handle:
            handle.insert_rows(name, batches)


def _aligned(parts: Sequence[Rows]) -> Iterator[pa.RecordBatch]:
    """The parts as rows of their table, ALIGN_ROWS or so at a time: few calls, and no buffer as large as all."""
    gathered, count_rows = [], 0
    for part in parts:
        gathered.append(part)
        count_rows += part.batch.num_rows
        if count_rows >= ALIGN_ROWS:
            yield _as_one(gathered)
            gathered, count_rows = [], 0
    if gathered:
        yield _as_one(gathered)


def _as_one(parts: Sequence[Rows]) -> pa.RecordBatch:
    batch = pa.concat_batches([part.batch for part in parts])
    places = [part.places for part in parts if part.places is not None]
    return rows_of(_BY_NAME[parts[0].table], batch, pa.concat_batches(places)) if places else batch
