"""The thread that owns the Faust driver's consumer: it polls from subscription on, and hands batches over.

Nobody else touches the consumer: confluent-kafka lets one thread in at a time, and who polls in a loop keeps all others
out for good. So commits and other requests are made here too, between polls. I/O: Kafka.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

import confluent_kafka as ck

from streams.transport.batch import Batch, TopicPartition
from streams.transport.bounded import close, rebalance_callback
from streams.transport.clients import ConnectionWatch, TransportError, opened
from streams.transport.faust_handover import Handed, HandOver, Requests
from streams.transport.faust_options import DriverOptions
from streams.transport.faust_sources import Source, source_of
from streams.transport.requests import connect

T = TypeVar("T")

log = logging.getLogger("pointsman.kafka")

CLOSE_TIMEOUT_S = 1.0
# Pausing throws away what librdkafka has prefetched, so a processor that is merely busy is waited for; no longer than a
# rebalance may be kept waiting, though, as those are served in polls only.
_PATIENCE_S = 0.5
# So long does a request wait while nothing arrives.
_SLICE_S = 0.01
BLIND_S = 0.75
"""Whoever hangs in one call for longer sees nothing of what the logs hold."""
_PROBE_EVERY_S = 1.0
_PROBE_TIMEOUT_S = 0.2


class Owner(Protocol):
    """Who is told, in the reader's thread, of assignments and failures."""

    def begin(self, generation: int, membership: Any, partitions: list[int]) -> None:
        """Partitions are ours; nothing is read until `Reader.go_live` is called. Returns at once.

        `membership` is what librdkafka's producer wants to know of the group as it now is.
        """

    def end(self, *, lost: bool) -> None:
        """They go: returns when nothing of them is under way any more. Raises what must end the reader."""

    def reader_failed(self, error: BaseException) -> None:
        """The thread cannot go on."""

    def reader_ended(self) -> None:
        """The thread is over, and the consumer has left its group, or is left behind."""


