"""Sends parcels: what waits for a broker in one request, numbered (KIP-98), and again until the broker has it.

A broker takes a record batch whose producer, topic-partition and number it has seen already for delivered. So an answer
that never comes costs a repetition, and no record stands twice. I/O: Kafka, on an event loop in a thread of its own.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from aiokafka.errors import (
    BrokerResponseError,
    CorruptRecordException,
    DuplicateSequenceNumber,
    NoError,
    TopicAuthorizationFailedError,
    for_code,
)
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.protocol.transaction import InitProducerIdRequest

from streams.transport.batch import TopicPartition
from streams.transport.brokers import UNREACHABLE, Brokers
from streams.transport.clients import ConnectionWatch
from streams.transport.parcels import Parcel, Parcels
from streams.transport.securing import security_of

LINGER_S = 0.01
"""How long records wait for company where nobody says that the turn is over; `linger.ms` where that is more."""

_ALL_REPLICAS = -1
_UNKNOWN = -1
_THERE = (NoError, DuplicateSequenceNumber)
_ON_THE_WAY = (CorruptRecordException,)
"""What is wrong with the request and not with what was sent, though aiokafka knows no remedy."""
_NO_TRANSACTION_MS = -1
_BACKOFF_S = 0.05
_BACKOFF_MAX_S = 1.0
_LOOK_S = 0.5
_JOIN_S = 1.0


class Failure(NamedTuple):
    """Why records were given up: the topic of the first ones, how many, and what was said. For DeliveryError."""

    topic: str
    rows: int
    why: str


def said_of(error: type[Any]) -> str:
    """An error of the broker's, by its name in the protocol and its words."""
    return f"{error.message}: {error.description}"


