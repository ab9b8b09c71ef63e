"""Rows of a batch that belong to several cells: taken together, and apart again.

I/O: none.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from typing import TypeAlias, TypeVar

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


def at(column: Sequence[T], rows: Rows) -> list[T]:
    """The values of these rows."""
    wanted = rows.tolist()
    if len(wanted) < 2:  # noqa: PLR2004 - of one index `itemgetter` makes no tuple
        return [column[row] for row in wanted]
    return list(itemgetter(*wanted)(column))


def listed(rows: Rows) -> list[int]:
    found: list[int] = rows.tolist()
    return found
