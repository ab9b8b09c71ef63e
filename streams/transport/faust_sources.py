"""Where the Faust driver's reader has its records from: whole record batches, or librdkafka's messages.

Both are used in the reader's thread alone. I/O: Kafka.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Protocol

import confluent_kafka as ck

from streams.transport import requests
from streams.transport.batch import Batch, TopicPartition, by_channel
from streams.transport.clients import TransportError
from streams.transport.consumer import records_of
from streams.transport.fetches import Fetches, can_fetch
from streams.transport.gathered import Gathered
from streams.transport.gathering import Gathering
from streams.transport.packed_consumer import batches_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from streams.transport.clients import ConnectionWatch
    from streams.transport.faust_options import DriverOptions

    Consume = Callable[[int, float], list[Any]]

_RESET = "error"
"""What happens where a position is gone: a worker's come from its cut, and there is no other place to read from."""


class Source(Protocol):
    """Of one consumer. Rebalances are served in `read` and in `keep_up` alone, and may call `begin` and `end`."""

    def begin(self, positions: Mapping[tuple[str, int], int]) -> None:
        """Read these topic-partitions, from there."""

    def end(self) -> None:
        """Nothing is read any more, and what was read and not given yet is forgotten."""

    def rest(self, tps: frozenset[TopicPartition]) -> None:
        """Of these, and of no others, nothing is read, in later assignments too."""

    def read(self, slice_s: float) -> list[Batch]:
        """What there is, or nothing after `slice_s` or somewhat more. Raises TransportError where reading cannot go
        on."""

    def keep_up(self) -> None:
        """Serve the group, though there is no room for what comes."""

    def lag(self) -> dict[TopicPartition, int]:
        """Records appended and not read, of what is read, as of the last fetch: nothing is asked."""

    def close(self) -> None:
        """The group's consumer is left to whoever has it."""


def source_of(
    options: DriverOptions,
    consumer: ck.Consumer,
    consume: Consume,
    watch: ConnectionWatch,
    is_free: Callable[[], bool],
) -> Source:
    """Whole record batches, unless the operator wants of a consumer what only librdkafka does.

    `consume` polls `consumer`; `is_free` says whether there is time for company, or somebody waits for the reader.
    """
    if can_fetch(options.config, _RESET):
        return PackSource(options, consume, watch)
    return MessageSource(options, consumer, consume, watch, is_free)


class PackSource:
    """Fetches whole record batches; the consumer keeps the place in the group, and is assigned nothing."""

    def __init__(self, options: DriverOptions, consume: Consume, watch: ConnectionWatch) -> None:
        self._options, self._consume, self._watch = options, consume, watch
        self._fetches = Fetches(options.config, watch, ahead=False)
        gathering = Gathering(options.poll_s, options.turn_share)
        self._gathered = Gathered(self._fetches, gathering, options.rows_max)

    def begin(self, positions: Mapping[tuple[str, int], int]) -> None:
        self._fetches.begin({TopicPartition(*tp): offset for tp, offset in positions.items()})

    def end(self) -> None:
        self._fetches.drop_all()
        self._gathered.drop_all()

    def rest(self, tps: frozenset[TopicPartition]) -> None:
        self._fetches.pause_only(tps)

    def read(self, slice_s: float) -> list[Batch]:
        self.keep_up()
        packs = self._gathered.read(min(self._options.poll_s, slice_s))
        if lost := self._fetches.out_of_range():
            raise TransportError(f"the consumer cannot go on: the log no longer has the positions of {lost[:3]}")
        options = self._options
        return batches_of(packs, options.channel_of, options.rows_max, options.bytes_max)

    def keep_up(self) -> None:
        records_of(self._consume(1, 0.0), self._watch)

    def lag(self) -> dict[TopicPartition, int]:
        return self._gathered.lag()

    def close(self) -> None:
        self._fetches.close()


class MessageSource:
    """Polls librdkafka's consumer: the first record ends the wait, then a short while gathers what else there is."""

    def __init__(
        self,
        options: DriverOptions,
        consumer: ck.Consumer,
        consume: Consume,
        watch: ConnectionWatch,
        is_free: Callable[[], bool],
    ) -> None:
        self._options, self._consumer, self._consume = options, consumer, consume
        self._watch, self._is_free = watch, is_free
        self._gathering = Gathering(options.poll_s, options.turn_share)
        self._early: list[Any] = []
        self._ends = 0
        self._assigned: frozenset[TopicPartition] = frozenset()
        self._asked: frozenset[TopicPartition] = frozenset()
        self._paused: frozenset[TopicPartition] = frozenset()
        self._is_full = False

    def begin(self, positions: Mapping[tuple[str, int], int]) -> None:
        self._consumer.assign([ck.TopicPartition(*tp, offset) for tp, offset in positions.items()])
        self._assigned = frozenset(TopicPartition(*tp) for tp in positions)

    def end(self) -> None:
        if self._paused:  # librdkafka would keep them paused in the next assignment
            self._consumer.resume(requests.theirs(self._paused))
        self._assigned = self._paused = frozenset()
        self._early = []
        self._ends += 1

    def rest(self, tps: frozenset[TopicPartition]) -> None:
        self._asked = tps
        self._apply_pauses()

    def _apply_pauses(self) -> None:
        wanted = self._assigned if self._is_full else self._assigned & self._asked
        if wanted != self._paused:
            self._consumer.pause(requests.theirs(wanted - self._paused))
            self._consumer.resume(requests.theirs(self._paused - wanted))
            self._paused = wanted

    def read(self, slice_s: float) -> list[Batch]:
        self._is_full = False
        self._apply_pauses()
        ends, options = self._ends, self._options
        messages, self._early = self._early, []
        if not messages:
            messages += self._consume(1, min(options.poll_s, slice_s))
        deadline = time.monotonic() + self._gathering.begin()
        while messages and self._ends == ends and len(messages) < options.rows_max:
            left_s = deadline - time.monotonic() if self._is_free() else 0.0
            messages += self._consume(options.rows_max - len(messages), max(0.0, min(left_s, slice_s)))
            if left_s <= 0:
                break
        records = records_of(messages, self._watch)
        # A revocation served inside a poll: the records are not ours any more, and no cut covers them.
        if not records or self._ends != ends:
            return []
        self._watch.up()
        self._gathering.end()
        # Headers for the few that are put away: a record that was redriven says so in them.
        return by_channel(
            records,
            options.channel_of,
            rows_max=options.rows_max,
            bytes_max=options.bytes_max,
            with_headers=True,
        )

    def keep_up(self) -> None:
        self._is_full = True
        self._apply_pauses()
        self._early += self._consume(1, 0.0)

    def lag(self) -> dict[TopicPartition, int]:
        return requests.lag(self._consumer)

    def close(self) -> None:
        self._paused = frozenset()  # whoever left is not to be asked
