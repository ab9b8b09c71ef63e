"""Reads the records at known places of a log: the broker's record batches are fetched whole, and those alone unpacked
that hold one of them.

librdkafka, which makes an object of each record, would take as long as for the first reading. What is missing shows:
the judge of a task that lacks a record calls its decisions wrong. I/O: Kafka, the clock.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from loadtest.column_log import read_batches
from schemas.envelope import zigzag
from schemas.topology import Topology
from streams.transport.batch import Batch, TopicPartition
from streams.transport.clients import BrokerSettings, ConnectionWatch, TransportError, client_config
from streams.transport.fetches import Fetches, can_fetch
from streams.transport.packed import Pack
from streams.transport.to_end import IDLE_TIMEOUT_S

Wanted: TypeAlias = Mapping[tuple[str, int], npt.NDArray[np.int64]]

JUMP = 50_000
"""Offsets without a place that are passed over: an answer that is under way already is lost by it."""
WAIT_S = 1.0


def read_places(settings: BrokerSettings, topology: Topology, wanted: Wanted, take: Callable[[Batch], None]) -> None:
    """Gives the records at these offsets, rising and at least one of each topic-partition, to `take`: batches of one
    topic each. Raises TransportError, also where one cannot be read."""
    config = client_config(settings, topology, "consumer", fetch="bulk", name="pointsman-audit")
    if can_fetch(config):
        _Seeker(config, wanted, take).read()
        return

    def picked(batch: Batch) -> None:
        for number, part in batch.by_partition().items():
            offsets = wanted.get((batch.channel, number))
            if offsets is not None and len(rows := _hits(part.offsets, offsets)):
                take(part.take(rows))

    starts = {owner: int(offsets[0]) for owner, offsets in wanted.items()}
    until = {owner: int(offsets[-1]) + 1 for owner, offsets in wanted.items()}
    read_batches(settings, topology, dict.fromkeys(topic for topic, _ in wanted), picked, starts, until=until)


class _Seeker:
    """What is left to be read of each topic-partition, and a connection that fetches it."""

    def __init__(self, config: Mapping[str, Any], wanted: Wanted, take: Callable[[Batch], None]) -> None:
        self._wanted = {TopicPartition(*owner): offsets for owner, offsets in wanted.items()}
        self._take = take
        self._fetches = Fetches(config, ConnectionWatch("pointsman-audit"))

    def read(self) -> None:
        fetches, moved_at = self._fetches, time.monotonic()
        try:
            fetches.begin({tp: int(offsets[0]) for tp, offsets in self._wanted.items()})
            while fetches.positions:
                packs = fetches.wait(WAIT_S)
                self._pick(packs)
                if gone := fetches.out_of_range():
                    raise TransportError(f"records that were there are gone: {gone[:3]}")
                if packs:
                    moved_at = time.monotonic()
                elif time.monotonic() - moved_at > IDLE_TIMEOUT_S:
                    raise TransportError(f"{len(fetches.positions)} topic-partitions could not be read again")
                self._go_on()
        finally:
            fetches.close()

    def _pick(self, packs: list[Pack]) -> None:
        """Takes the records at the places, those of a topic together: a decoder's call is dear."""
        hit: dict[str, list[tuple[Pack, list[int]]]] = {}
        for pack in packs:
            offsets = self._wanted[pack.tp]
            first, last = np.searchsorted(offsets, (pack.base, pack.end)).tolist()
            if first < last:
                hit.setdefault(pack.tp.topic, []).append((pack, offsets[first:last].tolist()))
        for own in hit.values():
            self._take(_batch(own))

    def _go_on(self) -> None:
        """What is read to its last place is done; where the next one is far, reading goes on there."""
        positions = self._fetches.positions
        for tp, position in list(positions.items()):
            offsets = self._wanted[tp]
            at = int(np.searchsorted(offsets, position))
            if at == len(offsets):
                del positions[tp]
            elif offsets[at] - position > JUMP:
                positions[tp] = int(offsets[at])


def _batch(hit: Sequence[tuple[Pack, Sequence[int]]]) -> Batch:
    """Those records of these packs of one topic; without their headers."""
    found = [(pack, offset, *each) for pack, offsets in hit for offset, each in _records(pack, offsets)]
    return Batch(
        hit[0][0].tp.topic,
        [value for *_, value in found],
        [key for _, _, key, _ in found],
        [pack.tp.topic for pack, *_ in found],
        np.array([pack.tp.partition for pack, *_ in found], np.int32),
        np.array([offset for _, offset, *_ in found], np.int64),
        np.array([pack.last_ms for pack, *_ in found], np.int64),
        None,
        {pack.tp: offset for pack, offset, *_ in found},
    )


def _records(pack: Pack, offsets: Sequence[int]) -> Iterator[tuple[int, tuple[bytes | None, bytes | None]]]:
    """Key and value of the records at these offsets, rising, of those of a pack; the others are passed over by their
    lengths. Gaps, as a compacted topic has them, are none of a lifecycle's topics."""
    data, at, number = pack.records(), 0, 0
    for offset in offsets:
        while True:
            length, at = zigzag(data, at)
            if number == offset - pack.base:
                break
            at, number = at + length, number + 1
        yield offset, _content(data, at, number)
        at, number = at + length, number + 1


def _content(data: bytes, at: int, number: int) -> tuple[bytes | None, bytes | None]:
    """Key and value of the record that begins there; before them are its attributes, time and number."""
    _, at = zigzag(data, at + 1)
    said, at = zigzag(data, at)
    if said != number:
        raise TransportError(f"the record that ought to be number {number} of its batch says {said}")
    key, at = _bytes(data, at)
    value, _ = _bytes(data, at)
    return key, value


def _bytes(data: bytes, at: int) -> tuple[bytes | None, int]:
    length, at = zigzag(data, at)
    return (None, at) if length < 0 else (data[at : at + length], at + length)


def _hits(offsets: npt.NDArray[np.int64], wanted: npt.NDArray[np.int64]) -> npt.NDArray[np.intp]:
    """Of rising offsets, the rows of those that are among the wanted ones; those are some, and rise, too."""
    at = np.minimum(np.searchsorted(wanted, offsets), len(wanted) - 1)
    return np.flatnonzero(wanted[at] == offsets)