class Sender:
    """`config` as `TurnProducer` has it. `failure` is the first one; nothing is sent after it.

    Raises ConfigurationError as `security_of`.
    """

    def __init__(self, config: Mapping[str, Any], parcels: Parcels, watch: ConnectionWatch) -> None:
        self._config, self._parcels, self._watch = config, parcels, watch
        self._security = security_of(config)
        self._timeout_s = int(config["message.timeout.ms"]) / 1000
        self._request_s = min(int(config["socket.timeout.ms"]) / 1000, self._timeout_s)
        self._linger_s = max(float(config["linger.ms"]) / 1000, LINGER_S)
        self.failure: Failure | None = None
        self._loop = asyncio.new_event_loop()
        self._due = asyncio.Event()
        self._lingering = self._hurried = False
        self._is_closing = False
        self._identity = (-1, -1)
        self._topics: set[str] = set()
        self._requests: dict[int, asyncio.Task[None]] = {}
        self._thread = threading.Thread(target=self._serve, name="pointsman-sender", daemon=True)
        self._thread.start()

    def nudge(self) -> None:
        """Something came; it may wait for company. Any thread."""
        if not (self._lingering or self._hurried):
            self._lingering = True
            self._tell(self._loop.call_later, self._linger_s, self._due.set)

    def hurry(self) -> None:
        """What came is to wait for company no longer. Any thread.

        What waits for a request under way, or for a broker, goes after it, at whatever pace callers poll.
        """
        if self._lingering and not self._hurried:
            self._hurried = True
            self._tell(self._due.set)

    def close(self) -> None:
        """Ends the thread; what is not delivered by now is not."""
        self._is_closing = True
        self._tell(self._due.set)
        self._thread.join(_JOIN_S)

    def _tell(self, *call: Any) -> None:
        with suppress(RuntimeError):  # it has ended
            self._loop.call_soon_threadsafe(*call)

    def _serve(self) -> None:
        try:
            self._loop.run_until_complete(self._run())
        except BaseException as error:  # noqa: BLE001 - whoever sends has to hear of it
            self._fail("", len(self._parcels), f"what sends has ended: {error!r}")
        finally:
            self._loop.close()

    async def _run(self) -> None:
        brokers = Brokers(self._config, self._security, self._request_s)
        try:
            await self._until_answered(lambda: self._introduce(brokers))
            while not self._is_closing and self.failure is None:
                await self._wait()
                await self._send_what_waits(brokers)
        finally:
            for request in self._requests.values():
                request.cancel()
            await asyncio.gather(*self._requests.values(), return_exceptions=True)
            brokers.close()

    async def _wait(self) -> None:
        """Until something is to be sent; now and then, to see what has waited too long."""
        try:
            async with asyncio.timeout(_LOOK_S if len(self._parcels) else None):
                await self._due.wait()
        except TimeoutError:
            pass
        # In this order: what is sent from here on sets them anew.
        self._due.clear()
        self._lingering = self._hurried = False

    async def _introduce(self, brokers: Brokers) -> None:
        await brokers.refresh(())
        answer = await brokers.send(brokers.any(), InitProducerIdRequest(None, _NO_TRANSACTION_MS))
        error = for_code(answer.error_code)
        if error.retriable:
            raise error
        if error is not NoError:
            self._fail("", len(self._parcels), f"the broker gives this producer no id: {said_of(error)}")
        self._identity = (answer.producer_id, answer.producer_epoch)

    async def _until_answered(self, ask: Callable[[], Awaitable[None]]) -> None:
        """Asks until it is answered, or what waits has waited too long."""
        backoff_s = _BACKOFF_S
        while not self._is_closing and self.failure is None:
            try:
                await ask()
            except UNREACHABLE as error:
                if not isinstance(error, BrokerResponseError):
                    self._watch.down(str(error))
                self._expire(str(error) or repr(error))
                await asyncio.sleep(backoff_s)
                backoff_s = min(2 * backoff_s, _BACKOFF_MAX_S)
            else:
                self._watch.up()
                return

    async def _send_what_waits(self, brokers: Brokers) -> None:
        waiting = self._parcels.waiting()
        unknown = {tp.topic for tp in waiting if brokers.leader(tp) is None}
        if unknown:
            self._topics |= unknown
            await self._until_answered(lambda: brokers.refresh(self._topics))
            if forbidden := unknown & brokers.forbidden:
                self._fail(min(forbidden), len(self._parcels), said_of(TopicAuthorizationFailedError))
            if any(brokers.leader(tp) is None for tp in waiting):
                self._expire("its topic-partition has no leader")
                self._loop.call_later(_BACKOFF_S, self._due.set)
        for node, parcels in self._parcels.take(brokers.leader, self._requests.keys()).items():
            request = self._requests[node] = asyncio.create_task(self._request(brokers, node, parcels))
            request.add_done_callback(self._look_at)

    def _look_at(self, request: asyncio.Task[None]) -> None:
        """Nobody awaits it to hear of a mistake of ours."""
        if not request.cancelled() and (error := request.exception()) is not None:
            self._fail("", len(self._parcels), f"a request went wrong: {error!r}")

    async def _request(self, brokers: Brokers, node: int, parcels: list[Parcel]) -> None:
        by_topic: dict[str, list[tuple[int, bytes]]] = {}
        for parcel in parcels:
            by_topic.setdefault(parcel.tp.topic, []).append((parcel.tp.partition, parcel.data(*self._identity)))
        request = ProduceRequest(None, _ALL_REPLICAS, int(self._request_s * 1000), list(by_topic.items()))
        try:
            self._settle(parcels, await brokers.send(node, request))
        except UNREACHABLE as error:
            self._parcels.put_back(parcels)
            self._expire(str(error) or repr(error))
            await asyncio.sleep(_BACKOFF_S)
            await self._until_answered(lambda: brokers.refresh(self._topics))
        del self._requests[node]
        if self._parcels.has_unsent:
            self._due.set()

    def _settle(self, parcels: list[Parcel], answer: Any) -> None:
        """What the broker says of each topic-partition. Raises what may be better the next time."""
        said = {
            TopicPartition(topic, partition): error for topic, parts in answer.topics for partition, error, *_ in parts
        }
        delivered, again = [], []
        for parcel in parcels:
            error = for_code(said.get(parcel.tp, _UNKNOWN))
            if error in _THERE:
                delivered.append(parcel)
            elif error.retriable or error in _ON_THE_WAY:
                again.append(error)
            elif self._parcels.is_under_way(parcel):
                self._fail(parcel.tp.topic, parcel.rows, said_of(error))
        self._parcels.delivered(delivered)
        if again:
            raise again[0]

    def _expire(self, why: str) -> None:
        oldest = self._parcels.oldest()
        if oldest is not None and time.monotonic() - oldest.since > self._timeout_s:
            self._fail(oldest.tp.topic, oldest.rows, f"not delivered within {self._timeout_s:g} s: {why}")

    def _fail(self, topic: str, rows: int, why: str) -> None:
        self.failure = self.failure or Failure(topic, rows, why)
        self._due.set()
        self._parcels.wake()
