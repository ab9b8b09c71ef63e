"""The producer: whole columns of records at once, delivered or said to be not.

I/O: Kafka.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Protocol

import confluent_kafka as ck

from schemas.errors import DeliveryError
from streams.transport.clients import ConnectionWatch, opened

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from streams.transport.batch import Headers

QUEUE_TIMEOUT_S = 120.0
CLOSE_TIMEOUT_S = 5.0
IN_FLIGHT_S = 1.0
"""How long what is on its way to a broker is waited for before it is given up: a request's time, not an outage's."""

_POLL_S = 0.01
_QUEUE_FULL = ck.KafkaError._QUEUE_FULL  # noqa: SLF001
_PURGED = frozenset({ck.KafkaError._PURGE_QUEUE, ck.KafkaError._PURGE_INFLIGHT})  # noqa: SLF001


class Sends(Protocol):
    """A producer as a column of records needs it; it raises DeliveryError."""

    def send(
        self, topic: str, partition: int, values: Sequence[bytes | None], keys: Sequence[bytes | None] | None = None
    ) -> None: ...


class SendsOne(Protocol):
    """A producer as a single record needs it; it raises DeliveryError."""

    def send_one(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None = None,
        partition: int | None = None,
        headers: Headers | None = None,
    ) -> None: ...


class Output(Sends, SendsOne, Protocol):
    """A producer as worker and host use it: whole columns, to partitions that they name. See Producer for each."""

    def __len__(self) -> int: ...

    @property
    def has_output(self) -> bool: ...

    def poll(self) -> None: ...

    def drained(self, timeout_s: float = 0.0) -> bool: ...

    def flush(self, timeout_s: float) -> None: ...

    def abandon(self) -> None: ...

    def withdraw(self, timeout_s: float = IN_FLIGHT_S) -> int: ...

    def close(self, timeout_s: float = CLOSE_TIMEOUT_S) -> None: ...


class Producer:
    """Idempotent, acknowledged by all replicas. `config` comes from `client_config(..., "producer")`.

    Failures are remembered and raised as DeliveryError by the next call; `on_error` hears of the first at once, inside
    the call that notices it. Success makes no Python call. One thread uses it.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        on_error: Callable[[DeliveryError], None] | None = None,
        *,
        queue_timeout_s: float = QUEUE_TIMEOUT_S,
    ) -> None:
        self._watch = ConnectionWatch(str(config.get("client.id", "producer")))
        settings = {"on_delivery": self._delivered, "delivery.report.only.error": True, **config}
        self._producer = opened(ck.Producer, settings, self._watch)
        self._on_error, self._queue_timeout_s = on_error, queue_timeout_s
        self._rows_max = int(config.get("queue.buffering.max.messages", 100_000))
        # Half of librdkafka's own bound: it counts its overhead too, and refusing a row in mid-batch costs the order.
        self._bytes_max = int(config.get("queue.buffering.max.kbytes", 1_048_576)) * 1024 // 2
        self._bytes_since_empty = 0
        self._failed, self._failed_topic, self._why = 0, "", ""
        self._purged = 0

    def __len__(self) -> int:
        """Records handed over and not yet acknowledged."""
        return len(self._producer)

    @property
    def has_output(self) -> bool:
        """Whether anything waits for a commit: never, for what is delivered counts."""
        return False

    def send(
        self, topic: str, partition: int, values: Sequence[bytes | None], keys: Sequence[bytes | None] | None = None
    ) -> None:
        """Hand over one partition's records in order; waits while the local queue is full.

        Raises DeliveryError when the queue stays full for too long, a record is refused, or an earlier one failed.
        """
        self._raise_failure()
        rows: list[dict[str, Any]] = (
            [{"value": value} for value in values]
            if keys is None
            else [{"value": value, "key": key} for value, key in zip(values, keys, strict=True)]
        )
        for start in range(0, len(rows), self._rows_max):
            part = rows[start : start + self._rows_max]
            size = sum(len(value) for value in values[start : start + self._rows_max] if value is not None)
            self._reserve(topic, len(part), size)
            self._hand_over(topic, partition, part)
        self._producer.poll(0)
        self._raise_failure()

    def send_one(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None = None,
        partition: int | None = None,
        headers: Headers | None = None,
    ) -> None:
        """Hand over one record; without a partition its key decides, as Java's clients do it. Raises as `send`."""
        self._raise_failure()
        self._reserve(topic, 1, len(value or b""))
        where: dict[str, Any] = {} if partition is None else {"partition": partition}
        if headers:
            where["headers"] = headers
        deadline = time.monotonic() + self._queue_timeout_s
        while True:
            try:
                self._producer.produce(topic, value=value, key=key, **where)
                break
            except BufferError:
                self._wait_for_room(topic, 1, deadline)
            except ck.KafkaException as raised:
                raise DeliveryError(topic, 1, raised.args[0].str()) from raised
        self._producer.poll(0)
        self._raise_failure()

    def poll(self) -> None:
        """Notice what happened meanwhile; raises DeliveryError if a delivery failed."""
        self._producer.poll(0)
        self._raise_failure()

    def drained(self, timeout_s: float = 0.0) -> bool:
        """Whether all that was handed over is delivered, after `timeout_s` at most; DeliveryError if some failed."""
        remaining = self._producer.flush(timeout_s)
        self._raise_failure()
        if remaining == 0:
            self._watch.up()
            self._bytes_since_empty = 0
        return bool(remaining == 0)

    def flush(self, timeout_s: float) -> None:
        """Returns once all that was handed over is delivered; DeliveryError if it failed or takes over `timeout_s`."""
        if not self.drained(timeout_s):
            raise DeliveryError("", len(self._producer), f"not acknowledged within {timeout_s:g} s")

    def abandon(self) -> None:
        """Partitions were lost: what is not sent yet is dropped. What is sent may have arrived, and is waited for."""
        self._producer.purge(in_flight=False)
        self._producer.poll(0)

    def withdraw(self, timeout_s: float = IN_FLIGHT_S) -> int:
        """Drop what is not sent yet, and give what is on its way `timeout_s` to arrive; then drop that, too, and send
        none of it again. Gives how many records were dropped; it is no failure.

        What was dropped on its way may still arrive, later than that: a broker cannot be called back.
        """
        # Counted by their reports: what is acknowledged meanwhile leaves the queue, too.
        before = self._purged
        self._producer.purge(in_flight=False)
        if self._producer.flush(timeout_s):
            self._producer.purge()
            self._producer.poll(0)
        return self._purged - before

    def close(self, timeout_s: float = CLOSE_TIMEOUT_S) -> None:
        """Give what is handed over `timeout_s` to be delivered, then drop the rest; never raises."""
        self._producer.flush(timeout_s)
        self._producer.purge()
        self._producer.flush(1.0)

    def _reserve(self, topic: str, rows: int, size: int) -> None:
        """Wait until librdkafka has room for all rows: it would take later rows after refusing earlier ones."""
        deadline = time.monotonic() + self._queue_timeout_s
        while len(self._producer) + rows > self._rows_max:
            self._wait_for_room(topic, rows, deadline)
        if self._bytes_since_empty and self._bytes_since_empty + size > self._bytes_max:
            while len(self._producer):
                self._wait_for_room(topic, rows, deadline)
            self._bytes_since_empty = 0
        self._bytes_since_empty += size

    def _hand_over(self, topic: str, partition: int, rows: list[dict[str, Any]]) -> None:
        deadline = time.monotonic() + self._queue_timeout_s
        while rows:
            try:
                taken = self._producer.produce_batch(topic, rows, partition=partition)
            except BufferError:
                taken = 0
            if taken == len(rows):
                return
            # The call takes what fits and marks the rest in their own dicts, raising nothing.
            refused = [row for row in rows if "_error" in row] if taken else rows
            for row in refused:
                error = row.pop("_error", None)
                if isinstance(error, ck.KafkaError) and error.code() != _QUEUE_FULL:
                    raise DeliveryError(topic, len(refused), error.str())
            rows = refused
            self._wait_for_room(topic, len(rows), deadline)

    def _wait_for_room(self, topic: str, rows: int, deadline: float) -> None:
        self._producer.poll(_POLL_S)
        self._raise_failure()
        if time.monotonic() > deadline:
            raise DeliveryError(topic, rows, f"the local queue stayed full for {self._queue_timeout_s:g} s")

    def _delivered(self, error: ck.KafkaError | None, message: ck.Message) -> None:
        if error is None:
            return
        if error.code() in _PURGED:
            self._purged += 1
            return
        self._failed += 1
        if self._failed == 1:
            self._failed_topic, self._why = message.topic() or "", error.str()
            if self._on_error:
                self._on_error(DeliveryError(self._failed_topic, 1, self._why))

    def _raise_failure(self) -> None:
        if self._watch.fatal is not None:
            raise DeliveryError(self._failed_topic, max(self._failed, 1), self._watch.fatal.str())
        if self._failed:
            raise DeliveryError(self._failed_topic, self._failed, self._why)
