"""A producer whose turn is one request to each broker, whatever number of topic-partitions it writes to.

librdkafka sends a request for each topic-partition (its issue 1700), and half of what a broker did was to answer those.
Here it is as Java's client does it: one request for all topic-partitions that a broker leads, one under way to each
broker, and what comes meanwhile goes with the next. I/O: Kafka, in a thread of its own.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from schemas.errors import DeliveryError
from streams.transport.batch import TopicPartition
from streams.transport.clients import ConnectionWatch, properties_of
from streams.transport.compression import NAMES
from streams.transport.parcels import Parcels
from streams.transport.producer import CLOSE_TIMEOUT_S, IN_FLIGHT_S, QUEUE_TIMEOUT_S, Output, Producer
from streams.transport.securing import are_known
from streams.transport.sender import Failure, Sender

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from streams.transport.batch import Headers


RECORD_BYTES_MAX = 1_000_000
"""What librdkafka takes in one record, too, unless `message.max.bytes` says otherwise."""

_KNOWN = properties_of("producer") | {"message.max.bytes"}


def producer_for(config: Mapping[str, Any], on_error: Callable[[DeliveryError], None] | None = None) -> Output:
    """The producer for a worker's or a host's turns; `config` comes from `client_config(..., "producer")`.

    Where the operator wants what only librdkafka can do (Kerberos, tokens, key stores, fewer acknowledgements, any
    property that is not known here), it is librdkafka's.
    """
    is_ours = (
        are_known(config, _KNOWN)
        and config["enable.idempotence"] in {True, "true"}
        and str(config["acks"]) in {"all", "-1"}
        and config["compression.type"] in NAMES
    )
    return TurnProducer(config, on_error) if is_ours else Producer(config, on_error)


class TurnProducer:
    """As `Producer`, for those who name the partition of all that they send. One thread uses it.

    What is sent waits for `poll`, `drained` or `flush`, which say that the turn is over, and for
    10 ms at most, or `linger.ms` where that is more.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        on_error: Callable[[DeliveryError], None] | None = None,
        *,
        queue_timeout_s: float = QUEUE_TIMEOUT_S,
    ) -> None:
        self._rows_max = int(config["queue.buffering.max.messages"])
        self._bytes_max = int(config["queue.buffering.max.kbytes"]) * 1024
        self._record_max = int(config.get("message.max.bytes", RECORD_BYTES_MAX))
        self._parcels = Parcels(
            int(config["batch.num.messages"]), int(config["batch.size"]), str(config["compression.type"])
        )
        self._on_error, self._queue_timeout_s = on_error, queue_timeout_s
        self._watch = ConnectionWatch(str(config.get("client.id", "producer")))
        self._sender = Sender(config, self._parcels, self._watch)
        self._has_told = False

    def __len__(self) -> int:
        """Records handed over and not yet acknowledged."""
        return len(self._parcels)

    @property
    def has_output(self) -> bool:
        """Whether anything waits for a commit: never, for what is delivered counts."""
        return False

    def send(
        self, topic: str, partition: int, values: Sequence[bytes | None], keys: Sequence[bytes | None] | None = None
    ) -> None:
        """Hand over one partition's records in order; waits while there is no room.

        Raises DeliveryError when there is none for too long, a record is too large, or an earlier one failed.
        """
        self._add(topic, partition, values, keys, None)

    def send_one(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None = None,
        partition: int | None = None,
        headers: Headers | None = None,
    ) -> None:
        """Hand over one record, to a partition that has to be named. Raises as `send`."""
        if partition is None:
            raise ValueError(f"a record for {topic} needs a partition")
        self._add(topic, partition, [value], [key], headers)

    def poll(self) -> None:
        """The turn is over: what was sent goes. Raises DeliveryError if a delivery failed."""
        self._sender.hurry()
        self._raise_failure()

    def drained(self, timeout_s: float = 0.0) -> bool:
        """Whether all that was handed over is delivered, after `timeout_s` at most; DeliveryError if some failed."""
        self._sender.hurry()
        is_empty = self._settled(timeout_s)
        self._raise_failure()
        return is_empty

    def flush(self, timeout_s: float) -> None:
        """Returns once all that was handed over is delivered; DeliveryError if it failed or takes over `timeout_s`."""
        if not self.drained(timeout_s):
            raise DeliveryError("", len(self), f"not acknowledged within {timeout_s:g} s")

    def abandon(self) -> None:
        """Partitions were lost: what is not sent yet is dropped. What is sent may have arrived, and is waited for."""
        self._parcels.drop_unsent()

    def withdraw(self, timeout_s: float = IN_FLIGHT_S) -> int:
        """Drop what is not sent yet, and give what is on its way `timeout_s` to arrive; then drop that, too, and send
        none of it again. Gives how many records were dropped; it is no failure.

        What was dropped on its way may still arrive, later than that: a broker cannot be called back.
        """
        dropped = self._parcels.drop_unsent()
        self._settled(timeout_s)
        return dropped + self._parcels.drop_all()

    def close(self, timeout_s: float = CLOSE_TIMEOUT_S) -> None:
        """Give what is handed over `timeout_s` to be delivered, then drop the rest; never raises."""
        self._sender.hurry()
        self._settled(timeout_s)
        self._parcels.drop_all()
        self._sender.close()

    def _settled(self, timeout_s: float) -> bool:
        """Whether nothing is to be waited for any more: all is delivered, or it failed; after `timeout_s` at most."""
        return self._parcels.wait_until(lambda rows, _: rows == 0 or self._failure is not None, timeout_s)

    @property
    def _failure(self) -> Failure | None:
        return self._sender.failure

    def _add(
        self,
        topic: str,
        partition: int,
        values: Sequence[bytes | None],
        keys: Sequence[bytes | None] | None,
        headers: Headers | None,
    ) -> None:
        self._raise_failure()
        if not values:
            return
        sizes = [len(value) if value is not None else 0 for value in values]
        if max(sizes) > self._record_max:
            raise DeliveryError(topic, len(values), f"a record of {max(sizes)} bytes; {self._record_max} may be")
        self._wait_for_room(topic, len(values), sum(sizes))
        now, at_ms = time.monotonic(), time.time_ns() // 1_000_000
        self._parcels.add(TopicPartition(topic, partition), values, keys, now, at_ms, headers)
        self._sender.nudge()

    def _wait_for_room(self, topic: str, rows: int, size: int) -> None:
        """There is always room for something where nothing waits, however much that is."""

        def has_room(held: int, held_bytes: int) -> bool:
            fits = held + rows <= self._rows_max and held_bytes + size <= self._bytes_max
            return fits or held == 0 or self._failure is not None

        if has_room(*self._parcels.held):
            return
        self._sender.hurry()
        in_time = self._parcels.wait_until(has_room, self._queue_timeout_s)
        self._raise_failure()
        if not in_time:
            raise DeliveryError(topic, rows, f"the local queue stayed full for {self._queue_timeout_s:g} s")

    def _raise_failure(self) -> None:
        if (failure := self._failure) is None:
            return
        error = DeliveryError(*failure)
        if not self._has_told and self._on_error is not None:
            self._has_told = True
            self._on_error(error)
        raise error
