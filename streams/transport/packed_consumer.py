"""A consumer of whole record batches: librdkafka keeps its place in the group, and what it reads it fetches itself.

librdkafka makes an object of each record, and Python takes it apart again: 1.9 us of the 2.9 that it took to read and
decode one (docs/cost-model.md). Here a fetch's answer stays as the broker has it until it is decoded, all of a channel
together. I/O: Kafka.
"""

from __future__ import annotations

import logging
import time
from itertools import chain
from typing import TYPE_CHECKING, Any

from streams.transport.batch import Batch, TopicPartition, bounded
from streams.transport.clients import NotYetError
from streams.transport.consumer import BatchConsumer
from streams.transport.fetches import FETCH_BYTES_MAX, Fetches
from streams.transport.gathered import Gathered
from streams.transport.packed import Pack, Packed
from streams.transport.requests import NO_OFFSET

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from streams.transport.consumer import AssignCallback, RebalanceCallback
    from streams.transport.gathering import Gathering
    from streams.transport.requests import TP

log = logging.getLogger("pointsman.kafka")


class PackedConsumer:
    """As `BatchConsumer` in a group, but that channels in `packed` come as `Packed`; the others, record by record.

    `config` comes from `client_config(..., "consumer", group=...)`, and `can_fetch` it. One thread uses it.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        channel_of: Callable[[str], str],
        packed: frozenset[str],
        *,
        rows_max: int,
        poll_s: float,
    ) -> None:
        # It keeps the place in the group, and reads nothing.
        self._group = BatchConsumer(config, channel_of, rows_max=1, bytes_max=FETCH_BYTES_MAX, poll_s=poll_s)
        self._channel_of, self._packed = channel_of, packed
        self._rows_max, self._poll_s = rows_max, poll_s
        self._fetches = Fetches(config, self._group.watch)
        self._unplaced: list[TopicPartition] = []

    def subscribe(
        self,
        topics: Iterable[str],
        *,
        on_assign: AssignCallback | None = None,
        on_revoke: RebalanceCallback | None = None,
        on_lost: RebalanceCallback | None = None,
    ) -> None:
        """Join the group; as `BatchConsumer.subscribe`."""

        def assigned(partitions: list[TopicPartition]) -> None:
            self._group.assign({})  # the place in the group is kept, and nothing is fetched
            self._drop_all()
            self._unplaced = list(partitions)
            begin = on_assign(partitions) if on_assign else None
            if begin is not None:
                known = {TopicPartition(*tp): offset for tp, offset in begin.offsets.items() if offset >= 0}
                self._fetches.begin(known)
                self._unplaced = [tp for tp in partitions if tp not in known]
                self.pause(begin.paused)

        def gone(told: RebalanceCallback | None) -> RebalanceCallback:
            def callback(partitions: list[TopicPartition]) -> None:
                if told:
                    told(partitions)
                self._drop_all()

            return callback

        self._group.subscribe(topics, on_assign=assigned, on_revoke=gone(on_revoke), on_lost=gone(on_lost or on_revoke))

    def _drop_all(self) -> None:
        self._fetches.drop_all()
        self._unplaced = []

    def assignment(self) -> list[TopicPartition]:
        return [*self._unplaced, *self._fetches.positions]

    def poll(self) -> Sequence[Batch | Packed]:
        """What arrived within `poll_s`, one item or more for each channel, or nothing.

        Raises TransportError when the consumer cannot go on (access denied, a fatal error).
        """
        channels = packs_by_channel(self._polled(self._fetches.wait), self._channel_of)
        cuts = [Packed(channel, part) for channel, own in channels.items() for part in cut(own, self._rows_max)]
        return [packed if packed.channel in self._packed else packed.unpacked() for packed in cuts]

    def _polled(self, wait: Callable[[float], list[Pack]]) -> list[Pack]:
        began = time.monotonic()
        self._group.poll(0.0)
        self._place()
        packs = wait(max(0.0, self._poll_s - (time.monotonic() - began)))
        self._reset(self._fetches.out_of_range())
        return packs

    def _place(self) -> None:
        """Where reading begins: behind what is committed, else with what the log begins with. While nobody says where
        that is, it does not begin.
        """
        if not self._unplaced:
            return
        try:
            found = {tp: offset for tp, (offset, _) in self._group.committed(self._unplaced).items()}
            lows = self._group.watermarks([tp for tp, offset in found.items() if offset == NO_OFFSET])
        except NotYetError as error:
            log.info("%s; it is asked again", error)
            return
        self._fetches.begin(found | {tp: low for tp, (low, _) in lows.items()})
        self._unplaced = []

    def _reset(self, tps: Sequence[TopicPartition]) -> None:
        """Read these from the first record that is left. Those of which nobody says where that is are told again."""
        try:
            lows = self._group.watermarks(tps)
        except NotYetError as error:
            log.info("%s; it is asked again", error)
            return
        self._fetches.begin({tp: low for tp, (low, _) in lows.items()})

    def pause(self, tps: Iterable[tuple[str, int]]) -> None:
        self._fetches.pause_only(self._fetches.paused.union(TopicPartition(*tp) for tp in tps))

    def resume(self, tps: Iterable[tuple[str, int]]) -> None:
        self._fetches.pause_only(self._fetches.paused.difference(TopicPartition(*tp) for tp in tps))

    def commit(self, positions: Mapping[TP, tuple[int, str]]) -> None:
        """As `BatchConsumer.commit`."""
        self._group.commit(positions)

    def committed(self, tps: Iterable[tuple[str, int]]) -> dict[TopicPartition, tuple[int, str]]:
        """As `BatchConsumer.committed`."""
        return self._group.committed(tps)

    def generation(self) -> int:
        """As `BatchConsumer.generation`."""
        return self._group.generation()

    def watermarks(self, tps: Iterable[tuple[str, int]]) -> dict[TopicPartition, tuple[int, int]]:
        """As `BatchConsumer.watermarks`."""
        return self._group.watermarks(tps)

    def lag(self) -> dict[TopicPartition, int]:
        """Records appended and not yet read, of what is assigned; as of the last fetch, nothing is asked."""
        return self._fetches.lag()

    def partitions_of(self, topics: Iterable[str]) -> list[TopicPartition]:
        """As `BatchConsumer.partitions_of`."""
        return self._group.partitions_of(topics)

    def close(self, timeout_s: float) -> None:
        """Leave the group; as `BatchConsumer.close`."""
        self._fetches.close()
        self._group.close(timeout_s)


class GatheringConsumer(PackedConsumer):
    """As `BatchConsumer` that gathers: each record by itself, taken apart in columns."""

    def __init__(
        self,
        config: Mapping[str, Any],
        channel_of: Callable[[str], str],
        rows_max: int,
        bytes_max: int,
        poll_s: float,
        gathering: Gathering,
    ) -> None:
        super().__init__(config, channel_of, frozenset(), rows_max=rows_max, poll_s=poll_s)
        self._bytes_max = bytes_max
        self._fetches.ahead = False
        self._gathered = Gathered(self._fetches, gathering, rows_max)

    def poll(self) -> list[Batch]:
        """As `PackedConsumer.poll`; of what one fetch brought, no more than `rows_max` records or one record batch."""
        return batches_of(self._polled(self._gathered.read), self._channel_of, self._rows_max, self._bytes_max)

    def lag(self) -> dict[TopicPartition, int]:
        return self._gathered.lag()

    def _drop_all(self) -> None:
        super()._drop_all()
        self._gathered.drop_all()


def packs_by_channel(packs: Iterable[Pack], channel_of: Callable[[str], str]) -> dict[str, list[Pack]]:
    """Each channel's, those of a topic together, in their order."""
    channels: dict[str, dict[str, list[Pack]]] = {}
    for pack in packs:
        topics = channels.setdefault(channel_of(pack.tp.topic), {})
        topics.setdefault(pack.tp.topic, []).append(pack)
    return {channel: list(chain.from_iterable(topics.values())) for channel, topics in channels.items()}


def batches_of(packs: Iterable[Pack], channel_of: Callable[[str], str], rows_max: int, bytes_max: int) -> list[Batch]:
    """Their records, taken apart, each channel's in batches of these bounds."""
    return [
        part
        for channel, own in packs_by_channel(packs, channel_of).items()
        for part in bounded(Packed(channel, own).unpacked(), rows_max, bytes_max)
    ]


def cut(packs: Sequence[Pack], rows_max: int) -> Iterator[list[Pack]]:
    """The packs in their order, in parts of at most `rows_max` records, or one pack."""
    part: list[Pack] = []
    rows = 0
    for pack in packs:
        if part and rows + pack.rows > rows_max:
            yield part
            part, rows = [], 0
        part.append(pack)
        rows += pack.rows
    if part:
        yield part
