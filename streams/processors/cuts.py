"""Cuts: positions and low watermarks taken together, and committed once all output up to them is delivered.

With at_least_once that is two steps, and a crash between them is what recovery reads the logs for. With exactly_once it
is one transaction. I/O: Kafka, through the driver and the producer; the clock.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol, TypeAlias

from schemas.epochs import Epochs, Since
from streams.processors.recovery import Positions, cut_metadata, epochs_metadata
from streams.transport.batch import Batch, TopicPartition, next_positions
from streams.transport.clients import CommitRejectedError, CommitUnavailableError
from streams.transport.producer import Output
from streams.transport.telemetry import COMMIT_DURATION, CUT_AGE, get_logger
from streams.transport.transactions import TransactionalProducer

log = get_logger("pointsman.cuts")

IDLE_CUT_S = 10.0
"""An idle worker still moves its low watermark this often, so that a recovery has little to read."""

Spilling: TypeAlias = Callable[[Mapping[TopicPartition, int]], bool]
"""Writes what a cut at these positions has to say of tasks that are in flight for long; whether it wrote anything."""

Claims: TypeAlias = Callable[[int], Since]
"""Which generations had a partition's spilled tasks since where."""

Cut: TypeAlias = dict[tuple[str, int], tuple[int, str]]
"""Next position and metadata of each topic-partition."""


class Committer(Protocol):
    """The part of the Faust driver that commits; see streams.transport.faust_driver."""

    async def commit(self, positions: Mapping[tuple[str, int], tuple[int, str]]) -> None: ...


class Members(Protocol):
    """The part of the Faust driver that says whose the partitions are."""

    def membership(self, tps: Iterable[tuple[str, int]]) -> Any: ...


class InTransaction:
    """Commits positions and all output since the last commit together, or neither."""

    def __init__(self, producer: TransactionalProducer, driver: Members) -> None:
        self._producer, self._driver = producer, driver

    async def commit(self, positions: Mapping[tuple[str, int], tuple[int, str]]) -> None:
        """Raises CommitRejectedError, with nothing changed, where partitions are not ours; TransactionLostError."""
        await self._producer.commit(positions, self._driver.membership(positions))


class Cuts:
    """The positions of one worker. `anchor` is the topic whose commits carry the low watermark of their partition, and
    `spilled`, the worker's claims of its spilled tasks; those of agents' logs carry the claims of their hosts."""

    def __init__(self, anchor: str, producer: Output, epochs: Epochs, spilled: Claims) -> None:
        self._anchor, self._producer, self._epochs, self._spilled = anchor, producer, epochs, spilled
        self.positions: Positions = {}
        self._committed: Positions = {}
        self._committed_at = time.monotonic()

    @property
    def age_s(self) -> float:
        return time.monotonic() - self._committed_at

    @property
    def is_due(self) -> bool:
        """Whether anything has moved or was sent since the last cut, or that one is old."""
        has_news = self.positions != self._committed or self._producer.has_output
        return bool(self.positions) and (has_news or self.age_s > IDLE_CUT_S)

    def advance(self, batch: Batch) -> None:
        """The batch is done with."""
        self.positions.update(next_positions(batch))

    def take(self, spill: Spilling, low_watermarks_ms: Callable[[], Mapping[int, int]], drain_s: float) -> Cut | None:
        """The cut of some partitions as of now, with their low watermarks; None where output is not yet delivered.

        Tasks are spilled between two deliveries: what they tell of is in the logs before them, and they are in the
        compacted topic before a low watermark that does not wait for them. It waits for `drain_s` at most, in all, and
        holds the event loop while it does, so that nothing is produced meanwhile. Raises DeliveryError when a delivery
        failed.
        """
        until = time.monotonic() + drain_s
        if not self._producer.drained(drain_s):
            return None
        if spill(self.positions) and not self._producer.drained(max(0.0, until - time.monotonic())):
            return None
        return self.cut(self.positions, low_watermarks_ms())

    def cut(self, positions: Mapping[TopicPartition, int], low_watermarks_ms: Mapping[int, int]) -> Cut:
        """These positions, of the partitions that have a low watermark."""
        lows = low_watermarks_ms
        return {tp: (at, self._metadata(tp, lows)) for tp, at in positions.items() if tp.partition in lows}

    def _metadata(self, tp: TopicPartition, low_watermarks_ms: Mapping[int, int]) -> str:
        if tp.topic == self._anchor:
            return cut_metadata(low_watermarks_ms[tp.partition], self._spilled(tp.partition))
        since = self._epochs.since(tp)
        return epochs_metadata(since) if since else ""

    async def commit(self, committer: Committer, cut: Cut) -> None:
        """Commits; where the group or the broker says no, the next cut will do. Raises TransportError for the rest."""
        try:
            with COMMIT_DURATION.time():
                await committer.commit(cut)
        except CommitRejectedError as error:
            log.warning("a cut was refused: the partitions are being taken away", why=str(error))
            return
        except CommitUnavailableError as error:
            log.warning("a cut has to wait", why=str(error))
            return
        for (topic, number), (at, _) in cut.items():
            self._committed[TopicPartition(topic, number)] = at
        self._committed_at = time.monotonic()
        CUT_AGE.set(0)

    def drop(self, partitions: Iterable[int]) -> None:
        """Forgets partitions that are no longer ours."""
        gone = set(partitions)
        for held in (self.positions, self._committed):
            for tp in [tp for tp in held if tp.partition in gone]:
                del held[tp]
