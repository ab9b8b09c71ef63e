"""Distinct values of a column of numbers, and which of them each row has: by hash, without sorting.

I/O: none.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa


def factor(numbers: npt.NDArray[Any]) -> tuple[npt.NDArray[np.int64], npt.NDArray[Any]]:
    """(code of each row, distinct values by code), in the order of their first appearance; NaN equals NaN."""
    encoded = pa.array(numbers).dictionary_encode()
    codes = encoded.indices.to_numpy().astype(np.int64)
    return codes, encoded.dictionary.to_numpy()
