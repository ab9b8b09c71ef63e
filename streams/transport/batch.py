"""What one poll brought: columns of raw records, one object per channel instead of one per record.

I/O: none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import numpy.typing as npt

Headers = list[tuple[str, bytes | None]]


class TopicPartition(NamedTuple):
    """Equal to the plain tuple `(topic, partition)`, which may be passed wherever this is asked for."""

    topic: str
    partition: int


@dataclass(slots=True, eq=False)
class Batch:
    """Records of one channel in the order in which they were read; offsets rise within each topic-partition.

    All columns have the same length. `timestamps_ms` is the broker's append time, -1 where there is none. `headers` is
    None unless the consumer was told to read them. `ends` gives the last offset of each topic-partition in the batch:
    a batch is done when everything up to them is done, and the next position is one further.
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


def by_value(numbers: npt.NDArray[np.int32] | npt.NDArray[np.int64]) -> list[tuple[int, npt.NDArray[np.intp]]]:
    """Each distinct number with the places where it stands, in order."""
    if len(numbers) == 0:
        return []
    if bool((numbers == numbers[0]).all()):
        return [(int(numbers[0]), np.arange(len(numbers)))]
    order = np.argsort(numbers, kind="stable")
    distinct, starts = np.unique(numbers[order], return_index=True)
    return [(int(n), places) for n, places in zip(distinct, np.split(order, starts[1:]), strict=True)]


def from_messages(messages: Sequence[Any], channel: str, *, with_headers: bool = False) -> Batch:
    """Columns of librdkafka messages, which must carry no errors. One comprehension per column: the hot path."""
    topics = [m.topic() for m in messages]
    partitions = [m.partition() for m in messages]
    offsets = [m.offset() for m in messages]
    return Batch(
        channel=channel,
        values=[m.value() for m in messages],
        keys=[m.key() for m in messages],
        topics=topics,
        partitions=np.array(partitions, dtype=np.int32),
        offsets=np.array(offsets, dtype=np.int64),
        timestamps_ms=np.array([m.timestamp()[1] for m in messages], dtype=np.int64),
        headers=[list(m.headers() or ()) for m in messages] if with_headers else None,
        # A later record of the same topic-partition overwrites an earlier one, and offsets rise.
        ends=dict(zip(zip(topics, partitions, strict=True), offsets, strict=True)),
    )


def by_channel(
    messages: Sequence[Any],
    channel_of: Callable[[str], str],
    *,
    rows_max: int,
    bytes_max: int,
    with_headers: bool = False,
) -> list[Batch]:
    """Batches per channel, in order of first appearance, cut where they exceed a bound; each has at least one row."""
    channels: dict[str, str] = {}
    groups: dict[str, list[Any]] = {}
    for message in messages:
        topic = message.topic()
        channel = channels.get(topic)
        if channel is None:
            channel = channels[topic] = channel_of(topic)
            groups.setdefault(channel, [])
        groups[channel].append(message)
    return [
        from_messages(part, channel, with_headers=with_headers)
        for channel, group in groups.items()
        for part in _bounded(group, rows_max, bytes_max)
    ]


def _bounded(messages: list[Any], rows_max: int, bytes_max: int) -> Iterator[list[Any]]:
    sizes = np.cumsum([len(m) + len(m.key() or b"") for m in messages], dtype=np.int64)
    if len(messages) <= rows_max and int(sizes[-1]) <= bytes_max:
        yield messages
        return
    start = 0
    while start < len(messages):
        before = int(sizes[start - 1]) if start else 0
        fits = int(np.searchsorted(sizes, before + bytes_max, side="right"))
        stop = min(max(fits, start + 1), start + rows_max)
        yield messages[start:stop]
        start = stop


def next_positions(batch: Batch) -> Mapping[TopicPartition, int]:
    """Offset of the next record to read of each topic-partition, once this batch is done."""
    return {TopicPartition(*owner): end + 1 for owner, end in batch.ends.items()}
