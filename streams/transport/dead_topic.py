"""Reads the dead topic: its letters one by one, and the markers behind them that say which were redriven.

Everything is bounded by where the topic ended when it was opened. I/O: Kafka.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from schemas.deadletter import DeadLetter, Headers, Origin, parse
from schemas.redrive import Redriven, parse_marker
from schemas.topology import Topology
from streams.transport.batch import Batch, TopicPartition
from streams.transport.clients import BrokerSettings, client_config
from streams.transport.consumer import BatchConsumer

ROWS_MAX = 5_000
BYTES_MAX = 16 * 1024 * 1024
POLL_S = 0.2

Place = tuple[str, int, int]  # topic, partition, offset


@dataclass(frozen=True, slots=True)
class Letter:
    """One dead letter as it stands on the dead topic; `at_ms` is when it was put there."""

    partition: int
    offset: int
    at_ms: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    said: DeadLetter

    @property
    def id(self) -> str:
        return f"{self.partition}:{self.offset}"

    @property
    def place(self) -> Place | None:
        """Where its record came from: two letters of one place are one record, put away twice."""
        return place_of(self.said.origin)


def place_of(origin: Origin | None) -> Place | None:
    return None if origin is None else (origin.topic, origin.partition, origin.offset)


@dataclass
class Markers:
    """Which records went back, and when; in the order in which they did."""

    by_place: dict[Place, list[Redriven]] = field(default_factory=dict)

    def add(self, marker: Redriven) -> None:
        place = place_of(marker.origin)
        assert place is not None
        self.by_place.setdefault(place, []).append(marker)

    def of(self, letter: Letter) -> list[Redriven]:
        return [] if letter.place is None else self.by_place.get(letter.place, [])


class DeadTopic:
    """A deployment's dead topic as of now. Raises TransportError where it cannot be read. Use it in `with`."""

    def __init__(self, settings: BrokerSettings, topology: Topology) -> None:
        self.name = topology.topics().dead
        self._reader = BatchConsumer(
            client_config(settings, topology, "consumer", name="pointsman-dlq"),
            channel_of=str,
            rows_max=ROWS_MAX,
            bytes_max=BYTES_MAX,
            poll_s=POLL_S,
            with_headers=True,
        )
        tps = self._reader.partitions_of([self.name])
        self.marks = {tp.partition: mark for tp, mark in self._reader.watermarks(tps).items()}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._reader.close()

    def starts(self, since_ms: int | None = None) -> dict[int, int]:
        """By partition, the first offset that is there; with `since_ms`, the first one appended then or later."""
        if since_ms is None:
            return {number: low for number, (low, _) in self.marks.items()}
        times = {TopicPartition(self.name, number): since_ms for number in self.marks}
        return {tp.partition: at for tp, at in self._reader.offsets_for_times(times).items()}

    def markers(self, starts: Mapping[int, int]) -> Markers:
        """The markers from these offsets on: all those of letters that stand there."""
        found = Markers()
        for _, _, _, marker in self._records(starts):
            if marker is not None:
                found.add(marker)
        return found

    def letters(self, starts: Mapping[int, int]) -> Iterator[Letter]:
        """The letters from these offsets on, each record's first one alone, as the history has it."""
        seen: dict[tuple[str, int], set[int]] = {}
        for batch, row, headers, marker in self._records(starts):
            if marker is not None:
                continue
            letter = _letter(batch, row, headers)
            if (place := letter.place) is not None:
                met = seen.setdefault(place[:2], set())
                if place[2] in met:
                    continue
                met.add(place[2])
            yield letter

    def letter(self, partition: int, offset: int) -> Letter | None:
        """The letter at this place; None where there is none, or a marker stands there."""
        low, end = self.marks.get(partition, (0, 0))
        if not low <= offset < end:
            return None
        for batch, row, headers, marker in self._records({partition: offset}, {partition: offset + 1}):
            if int(batch.offsets[row]) == offset and marker is None:
                return _letter(batch, row, headers)
        return None

    def _records(
        self, starts: Mapping[int, int], ends: Mapping[int, int] | None = None
    ) -> Iterator[tuple[Batch, int, Headers, Redriven | None]]:
        until = ends or {number: end for number, (_, end) in self.marks.items()}
        began = {TopicPartition(self.name, number): at for number, at in starts.items() if number in until}
        stops = {TopicPartition(self.name, number): until[number] for _, number in began}
        for batch in self._reader.read_to_end(began, stops):
            places = zip(batch.partitions.tolist(), batch.offsets.tolist(), strict=True)
            for row, (partition, offset) in enumerate(places):
                if starts[partition] <= offset < until[partition]:
                    headers = batch.headers[row] if batch.headers is not None else []
                    yield batch, row, headers, parse_marker(headers)


def _letter(batch: Batch, row: int, headers: Headers) -> Letter:
    return Letter(
        int(batch.partitions[row]),
        int(batch.offsets[row]),
        int(batch.timestamps_ms[row]),
        batch.keys[row],
        batch.values[row],
        headers,
        parse(headers),
    )
