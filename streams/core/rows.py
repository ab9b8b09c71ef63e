"""Rows of a batch that belong to several cells: taken together, and apart again.

I/O: none.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

Rows: TypeAlias = npt.NDArray[np.int64]
T = TypeVar("T")


def together(parts: Sequence[Rows]) -> tuple[Rows, Rows]:
    """All rows, one part's after the other's, and of each the place of its part."""
    return np.concatenate(parts), np.repeat(np.arange(len(parts)), [len(rows) for rows in parts])


def edges(owner: Rows, parts: int) -> list[int]:
    """Where each part's rows begin among all, and at last where they end."""
    return listed(np.searchsorted(owner, np.arange(parts + 1)))


def runs(values: npt.NDArray[np.integer[Any]]) -> tuple[Rows, list[tuple[int, int, int]]]:
    """The places of the values in order, equal ones as they stand; each distinct value, and where in that order its
    places begin and end."""
    order = np.argsort(values, kind="stable")
    found = values[order]
    starts = np.flatnonzero(changes(found))
    bounds = [*listed(starts), len(values)]
    return order, [(value, *each) for value, each in zip(found[starts].tolist(), pairwise(bounds), strict=True)]


def by_owner(owners: npt.NDArray[np.int32]) -> list[tuple[int, Rows]]:
    """Each owner with its rows, ascending."""
    order, places = runs(owners)
    return [(owner, order[start:end]) for owner, start, end in places]


def changes(values: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.bool_]:
    """Whether each value is another than the one before it; of `np.diff` and its like this is a tenth."""
    found = np.ones(len(values), np.bool_)
    np.not_equal(values[1:], values[:-1], out=found[1:])
    return found


def at(column: Sequence[T], rows: Rows) -> list[T]:
    """The values of these rows."""
    return [column[row] for row in rows.tolist()]


def listed(rows: Rows) -> list[int]:
    found: list[int] = rows.tolist()
    return found
