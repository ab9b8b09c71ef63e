"""Records on their way: gathered by topic-partition, numbered so that a broker takes each once, kept until it has.

I/O: none. Any thread.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Any

from aiokafka.record.default_records import DefaultRecordBatchBuilder

from streams.transport.batch import TopicPartition
from streams.transport.compression import compressed

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from streams.transport.batch import Headers

SEQUENCES = 1 << 31
"""Numbers of records count on from nought behind the last one below this, as Java's clients and the brokers do."""

REQUEST_BYTES_MAX = 8 << 20
"""What one request holds, not compressed; a broker closes the connection on whom one of 100 MiB comes from
(`socket.request.max.bytes`), and would do so each time it is sent again."""

EPOCH_MAX = (1 << 15) - 1

_MAGIC, _NOT_COMPRESSED = 2, 0
_NOBODY = -1


class Parcel:
    """One Kafka record batch: records of one topic-partition that go to the broker together, or again together.

    `since` is when its first record came, in seconds of the caller's clock; `first` the number of that record in what
    its producer has sent to the topic-partition in this `epoch`, once it is known.
    """

    __slots__ = ("_builder", "_compression", "_data", "epoch", "first", "rows", "since", "size", "tp")

    def __init__(self, tp: TopicPartition, bytes_max: int, compression: str, since: float) -> None:
        self.tp, self.since, self._compression = tp, since, compression
        self.rows, self.size = 0, 0
        self.first: int | None = None
        self.epoch = 0
        self._builder: Any = DefaultRecordBatchBuilder(_MAGIC, _NOT_COMPRESSED, 0, _NOBODY, _NOBODY, 0, bytes_max)
        self._data: bytes | None = None

    def fill(
        self,
        values: Sequence[bytes | None],
        keys: Sequence[bytes | None],
        at_ms: int,
        headers: Headers,
    ) -> int:
        """Take as many of these as there is room for, from the first on; how many that was.

        There is room for the first record of a parcel, whatever its size.
        """
        append, row = self._builder.append, self.rows
        for value, key in zip(values, keys, strict=True):
            if append(row, at_ms, key, value, headers) is None:
                break
            row += 1
        taken, self.rows, self.size = row - self.rows, row, self._builder.size()
        return taken

    def data(self, producer_id: int, first_epoch: int) -> bytes:
        """The bytes of the batch, compressed; the same however often they are asked for.

        `first_epoch` is what the broker gave with the id. Raises OverflowError when no epoch is left.
        """
        if self._data is None:
            if first_epoch + self.epoch > EPOCH_MAX:
                raise OverflowError(f"{self.tp}: a producer id has {EPOCH_MAX} epochs, and all are used up")
            self._builder.set_producer_state(producer_id, first_epoch + self.epoch, self.first)
            self._data = compressed(bytes(self._builder.build()), self._compression)
            self._builder = None
        return self._data


