"""One partition of the in-memory broker: records, transactions, and who may see what.

Offsets are places in the log, and rise by one; a transaction marker takes one too, as in Kafka. I/O: none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

Headers = list[tuple[str, bytes | None]]

SEQUENCES_MAX = 5
"""Batches of one producer that a partition remembers: what is older than these cannot come again."""

ABORT_KEY, COMMIT_KEY = b"\0\0\0\0", b"\0\0\0\1"
"""Of markers: their version, and which they are."""


class FencedError(Exception):
    """A producer is in a newer epoch than this one."""


class State(Enum):
    PLAIN = "plain"
    OPEN = "open"
    COMMITTED = "committed"
    ABORTED = "aborted"
    MARKER = "marker"
    COMPACTED = "compacted"


_PLAIN, _COMMITTED, _OPEN, _ABORTED = State.PLAIN, State.COMMITTED, State.OPEN, State.ABORTED


class ProducerId(NamedTuple):
    """An idempotent producer: the second number grows whenever the first one is initialised again."""

    number: int
    epoch: int


@dataclass(slots=True, eq=False)
class Record:
    """`first`: the offset of the first record that was appended with it. `writer` and `is_zombie` are for the
    invariants alone: who wrote it, and whether it had been expelled when it decided to, or when the record came, or had
    given it up after waiting for it."""

    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    state: State = State.PLAIN
    producer: ProducerId | None = None
    writer: str = ""
    is_zombie: bool = False
    first: int = -1

    @property
    def is_visible(self) -> bool:
        """To those who read committed records, once the last stable offset has passed it."""
        return self.state is _PLAIN or self.state is _COMMITTED


@dataclass(slots=True, eq=False)
class Partition:
    """`start`: the first offset still held. `waiting`: called once when more can be read. `changes` rises whenever its
    records, or who may see them, have changed. `aborted`: producer, first offset and marker of each transaction that
    was."""

    topic: str
    number: int
    records: list[Record] = field(default_factory=list)
    start: int = 0
    changes: int = 0
    waiting: list[Callable[[], None]] = field(default_factory=list)
    aborted: list[tuple[int, int, int]] = field(default_factory=list)
    _open: dict[int, int] = field(default_factory=dict)
    _sequences: dict[ProducerId, list[tuple[int, int]]] = field(default_factory=dict)
    _epochs: dict[int, int] = field(default_factory=dict)

    @property
    def end(self) -> int:
        return len(self.records)

    @property
    def has_open(self) -> bool:
        """Whether it holds records of a transaction that has not ended."""
        return bool(self._open)

    @property
    def visible_end(self) -> int:
        """After the last record that is committed: markers, and what is aborted, are nothing to read."""
        return next((record.offset + 1 for record in reversed(self.records) if record.is_visible), 0)

    @property
    def stable_end(self) -> int:
        """The last stable offset: no transaction is open before it."""
        return min(self._open.values()) if self._open else len(self.records)

    def append(
        self,
        records: list[Record],
        producer: ProducerId | None = None,
        sequence: int | None = None,
        *,
        in_transaction: bool = False,
    ) -> bool:
        """Whether they were appended; a batch that an idempotent producer sends again is not.

        Raises LookupError where a batch is missing before this one, FencedError where its producer has written in a
        newer epoch.
        """
        if producer is not None and sequence is not None:
            if producer.epoch < self._epochs.get(producer.number, 0):
                raise FencedError
            self._epochs[producer.number] = producer.epoch
            known = self._sequences.setdefault(producer, [])
            if any(first == sequence and count == len(records) for first, count in known):
                return False
            expected = known[-1][0] + known[-1][1] if known else 0
            if sequence != expected:
                raise LookupError(f"sequence {sequence}, {expected} was expected")
            known.append((sequence, len(records)))
            del known[:-SEQUENCES_MAX]
        first = self.end
        for record in records:
            record.offset, record.first = self.end, first
            if in_transaction and producer is not None:
                record.state, record.producer = State.OPEN, producer
                self._open.setdefault(producer.number, record.offset)
            self.records.append(record)
        self.wake()
        return True

    def end_transaction(self, producer: ProducerId, *, commit: bool, now_ms: int) -> None:
        """Writes the marker."""
        first = self._open.pop(producer.number, None)
        if first is not None:
            for record in self.records[first:]:
                if record.state is State.OPEN and record.producer == producer:
                    record.state = State.COMMITTED if commit else State.ABORTED
            if not commit:
                self.aborted.append((producer.number, first, self.end))
        kind = COMMIT_KEY if commit else ABORT_KEY
        self.records.append(Record(self.end, now_ms, kind, bytes(6), [], State.MARKER, producer, first=self.end))
        self.wake()

    def wake(self) -> None:
        self.changes += 1
        waiting, self.waiting = self.waiting, []
        for call in waiting:
            call()

    def read(self, position: int, rows_max: int, *, committed: bool) -> tuple[list[Record], int]:
        """Records from a position on, and where to read next: invisible ones take offsets and are not seen."""
        until = self.stable_end if committed else self.end
        found: list[Record] = []
        at = position
        while at < until and len(found) < rows_max:
            record = self.records[at]
            if record.is_visible or (not committed and (record.state is _OPEN or record.state is _ABORTED)):
                found.append(record)
            at += 1
        return found, at

    def at_or_after(self, time_ms: int) -> int | None:
        """Offset of the first record appended then or later."""
        return next((r.offset for r in self.records[self.start :] if r.timestamp_ms >= time_ms), None)

    def compact(self) -> None:
        """As the log cleaner: of each key the last committed value stays, and offsets keep their places."""
        self.changes += 1
        last: dict[bytes | None, Record] = {}
        for record in self.records:
            if record.is_visible:
                before = last.get(record.key)
                if before is not None:
                    before.state = State.COMPACTED
                last[record.key] = record

    def truncate(self, start: int) -> None:
        """Retention: what is before this offset is gone."""
        self.start = max(self.start, min(start, self.end))
