"""The sink: every record of every topic into the history, at least once, in large blocks, and nothing skipped.

One thread polls, decodes and commits; another inserts and retries for as long as it takes, so that the group never
takes a store for dead because ClickHouse is. Offsets are committed only after the inserts have answered; what is read
twice is folded by the views. I/O: Kafka, ClickHouse over HTTP.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from schemas.access import used_by
from schemas.admission import SUBMISSION
from schemas.settings import Settings
from schemas.topics import Topics
from schemas.topology import Limits, Topology
from streams.history.commits import Commits
from streams.history.lag import Lag
from streams.history.loader import Loader, Rows
from streams.transport.batch import Batch, TopicPartition
from streams.transport.clients import client_config
from streams.transport.consumer import BatchConsumer
from streams.transport.fetches import can_fetch
from streams.transport.held import HeldBack
from streams.transport.packed import Packed
from streams.transport.packed_consumer import PackedConsumer
from streams.transport.slots import instance_of
from streams.transport.telemetry import CONSUMER_LAG, HISTORY_LAG, MEASURE_S, get_logger, show_lag
from streams.transport.threads import DaemonPool, has_ended
from streams.transport.topic_admin import TopicAdmin

log = get_logger("pointsman.history")

# So few that a record's objects are still in the cache when they are decoded, and their memory is used again.
POLL_ROWS_MAX = 8_000
POLL_BYTES_MAX = 64 * 1024 * 1024
# A batch has a price of its own: at small rates this is what makes it worth it.
POLL_S = 0.25
# What comes in numbers, and as whole record batches.
MANY = frozenset({SUBMISSION, "TaskDispatched", "AgentEvent", "TaskResult", "OrchestratorEvent"})
DRAIN_S = 2.0
# What an insert costs beside its rows is 4 ms a table: where that many rows come in one interval, two share it.
BUSY_ROWS = 10_000
BUSY_INTERVALS = 2
CLOSE_S = 1.5


@dataclass(slots=True)
class Buffer:
    """Rows in the order in which they were read, and what they take in memory."""

    parts: list[Rows] = field(default_factory=list)
    rows: int = 0
    size_bytes: int = 0

    def add(self, part: Rows) -> None:
        self.parts.append(part)
        self.rows += part.records
        self.size_bytes += part.size_bytes()

    def take(self, rows_max: int) -> Buffer:
        """The first parts, one at least, as long as they hold no more than `rows_max` records together."""
        taken, rest = Buffer(), Buffer()
        for part in self.parts:
            fits = not rest.parts and (not taken.parts or taken.rows + part.records <= rows_max)
            (taken if fits else rest).add(part)
        self.parts, self.rows, self.size_bytes = rest.parts, rest.rows, rest.size_bytes
        return taken

    def positions(self) -> dict[TopicPartition, int]:
        """The next offset of each topic-partition, once all this is stored."""
        return {tp: position for part in self.parts for tp, position in part.positions.items()}

    def oldest_ms(self) -> int | None:
        """Append time of the earliest record; None where there is none."""
        return min((part.oldest_ms for part in self.parts), default=None)


@dataclass(frozen=True, slots=True)
class Load:
    """A buffer on its way into the history."""

    buffer: Buffer
    job: Future[None]


class Sink:
    """Reads all topics of a deployment in the group `{prefix}pointsman-store` and loads them.

    `member` is what it is in that group; `lag` is told how far the history is behind. Raises UnreachableError where
    nobody lists the topics, TransportError where they cannot be read, DeliveryError where a dead letter cannot be put
    away.
    """

    def __init__(
        self,
        settings: Settings,
        topology: Topology,
        loader: Loader,
        held: HeldBack | None = None,
        lag: Lag | None = None,
    ) -> None:
        self._topics, self._limits, self._loader = topology.topics(), topology.limits, loader
        self._names = _names(TopicAdmin(settings, topology).listed(), self._topics)
        self.member = member_of(settings, topology, self._names)
        self._consumer = _consumer(self.member, self._limits, channel_of(self._topics))
        # One thread for all loads: the C allocator gives each new one an arena of its own, and keeps what was in it.
        self._lane = DaemonPool("history-load", 1)
        self._waiting = Buffer()
        self._loading: Load | None = None
        self._commits = Commits(self._consumer)
        self._begun_at = time.monotonic()
        self._paused = False
        self._measured_at = 0.0
        self._lag = lag or Lag()
        self._held = held
        self._held_paused: frozenset[TopicPartition] = frozenset()

    def run(self, stop: threading.Event, on_ready: Callable[[], None] = lambda: None) -> None:
        """Until `stop` is set; then what is buffered is loaded and committed, for DRAIN_S at most."""
        try:
            # A missing topic is said at once.
            self._consumer.partitions_of(spec.name for spec in used_by("store", self._topics))
            self._consumer.subscribe(self._names, on_assign=self._assigned, on_revoke=self._revoked)
            on_ready()
            while not stop.is_set():
                self._turn()
            self._drain()
        finally:
            self._loader.stop()
            self._lane.close()
            self._commits.close()
            self._consumer.close(CLOSE_S)

    def _turn(self) -> None:
        self._finished()
        self._measure()
        if self._commits.resting(POLL_S):
            for batch in self._consumer.poll():
                self._take(batch)
            self._release()
            self._hold_back()
            self._commits.begin()
        if is_due(self._waiting.rows, time.monotonic() - self._begun_at, self._limits):
            self._begin()

    def _take(self, batch: Batch | Packed) -> None:
        rows = rows_now(batch, self._loader, self._held)
        if rows is not None:
            self._waiting.add(rows)

    def _release(self) -> None:
        """Go on with what is known by now; read on only where nothing is held."""
        if self._held is None:
            return
        for batch in self._held.released():
            self._waiting.add(self._loader.read(batch))
        held, before = self._held.tps, self._held_paused
        if held != before:
            ours = set(self._consumer.assignment())
            self._consumer.pause((held - before) & ours)
            self._consumer.resume(set() if self._paused else (before - held) & ours)
            self._held_paused = held

    def _begin(self) -> None:
        if self._loading is None:
            buffer = self._waiting.take(self._limits.history_rows_max)
            self._begun_at = time.monotonic()
            self._loading = Load(buffer, self._lane.submit(self._loader.load, buffer.parts))

    def _finished(self, timeout_s: float = 0.0) -> bool:
        """Whether a load has ended within `timeout_s`. Raises what ended it, if it failed."""
        if self._loading is None or not has_ended(self._loading.job, timeout_s):
            return False
        buffer, self._loading = self._loading.buffer, None
        self._commits.add(buffer.positions())
        return True

    def _measure(self) -> None:
        """Shows how far behind the history is, and how far the reading."""
        held = [self._waiting.oldest_ms(), self._loading.buffer.oldest_ms() if self._loading else None]
        held += [self._held.oldest_ms()] if self._held is not None else []
        oldest_ms = min((each for each in held if each is not None), default=None)
        self._lag.seconds = 0.0 if oldest_ms is None else max(0.0, time.time() - oldest_ms / 1000)
        HISTORY_LAG.set(self._lag.seconds)
        if time.monotonic() - self._measured_at >= MEASURE_S:
            self._measured_at = time.monotonic()
            show_lag(self._consumer.lag())

    def held_bytes(self) -> int:
        """What is read and not yet stored."""
        return self._waiting.size_bytes + (self._loading.buffer.size_bytes if self._loading else 0)

    def _hold_back(self) -> None:
        """Stop reading while more is held than the limit allows; go on at half of it."""
        held = self.held_bytes()
        limit = self._limits.history_buffer_bytes_max
        if not self._paused and held >= limit:
            log.warning("reading pauses: the history does not keep up", held_bytes=held)
            self._consumer.pause(self._consumer.assignment())
            self._paused = True
        elif self._paused and held <= limit // 2:
            log.info("reading goes on")
            self._consumer.resume(set(self._consumer.assignment()) - self._held_paused)
            self._paused = False

    def _drain(self) -> None:
        """What is read is loaded if the history answers in time; the rest is read again at the next start."""
        deadline = time.monotonic() + DRAIN_S
        while self._loading or self._waiting.rows:
            self._begin()
            if not self._finished(max(0.0, deadline - time.monotonic())):
                log.warning("the history did not answer in time; the rest is read again at the next start")
                break
        if not self._commits.drain(max(0.0, deadline - time.monotonic())):
            log.warning("the broker did not answer in time; what is stored is read again at the next start")

    def _assigned(self, partitions: Sequence[TopicPartition]) -> None:
        log.info("partitions assigned", partitions=len(partitions))
        if self._paused:
            self._consumer.pause(partitions)

    def _revoked(self, partitions: Sequence[TopicPartition]) -> None:
        """Rows at hand are loaded all the same; where they end is no longer ours to commit (see Commits)."""
        log.info("partitions given up", partitions=len(partitions))
        CONSUMER_LAG.clear()  # what is left to us is shown again in a moment
        if self._held is not None:
            self._held.drop(partitions)
            self._held_paused -= frozenset(partitions)


def _names(listed: Iterable[str], topics: Topics) -> list[str]:
    """The deployment's topics, and those of agents that have left it: their last records may be unread."""
    listed = sorted(listed)
    told = {spec.name for spec in used_by("store", topics.of_any_agent(listed))}
    return [name for name in listed if name in told]


