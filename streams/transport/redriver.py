"""Sends records back from the dead topic, each in one transaction with the marker that says so: both or neither.

One id for each deployment: whoever begins fences who was at it, and sees all that one has committed. I/O: Kafka.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import confluent_kafka as ck

from schemas.access import REDRIVE_ID
from schemas.codes import ErrorCode
from schemas.deadletter import Headers, Origin
from schemas.redrive import Redriven, marker_headers
from schemas.topology import Topology
from streams.transport.clients import BrokerSettings, ConnectionWatch, TransportError, client_config, opened

NAME = REDRIVE_ID
BEGIN_S = 30.0
_SLICE_S = 5.0
_POLL_S = 0.1
_FENCED = frozenset(
    {
        ck.KafkaError._FENCED,  # noqa: SLF001 - the library has no other name for it
        ck.KafkaError.INVALID_PRODUCER_EPOCH,
        ck.KafkaError.PRODUCER_FENCED,
    }
)


class RedriveError(TransportError):
    """What was under way was not redriven, and is not marked as if it had been."""

    error_code = ErrorCode.REDRIVE


@dataclass(frozen=True, slots=True)
class Return:
    """A record that goes back to its origin, and the dead letter that it was: `partition:offset` of the dead topic."""

    origin: Origin
    key: bytes | None
    value: bytes | None
    headers: Headers
    attempt: int
    letter_partition: int
    letter_offset: int
    changed: str = ""


class Redriver:
    """Use it in `with`: entering fences whoever redrives already. Raises RedriveError."""

    def __init__(self, settings: BrokerSettings, topology: Topology) -> None:
        config = client_config(settings, topology, "producer", name=NAME)
        timeout_ms = topology.limits.transaction_timeout_ms
        self._dead, self._timeout_s = topology.topics().dead, timeout_ms / 1000
        self._watch = ConnectionWatch(NAME)
        self._producer = opened(
            ck.Producer,
            {
                **config,
                "enable.idempotence": True,
                "transactional.id": f"{topology.prefix}{NAME}",
                # A transaction that is left open holds up all readers of these partitions.
                "transaction.timeout.ms": timeout_ms,
                "message.timeout.ms": timeout_ms,
                "socket.timeout.ms": min(int(config.get("socket.timeout.ms", timeout_ms)), timeout_ms - 100),
            },
            self._watch,
        )

    def __enter__(self) -> Self:
        deadline = time.monotonic() + BEGIN_S
        while True:
            try:
                self._producer.init_transactions(_SLICE_S)
            except ck.KafkaException as raised:
                error = raised.args[0]
                if not error.retriable() or time.monotonic() > deadline:
                    raise RedriveError(f"No redrive can begin: {error.str()}. Nothing was redriven.") from raised
            else:
                return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._producer.flush(_POLL_S)

    def send(self, returns: Sequence[Return], at_ms: int) -> list[int]:
        """Sends them, and says at which offset each stands now. All of them or none: raises RedriveError.

        Where even the answer to the commit is lost, whoever begins next learns from the markers which it was.
        """
        offsets = [-1] * len(returns)
        try:
            self._producer.begin_transaction()
            for place, each in enumerate(returns):
                where = (each.origin.topic, each.origin.partition)
                self._produce(*where, each.key, each.value, each.headers, _keep(offsets, place))
            self._producer.flush(self._timeout_s)
            for each, offset in zip(returns, offsets, strict=True):
                marker = Redriven(each.origin, each.letter_offset, offset, each.attempt, at_ms, each.changed)
                self._produce(self._dead, each.letter_partition, None, None, marker_headers(marker))
            self._commit()
        except (ck.KafkaException, BufferError) as raised:
            with suppress(ck.KafkaException):
                self._producer.abort_transaction(_SLICE_S)
            raise _explained(raised) from raised
        return offsets

    def _commit(self) -> None:
        deadline = time.monotonic() + self._timeout_s
        while True:
            try:
                self._producer.commit_transaction(self._timeout_s)
            except ck.KafkaException as raised:
                if not raised.args[0].retriable() or time.monotonic() > deadline:
                    raise
            else:
                return

    def _produce(
        self,
        topic: str,
        partition: int,
        key: bytes | None,
        value: bytes | None,
        headers: Headers,
        on_delivery: Any = None,
    ) -> None:
        deadline = time.monotonic() + self._timeout_s
        while True:
            try:
                self._producer.produce(
                    topic, value=value, key=key, partition=partition, headers=headers, on_delivery=on_delivery
                )
            except BufferError:
                if time.monotonic() > deadline:
                    raise
                self._producer.poll(_POLL_S)
            else:
                return


def _keep(offsets: list[int], place: int) -> Any:
    def delivered(error: ck.KafkaError | None, message: ck.Message) -> None:
        if error is None:
            offsets[place] = message.offset()

    return delivered


def _explained(raised: Exception) -> RedriveError:
    error = raised.args[0] if isinstance(raised, ck.KafkaException) else None
    if error is not None and error.code() in _FENCED:
        return RedriveError(
            "Another redrive of this deployment has begun, and took over. What this one has reported as redriven is; "
            "nothing else. Wait for the other one, then run this again: it goes on where both have stopped."
        )
    why = error.str() if error is not None else "the client's queue is full"
    return RedriveError(
        f"Kafka did not confirm a part of the redrive: {why}. What was reported before counts. Run it again: it sees "
        "what became of that part, and goes on from there."
    )
