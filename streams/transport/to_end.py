"""When a log is read up to where it ended: what is before that has come, or there is nothing.

Transaction markers take offsets and are never seen, and neither is what a transaction wrote that was aborted: so the
end may be reached without a record there. I/O: the clock.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from streams.transport.batch import Batch, TopicPartition
from streams.transport.clients import HangingTransactionError, TransportError
from streams.transport.requests import NO_OFFSET, TP

if TYPE_CHECKING:
    from collections.abc import Iterator

TPEnd = TypeVar("TPEnd", bound=tuple[str, int])

Reading: TypeAlias = tuple[Callable[[], list[Batch]], Callable[[], Mapping[TopicPartition, int]]]
"""What `up_to` asks: `read` and `at_end`."""

IDLE_TIMEOUT_S = 30.0
SWEEP_S = 20.0
"""How long after its time a transaction is aborted at the latest: brokers look each 10 s, if nobody said otherwise."""


def unread(
    starts: Mapping[TP, int], until: Mapping[TPEnd, int]
) -> tuple[dict[TopicPartition, int], dict[TopicPartition, int]]:
    """From where and up to where to read, of those of which anything is to be read."""
    began = {TopicPartition(*tp): start for tp, start in starts.items()}
    ends = {TopicPartition(*tp): end for tp, end in until.items()}
    pending = {tp: end for tp, end in ends.items() if began[tp] < end}
    return {tp: began[tp] for tp in pending}, pending


def up_to(
    until: Mapping[TopicPartition, int],
    read: Callable[[], list[Batch]],
    at_end: Callable[[], Mapping[TopicPartition, int]],
    idle_timeout_s: float,
    transaction_s: float,
) -> Iterator[Batch]:
    """What `read` brings, until all of that is read; `until` is as `unread` gives it.

    `at_end`: of what is read as far as it goes, by the last `read`, where that is. Raises as
    `BatchConsumer.read_to_end`.
    """
    pending, moved_at = dict(until), time.monotonic()
    while pending:
        batches = read()
        for batch in batches:
            for owner, last in batch.ends.items():
                if last + 1 >= pending.get(TopicPartition(*owner), NO_OFFSET):
                    pending.pop(TopicPartition(*owner), None)
            yield batch
        ended = at_end()
        for tp in [tp for tp, end in pending.items() if ended.get(tp, NO_OFFSET) >= end]:
            del pending[tp]
        now = time.monotonic()
        if batches or not pending:
            moved_at = now
        elif now - moved_at > idle_timeout_s:
            _give_up(pending, ended, now - moved_at > transaction_s + SWEEP_S)


def _give_up(pending: Mapping[TopicPartition, int], ended: Mapping[TopicPartition, int], is_overdue: bool) -> None:
    """Raises, but where all that is left is a transaction, and that may yet end."""
    open_from = {tp: ended[tp] for tp in sorted(pending) if tp in ended}
    if len(open_from) < len(pending):
        raise TransportError(f"{len(pending)} topic-partitions could not be read to their end: {sorted(pending)[:3]}")
    if is_overdue:
        raise HangingTransactionError(
            f"{len(pending)} topic-partitions hold a transaction that is long over, and that the broker neither "
            f"commits nor aborts; it begins at {', '.join(map(_place, list(open_from.items())[:3]))}. An operator "
            "can end it: kafka-transactions.sh abort --topic T --partition P --start-offset OFFSET"
        )


def _place(found: tuple[TopicPartition, int]) -> str:
    (topic, partition), offset = found
    return f"{topic}[{partition}]@{offset}"
