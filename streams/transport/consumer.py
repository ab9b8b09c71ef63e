"""A consumer that reads batches: for everything that reads Kafka and is not the Faust worker.

I/O: Kafka.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

import confluent_kafka as ck

from streams.transport.batch import Batch, TopicPartition, by_channel
from streams.transport.clients import (
    CommitRejectedError,
    CommitUnavailableError,
    ConnectionWatch,
    HangingTransactionError,
    NotYetError,
    TransportError,
    opened,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from streams.transport.gathering import Gathering

    RebalanceCallback = Callable[[list[TopicPartition]], None]

log = logging.getLogger("pointsman.kafka")

# Mappings do not vary in their keys: this takes plain tuples and TopicPartitions alike.
TP = TypeVar("TP", bound=tuple[str, int])
TPEnd = TypeVar("TPEnd", bound=tuple[str, int])

NO_OFFSET = -1001
REQUEST_TIMEOUT_S = 15.0
CLOSE_TIMEOUT_S = 5.0
IDLE_TIMEOUT_S = 30.0
SWEEP_S = 20.0
"""How long after its time a transaction is aborted at the latest: brokers look each 10 s, if nobody said otherwise."""
WAKE_S = 0.05
_EARLIEST, _LATEST = -2, -1
_METADATA = b"CGMDv2:"
"""What the group's metadata begin with; its generation follows, as the machine writes 32 bits."""

