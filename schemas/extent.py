"""How many bytes Avro takes for each row of a column, written as briefly as it can be.

No datum takes fewer, so a sum that comes out exactly shows that each of them took just these. I/O: none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas.definitions import UnsupportedSchemaError

if TYPE_CHECKING:
    import numpy.typing as npt

    from schemas.definitions import Definition

    Sizes = npt.NDArray[np.int64]

SHORT_MAX: Final = 64
"""Numbers below this take one byte: as an enum's symbol, or a union's branch."""
_FIXED: Final = {"null": 0, "boolean": 1, "float": 4, "double": 8}
_STEPS: Final = [np.uint64(1 << bits) for bits in range(7, 64, 7)]


def sizes_of(column: pa.Array, definition: Definition) -> Sizes:
    """Bytes of each row, int64, of a column as the decoder makes it of data in this schema (expanded).

    Where the column is null they count nothing. Raises UnsupportedSchemaError for a kind whose columns do not say it.
    """
    n = len(column)
    match definition:
        case str() if definition in _FIXED:
            return np.full(n, _FIXED[definition], np.int64)
        case "int" | "long":
            return varint_sizes(_numbers(column))
        case "string":
            return _behind_length(_numbers(pc.binary_length(column)))
        case {"type": "enum", "symbols": symbols} if len(symbols) <= SHORT_MAX:
            return np.ones(n, np.int64)
        case ["null", branch] | [branch, "null"]:
            if column.null_count == n:
                return np.ones(n, np.int64)
            inner = sizes_of(column, branch)
            return 1 + (np.where(_is_valid(column), inner, 0) if column.null_count else inner)
        case {"type": "record", "fields": fields}:
            parts = (sizes_of(column.field(i), field["type"]) for i, field in enumerate(fields))
            return sum(parts, np.zeros(n, np.int64))
        case {"type": "array", "items": items}:
            return _of_items(column, sizes_of(column.values, items))
        case {"type": "map", "values": values}:
            return _of_items(column, sizes_of(column.keys, "string") + sizes_of(column.items, values))
        case _:
            raise UnsupportedSchemaError(f"how long a value of {definition!r:.80} was cannot be told")


def varint_sizes(numbers: npt.NDArray[np.int64]) -> Sizes:
    """Bytes of each number as a varint in zigzag."""
    coded = ((numbers << 1) ^ (numbers >> 63)).view(np.uint64)
    sizes, most = np.ones(len(numbers), np.int64), coded.max(initial=0)
    for step in _STEPS:
        if most < step:
            break
        sizes += coded >= step
    return sizes


def _behind_length(lengths: Sizes) -> Sizes:
    return varint_sizes(lengths) + lengths


def _of_items(column: Any, items: Sizes) -> Sizes:
    """Items of a row are one block, behind their number and before a nought; none are a nought alone."""
    offsets = column.offsets.to_numpy()
    if not len(items):
        return np.ones(len(column), np.int64)
    total = np.concatenate([[0], np.cumsum(items)])
    counts = np.diff(offsets).astype(np.int64)
    return np.where(counts > 0, varint_sizes(counts) + total[offsets[1:]] - total[offsets[:-1]], 0) + 1


def _numbers(column: Any) -> npt.NDArray[np.int64]:
    """The column as int64, nought where it is null."""
    found: npt.NDArray[np.int64] = (pc.fill_null(column, 0) if column.null_count else column).to_numpy()
    return found.astype(np.int64, copy=False)


def _is_valid(column: pa.Array) -> npt.NDArray[np.bool_]:
    found: npt.NDArray[np.bool_] = column.is_valid().to_numpy(zero_copy_only=False)
    return found
