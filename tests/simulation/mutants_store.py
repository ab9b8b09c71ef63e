"""Broken builds of the store: each takes away one thing that makes its history whole, and each fact single.

I/O: none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from clickhouse_connect.driver.exceptions import ClickHouseError

from streams.history.commits import Commits
from streams.history.loader import Loader, Rows, _aligned
from streams.history.sink import Buffer, Sink
from streams.history.tables import columns_of, stream_of
from tests.simulation.house import statements
from tests.simulation.mutant import Mutant

_begin, _take = Sink._begin, Buffer.take


def _committed_first(self: Sink) -> None:
    if self._loading is None:
        self._commits.add(self._waiting.positions())
    _begin(self)


def _skipped(self: Loader, table: str, parts: Sequence[Rows]) -> None:
    """A block that was refused is not tried again."""
    try:
        self._client = self._client or self._connect()
        block = stream_of(_aligned(parts))
        self._client.raw_insert(f"pointsman.{table}", columns_of(table), block, settings={}, fmt="ArrowStream")
    except ClickHouseError:
        self._client = None


def _all_positions(self: Sink, timeout_s: float = 0.0) -> bool:
    """A load that has begun counts as one that is done."""
    if self._loading is None:
        return False
    buffer, self._loading = self._loading.buffer, None
    self._commits.add(buffer.positions())
    return True


def _taken_and_lost(self: Buffer, rows_max: int) -> Buffer:
    taken = _take(self, rows_max)
    if len(taken.parts) > 1:
        taken.parts.pop(0)
    return taken


def _never_committed(self: Commits) -> None:
    pass


def _unfolded() -> str:
    return statements().replace(" FINAL;", ";")


P8 = frozenset({"P8"})

STORE: Mapping[str, Mutant] = {
    "the store commits before it inserts": Mutant("streams.history.sink.Sink._begin", _committed_first, P8, "store"),
    "the store takes an insert that has begun for one that is done": Mutant(
        "streams.history.sink.Sink._finished", _all_positions, P8, "store"
    ),
    "the store skips what ClickHouse has refused": Mutant(
        "streams.history.loader.Loader._insert", _skipped, P8, "store"
    ),
    "the store loses the first part of a load": Mutant(
        "streams.history.sink.Buffer.take", _taken_and_lost, P8, "store"
    ),
    "the store commits nothing": Mutant(
        "streams.history.commits.Commits.begin", _never_committed, frozenset({"Q1"}), "store"
    ),
    "a view counts what was inserted, and does not fold it": Mutant(
        "tests.simulation.house.statements", _unfolded, P8, "store"
    ),
}