_Error = ck.KafkaError
# What no waiting mends: the position is gone, or the broker refuses this client.
_HOPELESS = frozenset(
    {
        _Error._AUTO_OFFSET_RESET,  # noqa: SLF001
        _Error.TOPIC_AUTHORIZATION_FAILED,
        _Error.GROUP_AUTHORIZATION_FAILED,
        _Error.CLUSTER_AUTHORIZATION_FAILED,
        _Error.UNSUPPORTED_VERSION,
        _Error.INVALID_GROUP_ID,
    }
)
# A topic just created, a broker just started: its leader is not at work yet.
_NO_LEADER_YET = frozenset(
    {
        _Error.LEADER_NOT_AVAILABLE,
        _Error.NOT_LEADER_FOR_PARTITION,
        _Error.UNKNOWN_TOPIC_OR_PART,
        _Error.OFFSET_NOT_AVAILABLE,
        _Error.UNKNOWN_LEADER_EPOCH,
        _Error.FENCED_LEADER_EPOCH,
        # What librdkafka itself says while its metadata are older than the topic.
        _Error._UNKNOWN_PARTITION,  # noqa: SLF001
        _Error._UNKNOWN_TOPIC,  # noqa: SLF001
    }
)
_LEADER_POLL_S = 0.05
_UNANSWERED = frozenset({_Error._TIMED_OUT, _Error.UNSTABLE_OFFSET_COMMIT})  # noqa: SLF001
_OWNERSHIP_LOST = frozenset(
    {
        _Error.ILLEGAL_GENERATION,
        _Error.UNKNOWN_MEMBER_ID,
        _Error.GROUP_ID_NOT_FOUND,  # empty, with nothing committed: the broker has forgotten it
        _Error.REBALANCE_IN_PROGRESS,
        _Error.FENCED_INSTANCE_ID,
        _Error._FENCED,  # noqa: SLF001
        _Error.STALE_MEMBER_EPOCH,
    }
)


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
        self._watch = ConnectionWatch(str(config.get("client.id", "consumer")))
        self._consumer = opened(ck.Consumer, {"enable.partition.eof": True, **config}, self._watch)
        self._channel_of, self._with_headers = channel_of, with_headers
        self._rows_max, self._bytes_max, self._poll_s = rows_max, bytes_max, poll_s
        self._at_end: dict[TopicPartition, int] = {}
        self._paused: set[TopicPartition] = set()
        self._gathering, self._rebalances = gathering, 0

    def subscribe(
        self,
        topics: Iterable[str],
        *,
        on_assign: RebalanceCallback | None = None,
        on_revoke: RebalanceCallback | None = None,
        on_lost: RebalanceCallback | None = None,
    ) -> None:
        """Join the group. `on_revoke` may still commit; after `on_lost` (default: `on_revoke`) nothing may be.

        What is given up or lost is no longer paused when it comes back.
        """

        def assigned(_: ck.Consumer, partitions: list[ck.TopicPartition]) -> None:
            self._rebalances += 1
            if on_assign:
                on_assign(_ours(partitions))

        def revoked(_: ck.Consumer, partitions: list[ck.TopicPartition]) -> None:
            self._rebalances += 1
            if on_revoke:
                on_revoke(_ours(partitions))
            self._forget_pauses(_ours(partitions))

        def lost(_: ck.Consumer, partitions: list[ck.TopicPartition]) -> None:
            self._rebalances += 1
            if on_lost or on_revoke:
                (on_lost or on_revoke)(_ours(partitions))  # type: ignore[misc]
            self._forget_pauses(_ours(partitions))

        self._consumer.subscribe(list(topics), on_assign=assigned, on_revoke=revoked, on_lost=lost)

    def assign(self, positions: Mapping[TP, int]) -> None:
        """Read exactly these topic-partitions, from these offsets, outside any group."""
        self._at_end.clear()
        self._forget_pauses(self._paused)
        self._consumer.assign([ck.TopicPartition(*tp, offset) for tp, offset in positions.items()])

    def assignment(self) -> list[TopicPartition]:
        return _ours(self._consumer.assignment())

    def poll(self, timeout_s: float | None = None) -> list[Batch]:
        """What arrived within `timeout_s` (default: `poll_s`), one batch or more per channel, or nothing.

        Raises TransportError when the consumer cannot go on (its position is gone, access denied, a fatal error).
        """
        messages = self._messages(self._poll_s if timeout_s is None else timeout_s)
        records = records_of(messages, self._watch, self._note_end)
        if not records:
            return []
        self._watch.up()
        if self._gathering is not None:
            self._gathering.saw(len(records), time.monotonic())
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
        rest = self._consumer.consume(self._rows_max - 1, self._gathering.wait_s)
        # A rebalance served in between: what was read before it is read again, by whoever has the partition now.
        return [*first, *rest] if self._rebalances == rebalances else list(rest)

    def pause(self, tps: Iterable[tuple[str, int]]) -> None:
        paused = {TopicPartition(*tp) for tp in tps}
        self._paused |= paused
        self._consumer.pause(_theirs(paused))

    def resume(self, tps: Iterable[tuple[str, int]]) -> None:
        resumed = _theirs(tps)
        self._paused.difference_update(_ours(resumed))
        self._consumer.resume(resumed)
        # Where all was paused, librdkafka's thread of that broker sleeps up to a second on; any request wakes it.
        with suppress(ck.KafkaException):
            self._consumer.offsets_for_times([ck.TopicPartition(p.topic, p.partition, 0) for p in resumed], WAKE_S)

    def _forget_pauses(self, tps: Iterable[TopicPartition]) -> None:
        """librdkafka would keep them paused in the next assignment, and nobody would know."""
        paused = self._paused.intersection(tps)
        self._paused -= paused
        self._consumer.resume(_theirs(paused))

    def commit(self, positions: Mapping[TP, tuple[int, str]]) -> None:
        """Commit next offsets with metadata, and wait for the answer.

        Raises CommitRejectedError when the group has moved on, CommitUnavailableError when nobody answers.
        """
        commit(self._consumer, positions)

    def committed(self, tps: Iterable[tuple[str, int]]) -> dict[TopicPartition, tuple[int, str]]:
        """Committed next offset and metadata of each; (-1001, "") where nothing is committed."""
        return committed(self._consumer, tps)

    def generation(self) -> int:
        """The group's generation in which this consumer has its partitions; -1 where it is in none."""
        return generation(self._consumer)

    def offsets_for_times(self, times_ms: Mapping[TP, int]) -> dict[TopicPartition, int]:
        """Offset of the first record appended at or after each time; the end offset where there is none."""
        return offsets_for_times(self._consumer, times_ms)

    def watermarks(self, tps: Iterable[tuple[str, int]]) -> dict[TopicPartition, tuple[int, int]]:
        """First offset held, and the offset after the last committed record, of each topic-partition."""
        return watermarks(self._consumer, tps)

    def lag(self) -> dict[TopicPartition, int]:
        """Records appended and not yet read, of what is assigned; as of the last fetch, nothing is asked."""
        return lag(self._consumer)

    def topics(self) -> list[str]:
        """Names of all topics that the broker shows this client."""
        return sorted(listed(self._consumer))

    def partitions_of(self, topics: Iterable[str]) -> list[TopicPartition]:
        """All topic-partitions of the named topics. Raises TransportError where a topic is missing."""
        return partitions_of(self._consumer, topics)

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
        began = {TopicPartition(*tp): start for tp, start in starts.items()}
        pending = {TopicPartition(*tp): end for tp, end in until.items() if began[TopicPartition(*tp)] < end}
        self.assign({tp: began[tp] for tp in pending})
        moved_at = time.monotonic()
        while pending:
            batches = self.poll()
            for batch in batches:
                for owner, last in batch.ends.items():
                    if last + 1 >= pending.get(TopicPartition(*owner), NO_OFFSET):
                        pending.pop(TopicPartition(*owner), None)
                yield batch
            # Transaction markers take offsets but are never seen: the end may be reached without a record there.
            for tp, end in self._at_end.items():
                if tp in pending and end >= pending[tp]:
                    del pending[tp]
            now = time.monotonic()
            if batches or not pending:
                moved_at = now
            elif now - moved_at > idle_timeout_s:
                self._give_up(pending, now - moved_at > transaction_s + SWEEP_S)
        self.assign({})

    def _give_up(self, pending: Mapping[TopicPartition, int], is_overdue: bool) -> None:
        """Raises, but where all that is left is a transaction, and that may yet end."""
        open_from = {tp: self._at_end[tp] for tp in sorted(pending) if tp in self._at_end}
        if len(open_from) < len(pending):
            raise TransportError(
                f"{len(pending)} topic-partitions could not be read to their end: {sorted(pending)[:3]}"
            )
        if is_overdue:
            raise HangingTransactionError(
                f"{len(pending)} topic-partitions hold a transaction that is long over, and that the broker neither "
                f"commits nor aborts; it begins at {', '.join(map(_place, list(open_from.items())[:3]))}. An operator "
                "can end it: kafka-transactions.sh abort --topic T --partition P --start-offset OFFSET"
            )

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
    errors = [m for m in messages if m.error() is not None]
    for message in errors:
        if message.error().code() == _Error._PARTITION_EOF:  # noqa: SLF001 - the library has no other name for it
            at_end(message)
        else:
            _handle(message.error())
    return [m for m in messages if m.error() is None] if errors else list(messages)


