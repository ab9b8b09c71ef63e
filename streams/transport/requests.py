"""What is asked of a broker through any librdkafka consumer: positions and their commit, offsets, topics.

I/O: Kafka.
"""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

import confluent_kafka as ck

from streams.transport.batch import TopicPartition
from streams.transport.bounded import is_answering, within
from streams.transport.clients import CommitRejectedError, CommitUnavailableError, NotYetError, TransportError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

# Mappings do not vary in their keys: this takes plain tuples and TopicPartitions alike.
TP = TypeVar("TP", bound=tuple[str, int])

NO_OFFSET = -1001
FROM_THE_FIRST = ck.OFFSET_BEGINNING
"""Of the records that are left."""
REQUEST_TIMEOUT_S = 15.0
CONNECT_S = 0.5
"""How long a new client is waited for to connect, before it is asked what it was opened for."""
_EARLIEST, _LATEST = -2, -1
_METADATA = b"CGMDv2:"
"""What the group's metadata begin with; its generation follows, as the machine writes 32 bits."""

_Error = ck.KafkaError
# What no waiting mends: the position is gone, or the broker refuses this client.
HOPELESS = frozenset(
    {
        _Error._AUTO_OFFSET_RESET,  # noqa: SLF001
        # As a consumer's fatal errors come, and such a one says of itself that it is none.
        _Error._FATAL,  # noqa: SLF001
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


def commit(consumer: ck.Consumer, positions: Mapping[TP, tuple[int, str]], config: Mapping[str, Any]) -> None:
    """As `BatchConsumer.commit`, for any librdkafka consumer. `config`: what it was opened with."""
    if not positions:
        return
    offsets = [ck.TopicPartition(*tp, offset, metadata=meta) for tp, (offset, meta) in positions.items()]
    try:
        results = within(lambda: consumer.commit(offsets=offsets, asynchronous=False), lambda: is_answering(config))
    except ck.KafkaException as raised:
        raise _commit_error(raised.args[0]) from raised
    for result in results or ():
        if result.error is not None:
            raise _commit_error(result.error)


def _commit_error(error: ck.KafkaError) -> TransportError:
    if error.code() in _OWNERSHIP_LOST:
        return CommitRejectedError(f"the group refused a commit: {error.str()}")
    if error.fatal() or error.code() in HOPELESS:
        return TransportError(f"a commit failed for good: {error.str()}")
    return CommitUnavailableError(f"a commit was not answered: {error.str()}")


def committed(
    consumer: ck.Consumer, tps: Iterable[tuple[str, int]], timeout_s: float = REQUEST_TIMEOUT_S
) -> dict[TopicPartition, tuple[int, str]]:
    """As `BatchConsumer.committed`, for any librdkafka consumer. Raises NotYetError after `timeout_s`."""
    found = _asked(lambda: consumer.committed(theirs(tps), timeout=timeout_s), "committed positions")
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


def connect(consumer: ck.Consumer, topic: str) -> None:
    """Has a new client connect now, by a question about a topic that is there; CONNECT_S at most, come what may.

    librdkafka connects at once for what it has to ask the leader of a partition. In order to list topics, to find a
    coordinator or to join a group it does not: it waits until it connects for another reason, which takes it half of
    `reconnect.backoff.ms` (decision 45). Whether anybody answered is told by what is asked next.
    """
    with suppress(ck.KafkaException):
        consumer.offsets_for_times([ck.TopicPartition(topic, 0, _EARLIEST)], timeout=CONNECT_S)


def listed(consumer: ck.Consumer, known: str) -> Mapping[str, Any]:
    """The broker's topics, by name; `known` is one of them. Raises TransportError."""
    connect(consumer, known)
    try:
        found: Mapping[str, Any] = consumer.list_topics(timeout=REQUEST_TIMEOUT_S).topics
    except ck.KafkaException as raised:
        raise TransportError(f"the broker did not list its topics: {raised.args[0].str()}") from raised
    return found


def partitions_of(consumer: ck.Consumer, topics: Iterable[str]) -> list[TopicPartition]:
    names = list(topics)
    known = listed(consumer, names[0]) if names else {}
    if missing := sorted(set(names) - known.keys()):
        raise TransportError(f"topics are missing: {', '.join(missing)}")
    return [TopicPartition(name, number) for name in names for number in sorted(known[name].partitions)]


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


def theirs(tps: Iterable[tuple[str, int]]) -> list[ck.TopicPartition]:
    return [ck.TopicPartition(topic, partition) for topic, partition in tps]


def ours(partitions: Iterable[ck.TopicPartition]) -> list[TopicPartition]:
    return [TopicPartition(p.topic, p.partition) for p in partitions]
