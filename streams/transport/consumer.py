"""A consumer that reads batches: for everything that reads Kafka and is not the Faust worker.

I/O: Kafka.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import confluent_kafka as ck

from streams.transport import requests
from streams.transport.batch import Batch, TopicPartition, by_channel
from streams.transport.bounded import CLOSE_TIMEOUT_S, close, rebalance_callback
from streams.transport.clients import ConnectionWatch, StrandedError, TransportError, opened
from streams.transport.requests import NO_OFFSET, TP, ours, theirs
from streams.transport.to_end import IDLE_TIMEOUT_S, Reading, TPEnd, unread, up_to

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from streams.transport.gathering import Gathering

    RebalanceCallback = Callable[[list[TopicPartition]], None]
    AssignCallback = Callable[[list[TopicPartition]], "Begin | None"]

log = logging.getLogger("pointsman.kafka")

WAKE_S = 0.05
COMPANY_S = 0.005
"""How long who reads to an end gathers once a record has come: he wants that end, and no full batches."""


class Begin(NamedTuple):
    """How what was assigned is read: from where, where that is not what is committed; and what is paused at first."""

    offsets: Mapping[TopicPartition, int] = {}
    paused: Collection[TopicPartition] = ()


class GroupConsumer(Protocol):
    """What a member of a group needs of its consumer; see `BatchConsumer`."""

    def subscribe(
        self,
        topics: Iterable[str],
        *,
        on_assign: AssignCallback | None = None,
        on_revoke: RebalanceCallback | None = None,
        on_lost: RebalanceCallback | None = None,
    ) -> None: ...
    def poll(self) -> list[Batch]: ...
    def pause(self, tps: Iterable[tuple[str, int]]) -> None: ...
    def resume(self, tps: Iterable[tuple[str, int]]) -> None: ...
    def commit(self, positions: Mapping[TP, tuple[int, str]]) -> None: ...
    def committed(self, tps: Iterable[tuple[str, int]]) -> dict[TopicPartition, tuple[int, str]]: ...
    def generation(self) -> int: ...
    def watermarks(self, tps: Iterable[tuple[str, int]]) -> dict[TopicPartition, tuple[int, int]]: ...
    def lag(self) -> dict[TopicPartition, int]: ...
    def partitions_of(self, topics: Iterable[str]) -> list[TopicPartition]: ...
    def close(self, timeout_s: float) -> None: ...


class BatchConsumer:
    """Reads channel-wise batches of at most `rows_max` records and `bytes_max` bytes of keys and values.

    `config` comes from `client_config(..., "consumer")`; `channel_of` names the channel of a topic. One thread polls;
    rebalance callbacks run inside its `poll`. A poll waits `poll_s` for its rows; with `gathering`, so long for the
    first one, and then as that says for company.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        channel_of: Callable[[str], str],
        *,
        rows_max: int,
        bytes_max: int,
        poll_s: float,
        with_headers: bool = False,
        gathering: Gathering | None = None,
    ) -> None:
        self._config = config
        self.watch = ConnectionWatch(str(config.get("client.id", "consumer")))
        self._consumer = opened(ck.Consumer, {"enable.partition.eof": True, **config}, self.watch)
        self._channel_of, self._with_headers = channel_of, with_headers
        self._rows_max, self._bytes_max, self._poll_s = rows_max, bytes_max, poll_s
        self._at_end: dict[TopicPartition, int] = {}
        self._paused: set[TopicPartition] = set()
        self._gathering, self._rebalances = gathering, 0

    def subscribe(
        self,
        topics: Iterable[str],
        *,
        on_assign: AssignCallback | None = None,
        on_revoke: RebalanceCallback | None = None,
        on_lost: RebalanceCallback | None = None,
    ) -> None:
        """Join the group. `on_revoke` may still commit; after `on_lost` (default: `on_revoke`) nothing may be.

        What is given up or lost is no longer paused when it comes back.
        """

        def assigned(_: ck.Consumer, partitions: list[ck.TopicPartition]) -> None:
            with self._rebalance():
                begin = on_assign(ours(partitions)) if on_assign else None
            if begin is not None:
                offsets = begin.offsets
                self._consumer.assign([ck.TopicPartition(*tp, offsets.get(tp, NO_OFFSET)) for tp in ours(partitions)])
                self.pause(begin.paused)

        def gone(told: RebalanceCallback | None) -> Callable[[ck.Consumer, list[ck.TopicPartition]], None]:
            def callback(_: ck.Consumer, partitions: list[ck.TopicPartition]) -> None:
                with self._rebalance():
                    if told:
                        told(ours(partitions))
                self._forget_pauses(ours(partitions))

            return callback

        names = list(topics)
        requests.connect(self._consumer, names[0])
        self._consumer.subscribe(
            names, on_assign=assigned, on_revoke=gone(on_revoke), on_lost=gone(on_lost or on_revoke)
        )

    @contextmanager
    def _rebalance(self) -> Iterator[None]:
        """Whoever is told of one is told within a poll."""
        self._rebalances += 1
        with rebalance_callback():
            yield

    def assign(self, positions: Mapping[TP, int]) -> None:
        """Read exactly these topic-partitions, from these offsets, outside any group."""
        self._at_end.clear()
        self._forget_pauses(self._paused)
        self._consumer.assign([ck.TopicPartition(*tp, offset) for tp, offset in positions.items()])

    def assignment(self) -> list[TopicPartition]:
        return ours(self._consumer.assignment())

    def poll(self, timeout_s: float | None = None) -> list[Batch]:
        """What arrived within `timeout_s` (default: `poll_s`), one batch or more per channel, or nothing.

        Raises TransportError when the consumer cannot go on (its position is gone, access denied, a fatal error).
        """
        return self._batches(self._messages(self._poll_s if timeout_s is None else timeout_s))

    def _batches(self, messages: Sequence[Any]) -> list[Batch]:
        records = records_of(messages, self.watch, self._note_end)
        if not records:
            return []
        self.watch.up()
        return by_channel(
            records,
            self._channel_of,
            rows_max=self._rows_max,
            bytes_max=self._bytes_max,
            with_headers=self._with_headers,
        )

    def _messages(self, wait_s: float) -> list[Any]:
        if self._gathering is None or self._rows_max == 1:
            return list(self._consumer.consume(self._rows_max, wait_s))
        first, rebalances = self._consumer.consume(1, wait_s), self._rebalances
        if not first:
            return []
        rest = self._consumer.consume(self._rows_max - 1, self._gathering.begin())
        self._gathering.end()
        # A rebalance served in between: what was read before it is read again, by whoever has the partition now.
        return [*first, *rest] if self._rebalances == rebalances else list(rest)

    def _promptly(self) -> list[Any]:
        """What is there, as soon as anything is: librdkafka's call waits for as many as it is asked for, whether or not
        there are so many, and that is the whole time for each few records before an end."""
        first = self._consumer.consume(1, self._poll_s)
        if not first or self._rows_max == 1:
            return list(first)
        return [*first, *self._consumer.consume(self._rows_max - 1, COMPANY_S)]

    def pause(self, tps: Iterable[tuple[str, int]]) -> None:
        if paused := {TopicPartition(*tp) for tp in tps}:
            self._paused |= paused
            self._consumer.pause(theirs(paused))

    def resume(self, tps: Iterable[tuple[str, int]]) -> None:
        resumed = theirs(tps)
        self._paused.difference_update(ours(resumed))
        self._consumer.resume(resumed)
        # Where all was paused, librdkafka's thread of that broker sleeps up to a second on; any request wakes it.
        with suppress(ck.KafkaException):
            self._consumer.offsets_for_times([ck.TopicPartition(p.topic, p.partition, 0) for p in resumed], WAKE_S)

    def _forget_pauses(self, tps: Iterable[TopicPartition]) -> None:
        """librdkafka would keep them paused in the next assignment, and nobody would know."""
        paused = self._paused.intersection(tps)
        self._paused -= paused
        self._consumer.resume(theirs(paused))

    def commit(self, positions: Mapping[TP, tuple[int, str]]) -> None:
        """Commit next offsets with metadata, and wait for the answer.

        Raises CommitRejectedError when the group has moved on, CommitUnavailableError when nobody answers,
        StrandedError when nobody will: the consumer is lost.
        """
        requests.commit(self._consumer, positions, self._config)

    def committed(self, tps: Iterable[tuple[str, int]]) -> dict[TopicPartition, tuple[int, str]]:
        """Committed next offset and metadata of each; (-1001, "") where nothing is committed."""
        return requests.committed(self._consumer, tps)

    def generation(self) -> int:
        """The group's generation in which this consumer has its partitions; -1 where it is in none."""
        return requests.generation(self._consumer)

    def offsets_for_times(self, times_ms: Mapping[TP, int]) -> dict[TopicPartition, int]:
        """Offset of the first record appended at or after each time; the end offset where there is none."""
        return requests.offsets_for_times(self._consumer, times_ms)

    def watermarks(self, tps: Iterable[tuple[str, int]]) -> dict[TopicPartition, tuple[int, int]]:
        """First offset held, and the offset after the last committed record, of each topic-partition."""
        return requests.watermarks(self._consumer, tps)

    def lag(self) -> dict[TopicPartition, int]:
        """Records appended and not yet read, of what is assigned; as of the last fetch, nothing is asked."""
        return requests.lag(self._consumer)

    def topics(self, known: str) -> list[str]:
        """Names of all topics that the broker shows this client, of which `known` is one."""
        return sorted(requests.listed(self._consumer, known))

    def partitions_of(self, topics: Iterable[str]) -> list[TopicPartition]:
        """All topic-partitions of the named topics. Raises TransportError where a topic is missing."""
        return requests.partitions_of(self._consumer, topics)

    def read_to_end(
        self,
        starts: Mapping[TP, int],
        until: Mapping[TPEnd, int],
        *,
        idle_timeout_s: float = IDLE_TIMEOUT_S,
        transaction_s: float = 0.0,
    ) -> Iterator[Batch]:
        """Everything from `starts` up to (not including) the offsets `until`, then stop.

        Takes over the consumer's assignment. Records past `until` may be among what the last batches hold. Where a
        transaction is open before `until`, its end is waited for; `transaction_s`: how long one may be open. Raises
        TransportError when nothing moves for `idle_timeout_s`, HangingTransactionError when nobody ends a transaction.
        """
        began, pending = unread(starts, until)
        with self._reading(began, pending) as (read, at_end):
            yield from up_to(pending, read, at_end, idle_timeout_s, transaction_s)

    @contextmanager
    def _reading(self, began: Mapping[TopicPartition, int], pending: Mapping[TopicPartition, int]) -> Iterator[Reading]:
        """From where, and up to where; gives what `up_to` asks."""
        del pending  # who reads so is told where logs end
        self.assign(began)
        try:
            yield lambda: self._batches(self._promptly()), lambda: self._at_end
        finally:
            # Nobody may go on fetching for who has read enough; a consumer may be closed by then.
            with suppress(ck.KafkaException, RuntimeError):
                self.assign({})

    def _note_end(self, message: Any) -> None:
        self._at_end[TopicPartition(message.topic(), message.partition())] = message.offset()

    def close(self, timeout_s: float = CLOSE_TIMEOUT_S) -> None:
        """Leave the group. Bounded: a close that hangs (a rebalance that never completed) is left behind."""
        close(self._consumer, timeout_s)


def records_of(
    messages: Sequence[Any], watch: ConnectionWatch, at_end: Callable[[Any], None] = lambda _message: None
) -> list[Any]:
    """What a poll brought, less its errors: logged where they pass by themselves, TransportError where they do not.

    `at_end` is told of each message that only says that a partition's end is reached.
    """
    if watch.fatal is not None:
        raise TransportError(f"the consumer failed for good: {watch.fatal.str()}")
    if watch.stranded is not None:
        raise StrandedError(f"{watch.stranded}; start the process again")
    errors = [m for m in messages if m.error() is not None]
    for message in errors:
        if message.error().code() == ck.KafkaError._PARTITION_EOF:  # noqa: SLF001 - the library has no other name for it
            at_end(message)
        else:
            _handle(message.error())
    return [m for m in messages if m.error() is None] if errors else list(messages)


def _handle(error: ck.KafkaError) -> None:
    if error.fatal() or error.code() in requests.HOPELESS:
        raise TransportError(f"the consumer cannot go on: {error.str()}")
    log.info("consumer: %s", error.str())