def _handle(error: ck.KafkaError) -> None:
    if error.fatal() or error.code() in _HOPELESS:
        raise TransportError(f"the consumer cannot go on: {error.str()}")
    log.info("consumer: %s", error.str())


def commit(consumer: ck.Consumer, positions: Mapping[TP, tuple[int, str]]) -> None:
    """As `BatchConsumer.commit`, for any librdkafka consumer."""
    if not positions:
        return
    offsets = [ck.TopicPartition(*tp, offset, metadata=meta) for tp, (offset, meta) in positions.items()]
    try:
        results = consumer.commit(offsets=offsets, asynchronous=False)
    except ck.KafkaException as raised:
        raise _commit_error(raised.args[0]) from raised
    for result in results or ():
        if result.error is not None:
            raise _commit_error(result.error)


def _commit_error(error: ck.KafkaError) -> TransportError:
    if error.code() in _OWNERSHIP_LOST:
        return CommitRejectedError(f"the group refused a commit: {error.str()}")
    if error.fatal() or error.code() in _HOPELESS:
        return TransportError(f"a commit failed for good: {error.str()}")
    return CommitUnavailableError(f"a commit was not answered: {error.str()}")


def committed(
    consumer: ck.Consumer, tps: Iterable[tuple[str, int]], timeout_s: float = REQUEST_TIMEOUT_S
) -> dict[TopicPartition, tuple[int, str]]:
    """As `BatchConsumer.committed`, for any librdkafka consumer. Raises NotYetError after `timeout_s`."""
    found = _asked(lambda: consumer.committed(_theirs(tps), timeout=timeout_s), "committed positions")
    return {TopicPartition(p.topic, p.partition): (p.offset, p.metadata or "") for p in found}


def generation(consumer: ck.Consumer) -> int:
    """As `BatchConsumer.generation`."""
    return generation_of(consumer.consumer_group_metadata())


def generation_of(metadata: bytes) -> int:
    """Of a group's metadata. Python is shown them as librdkafka writes them, and not their parts."""
    if not metadata.startswith(_METADATA):
        raise TransportError(f"this librdkafka writes group metadata in another form than {_METADATA.decode()}")
    return int.from_bytes(metadata[len(_METADATA) :][:4], sys.byteorder, signed=True)


