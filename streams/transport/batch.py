"""What one poll brought: columns of raw records, one object per channel instead of one per record.

I/O: none.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain, groupby, islice
from operator import is_not
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np

from schemas.runs import by_value, changes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    import numpy.typing as npt

Headers = list[tuple[str, bytes | None]]
_NO_HEADERS: Headers = []

PILE_ROWS = 20_000
"""Records that who reads much takes at once: some tens of MB."""


class TopicPartition(NamedTuple):
    """Equal to the plain tuple `(topic, partition)`, which may be passed wherever this is asked for."""

    topic: str
    partition: int


@dataclass(slots=True, eq=False)
class Batch:
    """Records of one channel in the order in which they were read; offsets rise within each topic-partition.

    All columns have the same length. `timestamps_ms` is the broker's append time, -1 where there is none. `headers` is
    None where no record has any, or the consumer was not told to read them. `ends` gives the last offset of each
    topic-partition in the batch: a batch is done when everything up to them is done, and the next position is one
    further.
    """

    channel: str
    values: list[bytes | None]
    keys: list[bytes | None]
    topics: list[str]
    partitions: npt.NDArray[np.int32]
    offsets: npt.NDArray[np.int64]
    timestamps_ms: npt.NDArray[np.int64]
    headers: list[Headers] | None
    ends: dict[tuple[str, int], int]

    def __len__(self) -> int:
        return len(self.values)

    def by_partition(self) -> dict[int, Batch]:
        """One batch per partition number (topics stay mixed), rows in their order; itself when there is only one."""
        parts = by_value(self.partitions)
        if len(parts) == 1:
            return {parts[0][0]: self}
        return {number: self.take(rows) for number, rows in parts}

    def take(self, rows: npt.NDArray[np.intp]) -> Batch:
        """The given rows, in the given order. `ends` covers the topic-partitions of these rows alone."""
        wanted = rows.tolist()
        topics = [self.topics[i] for i in wanted]
        partitions = self.partitions[rows]
        owners = set(zip(topics, partitions.tolist(), strict=True))
        return Batch(
            channel=self.channel,
            values=[self.values[i] for i in wanted],
            keys=[self.keys[i] for i in wanted],
            topics=topics,
            partitions=partitions,
            offsets=self.offsets[rows],
            timestamps_ms=self.timestamps_ms[rows],
            headers=None if self.headers is None else [self.headers[i] for i in wanted],
            ends={owner: self.ends[owner] for owner in self.ends if owner in owners},
        )


def whole_or(column: list[bytes | None], rows: Sequence[int]) -> list[bytes]:
    """A column at some of its rows, ascending, b"" where it has nothing; itself where that is all of it: not to be
    changed, then."""
    if len(rows) == len(column) and all(column):
        return cast("list[bytes]", column)
    return [column[row] or b"" for row in rows]


def merged(batches: Sequence[Batch]) -> Batch:
    """One batch of the records of several of a channel, in their order."""
    if len(batches) == 1:
        return batches[0]
    first = batches[0]
    ends: dict[tuple[str, int], int] = {}
    for batch in batches:
        ends |= batch.ends
    return Batch(
        channel=first.channel,
        values=[value for batch in batches for value in batch.values],
        keys=[key for batch in batches for key in batch.keys],
        topics=[topic for batch in batches for topic in batch.topics],
        partitions=np.concatenate([batch.partitions for batch in batches]),
        offsets=np.concatenate([batch.offsets for batch in batches]),
        timestamps_ms=np.concatenate([batch.timestamps_ms for batch in batches]),
        headers=_merged_headers(batches),
        ends=ends,
    )


def _merged_headers(batches: Sequence[Batch]) -> list[Headers] | None:
    if all(batch.headers is None for batch in batches):
        return None
    return [each for batch in batches for each in batch.headers or [_NO_HEADERS] * len(batch)]


def bounded(batch: Batch, rows_max: int, bytes_max: int) -> Iterator[Batch]:
    """The batch in parts of at most `rows_max` records and `bytes_max` of keys and values, or one record."""
    if len(batch) <= rows_max and content_bytes(batch) <= bytes_max:
        yield batch
        return
    sizes = [len(value or b"") + len(key or b"") for value, key in zip(batch.values, batch.keys, strict=True)]
    for start, stop in _cuts(sizes, rows_max, bytes_max):
        part = batch.take(np.arange(start, stop))
        if stop < len(batch):  # of what begins in it, more may follow
            part.ends = _ends(part.topics, part.partitions, part.offsets)
        yield part


def _cuts(sizes: Sequence[int], rows_max: int, bytes_max: int) -> Iterator[tuple[int, int]]:
    """Where to cut records of these sizes, in bytes."""
    sums = np.cumsum(sizes, dtype=np.int64)
    start = 0
    while start < len(sizes):
        before = int(sums[start - 1]) if start else 0
        fits = int(np.searchsorted(sums, before + bytes_max, side="right"))
        stop = min(max(fits, start + 1), start + rows_max)
        yield start, stop
        start = stop


def piled(batches: Iterable[Batch]) -> Iterator[Batch]:
    """The same records, many of a channel at once: a small batch costs nearly as much as a large one.

    Each channel's come in their order. PILE_ROWS of all channels together are held; a batch may go beyond.
    """
    rows, piles = 0, dict[str, list[Batch]]()
    for batch in batches:
        piles.setdefault(batch.channel, []).append(batch)
        rows += len(batch)
        if rows >= PILE_ROWS:
            yield from map(merged, piles.values())
            rows, piles = 0, {}
    yield from map(merged, piles.values())


def from_messages(messages: Sequence[Any], channel: str, *, with_headers: bool = False) -> Batch:
    """Columns of librdkafka messages, which must carry no errors. One pass per column: the hot path."""
    return _columns(messages, channel, [m.topic() for m in messages], with_headers=with_headers)


def _columns(messages: Sequence[Any], channel: str, topics: list[str], *, with_headers: bool) -> Batch:
    n = len(messages)
    partitions = np.fromiter([m.partition() for m in messages], np.int32, n)
    offsets = np.fromiter([m.offset() for m in messages], np.int64, n)
    return Batch(
        channel=channel,
        values=[m.value() for m in messages],
        keys=[m.key() for m in messages],
        topics=topics,
        partitions=partitions,
        offsets=offsets,
        timestamps_ms=np.fromiter([m.timestamp()[1] for m in messages], np.int64, n),
        headers=_headers(messages) if with_headers else None,
        ends=_ends(topics, partitions, offsets),
    )


def _ends(
    topics: Sequence[str], partitions: npt.NDArray[np.int32], offsets: npt.NDArray[np.int64]
) -> dict[tuple[str, int], int]:
    """The last offset of each topic-partition. Records come in runs of one: a step is a run, not a record."""
    n = len(topics)
    is_last = np.ones(n, np.bool_)
    # Where a topic is the same text in another place, that is a run more, and no harm.
    is_last[:-1] = np.fromiter(map(is_not, topics, islice(topics, 1, None)), np.bool_, max(n - 1, 0))
    is_last[:-1] |= changes(partitions)[1:]
    # A later run of the same topic-partition overwrites an earlier one, and offsets rise.
    return {(topics[at], int(partitions[at])): int(offsets[at]) for at in np.flatnonzero(is_last).tolist()}


def _headers(messages: Sequence[Any]) -> list[Headers]:
    found = [m.headers() for m in messages]
    # Hardly any record has headers: those without share one list.
    return [each or _NO_HEADERS for each in found] if any(found) else [_NO_HEADERS] * len(found)


def by_channel(
    messages: Sequence[Any],
    channel_of: Callable[[str], str],
    *,
    rows_max: int,
    bytes_max: int,
    with_headers: bool = False,
) -> list[Batch]:
    """Batches per channel, in order of first appearance, cut where they exceed a bound; each has at least one row.

    In each the records of a topic stand together: so an agent's are one piece of what was read, and have not to be
    gathered for what is written of them.
    """
    channels: dict[str, dict[str, list[Any]]] = {}
    groups: dict[str, list[Any]] = {}
    start = 0
    # Records come in runs of one topic: a step is a run, not a record.
    for topic, run in groupby([m.topic() for m in messages]):
        stop = start + len(list(run))
        group = groups.get(topic)
        if group is None:
            group = groups[topic] = channels.setdefault(channel_of(topic), {})[topic] = []
        group += messages[start:stop]
        start = stop
    return [
        part
        for channel, topics in channels.items()
        for part in _bounded(
            list(chain.from_iterable(topics.values())),
            # One text for all: each message brings one of its own, which is hashed and compared wherever it is seen.
            [topic for topic, group in topics.items() for _ in group],
            channel,
            rows_max,
            bytes_max,
            with_headers=with_headers,
        )
    ]


def _bounded(
    messages: list[Any], topics: list[str], channel: str, rows_max: int, bytes_max: int, *, with_headers: bool
) -> Iterator[Batch]:
    if len(messages) <= rows_max:
        whole = _columns(messages, channel, topics, with_headers=with_headers)
        if content_bytes(whole) <= bytes_max:
            yield whole
            return
    for start, stop in _cuts([len(m) + len(m.key() or b"") for m in messages], rows_max, bytes_max):
        yield _columns(messages[start:stop], channel, topics[start:stop], with_headers=with_headers)


def content_bytes(batch: Batch) -> int:
    """Bytes of all keys and values."""
    return sum(map(len, filter(None, batch.values))) + sum(map(len, filter(None, batch.keys)))


def next_positions(batch: Batch) -> Mapping[TopicPartition, int]:
    """Offset of the next record to read of each topic-partition, once this batch is done."""
    return {TopicPartition(*owner): end + 1 for owner, end in batch.ends.items()}