def member_of(settings: Settings, topology: Topology, names: Iterable[str]) -> dict[str, Any]:
    """What a store reads these topics with: librdkafka's properties, of its place in the group where it has a slot."""
    group, place = f"{topology.prefix}pointsman-store", instance_of(settings.store_slot, names)
    return client_config(
        settings, topology, "consumer", group=group, instance=place, fetch="bulk", name="pointsman-store"
    )


def _consumer(
    config: Mapping[str, Any], limits: Limits, channel_of: Callable[[str], str]
) -> BatchConsumer | PackedConsumer:
    """One that reads whole record batches, unless the operator wants of a consumer what only librdkafka does."""
    rows_max = min(POLL_ROWS_MAX, limits.history_rows_max)
    if can_fetch(config):
        return PackedConsumer(config, channel_of, MANY, rows_max=rows_max, poll_s=POLL_S)
    return BatchConsumer(
        config, channel_of, rows_max=rows_max, bytes_max=POLL_BYTES_MAX, poll_s=POLL_S, with_headers=True
    )


def rows_now(batch: Batch | Packed, loader: Loader, held: HeldBack | None) -> Rows | None:
    """All of it but submissions whose schema is not known yet, and what follows those: that is held."""
    if isinstance(batch, Packed):
        waits = held is not None and not held.tps.isdisjoint(batch.next_positions())
        whole = None if waits else loader.read_whole(batch)
        if whole is not None:
            return whole
        batch = batch.unpacked()
    if held is None or batch.channel != SUBMISSION:
        return loader.read(batch)
    admitted = held.admit(batch)
    return None if admitted is None else loader.read(admitted)


def is_due(rows: int, waited_s: float, limits: Limits) -> bool:
    """Whether so many rows, the last load having begun `waited_s` ago, are to be loaded now."""
    intervals = BUSY_INTERVALS if rows >= BUSY_ROWS else 1
    old = waited_s >= intervals * limits.history_interval_ms / 1000
    return rows > 0 and (old or rows >= limits.history_rows_max)


def channel_of(topics: Topics) -> Callable[[str], str]:
    """A topic's channel is its record type; the dead topic is a channel of its own, under its own name."""
    channels = {spec.name: spec.record or spec.name for spec in topics.specs()}

    def channel(topic: str) -> str:
        found = channels.get(topic)
        if found is None:
            left = topics.of_any_agent([topic])
            found = channels[topic] = left.record_of(topic) or topic
        return found

    return channel