class Parcels:
    """What one producer was given and no broker has acknowledged yet; bounded by whoever asks
    `wait_until` before.

    Of each topic-partition one parcel at most is under way: so its records stay in order whatever has to be sent again.
    Where one is given up that was sent, nobody knows whether its numbers were used: those that follow count from nought
    in an epoch of their own. A broker asks that of a topic-partition, so the others keep theirs.
    """

    def __init__(self, parcel_rows_max: int, parcel_bytes_max: int, compression: str) -> None:
        self._rows_max, self._bytes_max, self._compression = parcel_rows_max, parcel_bytes_max, compression
        self._changed = threading.Condition()
        self._waiting: dict[TopicPartition, deque[Parcel]] = {}
        self._under_way: dict[TopicPartition, Parcel] = {}
        self._next: dict[TopicPartition, int] = {}
        self._epochs: dict[TopicPartition, int] = {}
        self._rows, self._bytes, self._unsent = 0, 0, 0

    def __len__(self) -> int:
        """Records that are not acknowledged."""
        return self._rows

    @property
    def held(self) -> tuple[int, int]:
        """Records and bytes that are not acknowledged."""
        return self._rows, self._bytes

    @property
    def has_unsent(self) -> bool:
        return self._unsent > 0

    def add(
        self,
        tp: TopicPartition,
        values: Sequence[bytes | None],
        keys: Sequence[bytes | None] | None,
        now: float,
        at_ms: int,
        headers: Headers | None = None,
    ) -> None:
        """Records of one topic-partition, behind those that it was given before; `now` as `Parcel.since`."""
        keys = keys if keys is not None else [None] * len(values)
        with self._changed:
            queue = self._waiting.setdefault(tp, deque())
            parcel = queue[-1] if queue and queue[-1].first is None else self._opened(queue, tp, now)
            at = 0
            while at < len(values):
                stop, before = at + self._rows_max - parcel.rows, parcel.size
                taken = parcel.fill(values[at:stop], keys[at:stop], at_ms, headers or [])
                self._bytes += parcel.size - before
                at += taken
                if at < len(values):
                    parcel = self._opened(queue, tp, now)
            self._rows += len(values)
            self._unsent += len(values)

    def _opened(self, queue: deque[Parcel], tp: TopicPartition, now: float) -> Parcel:
        parcel = Parcel(tp, self._bytes_max, self._compression, now)
        queue.append(parcel)
        return parcel

    def take(self, nodes_of: Callable[[TopicPartition], int | None], busy: Collection[int]) -> dict[int, list[Parcel]]:
        """By broker that is not busy, the first parcel of each topic-partition that it leads; they are under way now.

        `nodes_of` gives a topic-partition's leader, None where it is not known: it waits. So does what a request has no
        room for, and is then the first to go with the next.
        """
        found: dict[int, list[Parcel]] = {}
        sizes: dict[int, int] = {}
        is_full = False
        with self._changed:
            for tp, queue in self._waiting.items():
                if tp in self._under_way or not queue:
                    continue
                node = nodes_of(tp)
                if node is None or node in busy:
                    continue
                size = sizes.get(node, 0) + queue[0].size
                if size > REQUEST_BYTES_MAX and node in found:
                    is_full = True
                    continue
                sizes[node] = size
                parcel = self._under_way[tp] = queue.popleft()
                if parcel.first is None:
                    self._number(parcel)
                self._unsent -= parcel.rows
                found.setdefault(node, []).append(parcel)
            if is_full:
                for parcels in found.values():
                    for parcel in parcels:
                        self._waiting[parcel.tp] = self._waiting.pop(parcel.tp)
        return found

    def _number(self, parcel: Parcel) -> None:
        tp = parcel.tp
        parcel.first, parcel.epoch = self._next.get(tp, 0), self._epochs.get(tp, 0)
        self._next[tp] = (parcel.first + parcel.rows) % SEQUENCES

    def waiting(self) -> list[TopicPartition]:
        """The topic-partitions of which something is not under way."""
        with self._changed:
            return [tp for tp, queue in self._waiting.items() if queue and tp not in self._under_way]

    def oldest(self) -> Parcel | None:
        """The parcel that has waited longest among those that are not under way."""
        with self._changed:
            heads = [queue[0] for queue in self._waiting.values() if queue]
        return min(heads, key=lambda parcel: parcel.since, default=None)

    def is_under_way(self, parcel: Parcel) -> bool:
        """Whether it was sent, and not been given up meanwhile."""
        return self._under_way.get(parcel.tp) is parcel

    def delivered(self, parcels: Sequence[Parcel]) -> None:
        """A broker has them. What was given up meanwhile does not count any more."""
        with self._changed:
            for parcel in parcels:
                if self.is_under_way(parcel):
                    del self._under_way[parcel.tp]
                    self._forget(parcel)
            self._changed.notify_all()

    def put_back(self, parcels: Sequence[Parcel]) -> None:
        """They have to be sent again, before all that came later."""
        with self._changed:
            for parcel in parcels:
                if self.is_under_way(parcel):
                    del self._under_way[parcel.tp]
                    self._waiting[parcel.tp].appendleft(parcel)
                    self._unsent += parcel.rows

    def drop_unsent(self) -> int:
        """Forget what has never been sent; how many records that was. What may have arrived is kept."""
        with self._changed:
            before = self._rows
            for queue in self._waiting.values():
                for parcel in [each for each in queue if each.first is None]:
                    queue.remove(parcel)
                    self._forget(parcel)
                    self._unsent -= parcel.rows
            self._changed.notify_all()
            return before - self._rows

    def drop_all(self) -> int:
        """Forget all of it, what may have arrived, too; how many records that was."""
        with self._changed:
            dropped = self._rows
            waiting = [parcel for queue in self._waiting.values() for parcel in queue if parcel.first is not None]
            for parcel in (*waiting, *self._under_way.values()):
                self._epochs[parcel.tp] = self._epochs.get(parcel.tp, 0) + 1
                self._next[parcel.tp] = 0
            self._waiting.clear()
            self._under_way.clear()
            self._rows = self._bytes = self._unsent = 0
            self._changed.notify_all()
            return dropped

    def _forget(self, parcel: Parcel) -> None:
        self._rows -= parcel.rows
        self._bytes -= parcel.size

    def wait_until(self, holds: Callable[[int, int], bool], timeout_s: float) -> bool:
        """Whether this holds of the records and bytes that are not acknowledged, after so long at most."""
        with self._changed:
            return self._changed.wait_for(lambda: holds(self._rows, self._bytes), timeout_s)

    def wake(self) -> None:
        """Whoever waits looks again."""
        with self._changed:
            self._changed.notify_all()