class Reader:
    """`start` it on the event loop `loop`; `owner` is told in the reader's thread."""

    def __init__(self, options: DriverOptions, owner: Owner, loop: asyncio.AbstractEventLoop) -> None:
        self._options, self._owner = options, owner
        self.watch = ConnectionWatch(str(options.config.get("client.id", "consumer")))
        self.handover = HandOver(loop)
        self._consumer = opened(ck.Consumer, options.config, self.watch)
        self._thread = threading.Thread(target=self._run, name="pointsman-reader", daemon=True)
        self._stopping, self._clean = threading.Event(), False
        self._requests = Requests()
        self._closed = False
        # Assignments so far; whether one is held; and its number while it is read from, else 0.
        self._generation, self._held, self._live = 0, False, 0
        self._due: queue.SimpleQueue[tuple[int, Mapping[tuple[str, int], int]]] = queue.SimpleQueue()
        self._callback_error: BaseException | None = None
        self._source: Source = source_of(options, self._consumer, self._consume, self.watch, self._is_free)
        self._lock = threading.Lock()
        self._asked: frozenset[TopicPartition] = frozenset()
        self._probe_at, self._free_at = 0.0, time.monotonic()

    @property
    def is_blind(self) -> bool:
        """Whether the thread hangs in a request that nobody answers, or in a rebalance: its watch hears in polls alone
        of a broker that is gone. Any thread."""
        return time.monotonic() - self._free_at > BLIND_S

    def start(self) -> None:
        self._thread.start()

    def stop(self, *, clean: bool) -> None:
        """Ask the thread to leave the group and end; `clean` gives the partitions back through the owner first."""
        self._clean = clean
        self._stopping.set()

    def go_live(self, generation: int, positions: Mapping[tuple[str, int], int]) -> None:
        """Read from these offsets, unless assignment number `generation` has ended meanwhile. Any thread."""
        self._due.put((generation, positions))

    def pause(self, tps: Iterable[tuple[str, int]]) -> None:
        """From the next poll on, and in later assignments too. Any thread."""
        with self._lock:
            self._asked |= {TopicPartition(*tp) for tp in tps}

    def resume(self, tps: Iterable[tuple[str, int]]) -> None:
        with self._lock:
            self._asked -= {TopicPartition(*tp) for tp in tps}

    def ask(self, request: Callable[[ck.Consumer], T]) -> Future[T]:
        """Have the thread make a blocking request. Any thread. The answer is a TransportError once it has ended."""
        return self._requests.ask(lambda: request(self._consumer))

    def lag(self) -> Future[dict[TopicPartition, int]]:
        """Records appended and not read, of what is read, as of the last fetch. Any thread; as `ask`."""
        return self._requests.ask(self._source.lag)

    def answer_until(self, done: Future[Any], timeout_s: float) -> bool:
        """Answer requests until `done`; whether it is, after `timeout_s` at most. In the reader's thread."""
        return self._requests.answer_until(done, timeout_s)

    def _run(self) -> None:
        try:
            connect(self._consumer, self._options.anchor)
            self._consumer.subscribe(
                [self._options.anchor], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
            )
            while not self._stopping.is_set():
                self._requests.answer()
                self._take_positions()
                self._source.rest(self._asked)
                self._hand_over(self._source.read(_SLICE_S))
                self._probe()
            if self._clean:
                self._end(lost=False)
        except ck.KafkaException as raised:
            error = TransportError(f"the consumer cannot go on: {raised.args[0].str()}")
            error.__cause__ = raised
            self._owner.reader_failed(error)
        except BaseException as raised:  # noqa: BLE001 - the owner ends the app with it
            self._owner.reader_failed(raised)
        # Only now do the requests that are still open fail: what came first is what counts.
        try:
            self._close()
        finally:
            self._owner.reader_ended()

    def _is_free(self) -> bool:
        return self._requests.are_none

    def _consume(self, count: int, timeout_s: float) -> list[Any]:
        messages: list[Any] = self._consumer.consume(count, timeout_s)
        self._free_at = time.monotonic()
        if self._callback_error is not None:
            raise self._callback_error
        return messages

    def _hand_over(self, batches: list[Batch]) -> None:
        generation = self._live
        for batch in batches:
            if not self._wait_for_room(generation):
                return
            self.handover.put(Handed(generation, batch))

    def _wait_for_room(self, generation: int) -> bool:
        """Whether there is room; not when the assignment ended meanwhile, or the reader is to stop."""
        patient_until = time.monotonic() + _PATIENCE_S
        while self._live == generation and not self._stopping.is_set():
            if self.handover.reserve(_SLICE_S):
                return True
            self._free_at = time.monotonic()
            self._requests.answer()
            if time.monotonic() > patient_until:
                self._source.keep_up()
        return False

    def _take_positions(self) -> None:
        while not self._due.empty():
            generation, positions = self._due.get()
            if self._held and generation == self._generation:
                self._source.begin(positions)
                self._live = generation

    def _probe(self) -> None:
        """Ask whether a broker is back: without traffic nothing else would tell."""
        if self.watch.is_down and time.monotonic() >= self._probe_at:
            try:
                self._consumer.list_topics(self._options.anchor, timeout=_PROBE_TIMEOUT_S)
                self.watch.up()
            except ck.KafkaException:
                self._probe_at = time.monotonic() + _PROBE_EVERY_S

    def _on_assign(self, consumer: ck.Consumer, partitions: list[ck.TopicPartition]) -> None:
        with self._callback():
            # Of an assignment without partitions librdkafka reports no end.
            self._end(lost=True)
            # Acknowledged, and nothing is read: what came before Faust's flow resumes would be lost to its streams.
            consumer.assign([])
            if self._closed:
                return
            self._generation += 1
            self._held = True
            ours = sorted(p.partition for p in partitions if p.topic == self._options.anchor)
            self._owner.begin(self._generation, consumer.consumer_group_metadata(), ours)

    def _on_revoke(self, consumer: ck.Consumer, _: list[ck.TopicPartition]) -> None:
        with self._callback():
            self._end(lost=False)
            consumer.unassign()

    def _on_lost(self, consumer: ck.Consumer, _: list[ck.TopicPartition]) -> None:
        with self._callback():
            self._end(lost=True)
            consumer.unassign()

    @contextmanager
    def _callback(self) -> Iterator[None]:
        """Keeps an exception for the poll that the callback is served in: librdkafka's bindings garble some."""
        try:
            with rebalance_callback():
                yield
        except BaseException as error:  # noqa: BLE001 - `_consume` raises it
            self._callback_error = error

    def _end(self, *, lost: bool) -> None:
        self._source.end()
        held, self._held, self._live = self._held, False, 0
        if held:
            self._owner.end(lost=lost)

    def _close(self) -> None:
        self._closed = True
        self._requests.close()
        # Closing calls back once more; whoever left uncleanly is not to be asked.
        self._held = False
        self._source.close()
        close(self._consumer, CLOSE_TIMEOUT_S)
