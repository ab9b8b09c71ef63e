"""A producer whose records count only together with the positions that they follow from: one transaction for each cut.

I/O: Kafka.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import confluent_kafka as ck

from schemas.codes import ErrorCode
from schemas.errors import DeliveryError
from streams.transport.clients import TransportError
from streams.transport.producer import CLOSE_TIMEOUT_S, Producer
from streams.transport.threads import DaemonPool, has_ended

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from streams.transport.batch import Headers

BEGIN_S = 120.0
"""As long as a producer without transactions sits out an outage."""

_SLICE_S = 5.0
# What a call gets beyond its own time-out: librdkafka's has been seen to wait on without regard to it.
OVERRUN_S = 5.0


class TransactionLostError(TransportError):
    """What was sent since the last commit does not count, or it is not known whether it does: recover from the logs."""

    error_code = ErrorCode.TRANSACTION_LOST


class TransactionalProducer(Producer):
    """As `Producer`; what is sent joins the open transaction, which `commit` ends. `start` comes before all else.

    While a commit is under way, what is sent is kept back for the next transaction, so that nothing of a turn is in
    two. Whoever starts under the same `transactional_id` fences this one. After a TransactionLostError (raised by
    `commit`, and by all that comes after it) there is nothing to be done with it but `close`.
    """

    def __init__(self, config: Mapping[str, Any], transactional_id: str, timeout_ms: int) -> None:
        # The transaction's time bounds all that is done in it; librdkafka refuses longer ones.
        within = {
            "message.timeout.ms": timeout_ms,
            "socket.timeout.ms": min(int(config.get("socket.timeout.ms", timeout_ms)), timeout_ms - 100),
        }
        own = {"enable.idempotence": True, "transactional.id": transactional_id, "transaction.timeout.ms": timeout_ms}
        super().__init__({**config, **within, **own})
        self._id, self._timeout_s = transactional_id, timeout_ms / 1000
        self._calls = DaemonPool("pointsman-transaction", 1)
        self._kept: list[Callable[[], None]] = []
        self._is_open, self._is_committing, self._has_output = False, False, False
        self._lost: TransactionLostError | None = None

    @property
    def has_output(self) -> bool:
        """Whether anything was sent that no commit has covered yet."""
        return self._has_output

    async def start(self, is_waited_for: Callable[[], bool]) -> None:
        """Fences whoever had the id before, ends what it left open, and begins.

        Waits for a broker for two minutes at most, and while `is_waited_for`. Raises TransportError.
        """
        deadline = time.monotonic() + BEGIN_S
        while not self._is_open:
            try:
                await self._calls.run(self._begin_first)
                self._is_open = True
            except ck.KafkaException as raised:
                error = raised.args[0]
                if not error.retriable() or time.monotonic() > deadline or not is_waited_for():
                    why = f"no transaction can begin under the id {self._id}: {error.str()}"
                    raise TransportError(why) from raised

    def send(
        self, topic: str, partition: int, values: Sequence[bytes | None], keys: Sequence[bytes | None] | None = None
    ) -> None:
        """As `Producer.send`; the columns must not change afterwards."""
        self._add(lambda: Producer.send(self, topic, partition, values, keys))

    def send_one(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None = None,
        partition: int | None = None,
        headers: Headers | None = None,
    ) -> None:
        self._add(lambda: Producer.send_one(self, topic, value, key, partition, headers))

    def poll(self) -> None:
        if self._is_committing:  # which polls by itself
            self._raise_failure()
        else:
            super().poll()

    def drained(self, timeout_s: float = 0.0) -> bool:
        """Whether a commit may begin, which delivers what is still to be delivered."""
        del timeout_s
        self._raise_failure()
        return not self._is_committing

    async def commit(self, positions: Mapping[tuple[str, int], tuple[int, str]], membership: Any) -> None:
        """What was sent so far and these next positions with their metadata, or nothing of it.

        The broker takes it only while `membership`, from the driver, is of the group's generation; so there must be a
        position, or a worker that has lost its partitions could commit output. Raises TransactionLostError.
        """
        self._raise_failure()
        assert positions, "nothing would be fenced"
        offsets = [ck.TopicPartition(*tp, offset, metadata=meta) for tp, (offset, meta) in positions.items()]
        self._is_committing, self._has_output = True, False
        try:
            call = self._calls.run(self._end, offsets, membership)
            await asyncio.wait_for(call, 2 * self._timeout_s + OVERRUN_S)
        except ck.KafkaException as raised:
            raise self._lose(f"a transaction did not commit: {raised.args[0].str()}") from raised
        except TimeoutError as raised:
            raise self._lose("a transaction did not come to an end, neither well nor badly") from raised
        except asyncio.CancelledError:
            self._lose("a transaction was not waited for")
            raise
        self._is_committing = False
        self._watch.up()
        self._bytes_since_empty = 0
        kept, self._kept = self._kept, []
        for send in kept:
            self._add(send)

    def abandon(self) -> None:
        """What was sent since the last commit must not count. Raises TransactionLostError."""
        raise self._lose("partitions were lost with a transaction open")

    def withdraw(self, timeout_s: float = 0.0) -> int:
        """Nothing has to be: what no commit covers does not count."""
        del timeout_s
        return 0

    def close(self, timeout_s: float = CLOSE_TIMEOUT_S) -> None:
        """Takes back what is not committed, so that nobody has to wait until it times out; never raises."""
        if self._is_open and not self._is_committing:
            with suppress(ck.KafkaException):
                has_ended(self._calls.submit(self._producer.abort_transaction, timeout_s), timeout_s + 1.0)
        self._is_open = False
        self._calls.close()

    def _begin_first(self) -> None:
        self._producer.init_transactions(_SLICE_S)
        self._producer.begin_transaction()

    def _end(self, offsets: list[ck.TopicPartition], membership: Any) -> None:
        self._producer.send_offsets_to_transaction(offsets, membership, self._timeout_s)
        self._producer.commit_transaction(self._timeout_s)
        self._producer.begin_transaction()

    def _add(self, send: Callable[[], None]) -> None:
        self._has_output = True
        if self._is_committing:
            self._raise_failure()
            self._kept.append(send)
            return
        try:
            send()
        except DeliveryError as error:
            raise self._lose(str(error)) from error

    def _lose(self, why: str) -> TransactionLostError:
        self._lost = self._lost or TransactionLostError(why)
        return self._lost

    def _raise_failure(self) -> None:
        if self._lost is not None:
            raise self._lost
        try:
            super()._raise_failure()
        except DeliveryError as error:
            raise self._lose(str(error)) from error
