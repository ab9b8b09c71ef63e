"""Broken builds of what reads whole record batches: each gives what is nobody's, or is not the reader's any more, or
loses what is.

That of a record batch only what stands behind the position is given, and that a host begins behind what is committed,
no seed shows: who reads something again knows it. tests/properties/test_packed.py holds the one, and
tests/contract/test_packed_consumer.py the other. Hosts commit by offsets, whatever a part of a batch claims.

I/O: none.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from streams.transport.batch import Batch, TopicPartition, bounded
from streams.transport.fetches import Fetches
from streams.transport.gathered import Gathered
from streams.transport.packed import Pack, packs_of
from tests.simulation.mutant import Mutant

_taken, _part = Fetches._taken, Gathered._part


def _kept(self: Any) -> None:
    """What was an earlier assignment's is read, or given, in the next one."""


def _answer_kept(self: Fetches) -> None:
    """Nobody hangs up; what is under way counts when it comes, and reading goes on behind it."""
    self.positions.clear()
    self._ends.clear()
    self.paused = frozenset()

    def taken(asked: Mapping[TopicPartition, int], answer: Any) -> list[Pack]:
        self.positions = {**asked, **self.positions}
        return _taken(self, self.positions, answer)

    self._taken = taken  # type: ignore[method-assign]


def _aborted_too(
    tp: TopicPartition, data: bytes, start: int, aborted: Iterable[tuple[int, int]] | None
) -> tuple[list[Pack], int]:
    return packs_of(tp, data, start, None)


def _ends_of_all(batch: Batch, rows_max: int, bytes_max: int) -> Iterator[Batch]:
    """With the first part all of a batch is done."""
    for part in bounded(batch, rows_max, bytes_max):
        part.ends = {owner: batch.ends[owner] for owner in part.ends}
        yield part


def _first_part(self: Gathered) -> list[Pack]:
    """What one read has no room for is dropped."""
    part = _part(self)
    self._held = [pack for pack in self._held if pack.tp in self._fetches.paused]
    return part


def _leaders_kept(self: Fetches, asked: Any, answer: Any) -> list[Pack]:
    """Of what another broker leads now, the one that did is asked for ever."""
    was = self._is_stale
    found = _taken(self, asked, answer)
    self._is_stale = was
    return found


def _ends_heard_of(self: Fetches) -> dict[TopicPartition, int]:
    """A log counts as read to its end once it is known where that is."""
    return dict(self._ends)


ANOTHERS = frozenset({"P1", "P3", "P4", "P5", "P7", "A1", "A2", "A3", "E1", "T1", "T2", "Q1", "Q2"})
LOST = frozenset({"P1", "P3", "P7", "Q1", "T1", "T2", "A1"})
TWICE = frozenset({"P1", "P4", "A1", "A2", "A3", "A5", "E1", "P7", "Q2"})

FETCHES: Mapping[str, Mutant] = {
    "what is fetched goes on when partitions go": Mutant(
        "streams.transport.fetches.Fetches.drop_all", _kept, ANOTHERS, "moves"
    ),
    "an answer to what an assignment that is over has asked is taken": Mutant(
        "streams.transport.fetches.Fetches.drop_all", _answer_kept, ANOTHERS, "moves"
    ),
    "record batches of an assignment that is over are given in the next one": Mutant(
        "streams.transport.gathered.Gathered.drop_all", _kept, ANOTHERS, "moves"
    ),
    "records of transactions that were aborted are given": Mutant(
        "streams.transport.fetches.packs_of", _aborted_too, TWICE | {"T1", "P3", "Q1"}, "takeovers"
    ),
    "a part of a record batch claims the end of all of it": Mutant(
        "streams.transport.packed_consumer.bounded", _ends_of_all, LOST, "full"
    ),
    "of what was fetched together only what one read brings is given": Mutant(
        "streams.transport.gathered.Gathered._part", _first_part, LOST, "crashes"
    ),
    "leaders that have moved are not looked for": Mutant(
        "streams.transport.fetches.Fetches._taken", _leaders_kept, LOST, "turns"
    ),
    "of a log that is read back only what the first answer brings is known": Mutant(
        "streams.transport.fetches.Fetches.at_end", _ends_heard_of, TWICE | LOST, "crashes"
    ),
}