def lag(consumer: ck.Consumer) -> dict[TopicPartition, int]:
    """Records appended and not read, of what is assigned and was read from, as of the last fetch: nothing is asked."""
    found: dict[TopicPartition, int] = {}
    for position in consumer.position(consumer.assignment()):
        _, high = consumer.get_watermark_offsets(position, cached=True)
        if position.offset >= 0 and high >= 0:
            found[TopicPartition(position.topic, position.partition)] = max(high - position.offset, 0)
    return found


def offsets_for_times(consumer: ck.Consumer, times_ms: Mapping[TP, int]) -> dict[TopicPartition, int]:
    if not times_ms:
        return {}
    wanted = [ck.TopicPartition(*tp, at) for tp, at in times_ms.items()]
    found = _asked(lambda: consumer.offsets_for_times(wanted, timeout=REQUEST_TIMEOUT_S), "offsets for times")
    offsets = {TopicPartition(p.topic, p.partition): p.offset for p in found}
    missing = [tp for tp, offset in offsets.items() if offset < 0]
    ends = watermarks(consumer, missing) if missing else {}
    return {tp: offset if offset >= 0 else ends[tp][1] for tp, offset in offsets.items()}


def watermarks(
    consumer: ck.Consumer, tps: Iterable[tuple[str, int]], wait_s: float = REQUEST_TIMEOUT_S
) -> dict[TopicPartition, tuple[int, int]]:
    """Two requests per broker for all of them, where librdkafka's own call makes one per partition.

    A partition without a leader is waited for, `wait_s` at most.
    """
    owners = [TopicPartition(*tp) for tp in tps]
    if not owners:
        return {}
    low, high = (
        {
            (p.topic, p.partition): p.offset
            for p in _asked(
                lambda which=which: consumer.offsets_for_times(  # type: ignore[misc]
                    [ck.TopicPartition(*tp, which) for tp in owners], timeout=REQUEST_TIMEOUT_S
                ),
                "watermarks",
                wait_s,
            )
        }
        for which in (_EARLIEST, _LATEST)
    )
    return {tp: (low[tp], high[tp]) for tp in owners}


def listed(consumer: ck.Consumer) -> Mapping[str, Any]:
    """The broker's topics, by name. Raises TransportError."""
    try:
        found: Mapping[str, Any] = consumer.list_topics(timeout=REQUEST_TIMEOUT_S).topics
    except ck.KafkaException as raised:
        raise TransportError(f"the broker did not list its topics: {raised.args[0].str()}") from raised
    return found


def partitions_of(consumer: ck.Consumer, topics: Iterable[str]) -> list[TopicPartition]:
    known, names = listed(consumer), list(topics)
    if missing := sorted(set(names) - known.keys()):
        raise TransportError(f"topics are missing: {', '.join(missing)}")
    return [TopicPartition(name, number) for name in names for number in sorted(known[name].partitions)]


def close(consumer: ck.Consumer, timeout_s: float) -> bool:
    """Whether the consumer closed within `timeout_s`; if not, it goes on closing in a daemon thread."""
    closing = threading.Thread(target=consumer.close, name="pointsman-close", daemon=True)
    closing.start()
    closing.join(timeout_s)
    if closing.is_alive():
        log.warning("a consumer did not close within %.1f s and is left behind", timeout_s)
    return not closing.is_alive()


def _asked(
    request: Callable[[], list[ck.TopicPartition]], what: str, wait_s: float = REQUEST_TIMEOUT_S
) -> list[ck.TopicPartition]:
    deadline = time.monotonic() + wait_s
    while True:
        try:
            found = request()
        except ck.KafkaException as raised:
            error, where = raised.args[0], ""
        else:
            failed = next((partition for partition in found if partition.error is not None), None)
            if failed is None:
                return found
            error, where = failed.error, f" of {failed.topic}[{failed.partition}]"
        if error.code() not in _NO_LEADER_YET or time.monotonic() > deadline:
            kind = NotYetError if error.code() in _UNANSWERED else TransportError
            raise kind(f"the broker did not answer for {what}{where}: {error.str()}")
        time.sleep(_LEADER_POLL_S)


def _place(found: tuple[TopicPartition, int]) -> str:
    (topic, partition), offset = found
    return f"{topic}[{partition}]@{offset}"


def _theirs(tps: Iterable[tuple[str, int]]) -> list[ck.TopicPartition]:
    return [ck.TopicPartition(topic, partition) for topic, partition in tps]


def _ours(partitions: Iterable[ck.TopicPartition]) -> list[TopicPartition]:
    return [TopicPartition(p.topic, p.partition) for p in partitions]
