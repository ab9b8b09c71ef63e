"""A consumer of no group that reads logs to an end in whole record batches.

Who recovers reads back what a minute of the whole fleet's work was, and answers nobody until it has: an object of
librdkafka's for each record was a third of that (docs/cost-model.md). I/O: Kafka.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from streams.transport.bounded import CLOSE_TIMEOUT_S
from streams.transport.consumer import BatchConsumer
from streams.transport.fetches import Fetches, can_fetch
from streams.transport.packed_consumer import batches_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from streams.transport.batch import Batch, TopicPartition
    from streams.transport.to_end import Reading


def reader(
    config: Mapping[str, Any],
    channel_of: Callable[[str], str],
    *,
    rows_max: int,
    bytes_max: int,
    poll_s: float,
    with_headers: bool = False,
) -> BatchConsumer:
    """A `PackedReader`, unless the operator wants of a consumer what only librdkafka does."""
    kind = PackedReader if can_fetch(config) else BatchConsumer
    return kind(config, channel_of, rows_max=rows_max, bytes_max=bytes_max, poll_s=poll_s, with_headers=with_headers)


class PackedReader(BatchConsumer):
    """As `BatchConsumer`, whose `read_to_end` fetches itself, and leaves the assignment as it is; records have the
    headers that they were written with.

    `can_fetch` its `config`. Not to be used by a thread in which an event loop runs.
    """

    def __init__(self, config: Mapping[str, Any], channel_of: Callable[[str], str], **limits: Any) -> None:
        super().__init__(config, channel_of, **limits)
        self._fetches: Fetches | None = None

    @contextmanager
    def _reading(self, began: Mapping[TopicPartition, int], pending: Mapping[TopicPartition, int]) -> Iterator[Reading]:
        if self._fetches is None:
            self._fetches = Fetches(self._config, self.watch)
        fetches = self._fetches
        fetches.begin(began)

        def read() -> list[Batch]:
            packs = fetches.wait(self._poll_s)
            if lost := fetches.out_of_range():
                fetches.begin({tp: low for tp, (low, _) in self.watermarks(lost).items()})
            for tp in [tp for tp, at in fetches.positions.items() if at >= pending.get(tp, at)]:
                del fetches.positions[tp]  # who has read enough of it asks for no more
            return batches_of(packs, self._channel_of, self._rows_max, self._bytes_max)

        def at_end() -> Mapping[TopicPartition, int]:
            return {tp: end for tp, end in pending.items() if tp not in fetches.positions} | fetches.at_end()

        try:
            yield read, at_end
        finally:
            fetches.drop_all()

    def close(self, timeout_s: float = CLOSE_TIMEOUT_S) -> None:
        if self._fetches is not None:
            self._fetches.close()
            self._fetches = None
        super().close(timeout_s)
