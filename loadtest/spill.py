"""Columns of records on disk, in shards: of a run of any length, one part at a time is in memory.

A row's shard follows from the hash in one of its columns, so all rows that have it in common are in the same one,
whenever and wherever they were read. I/O: files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

ROWS = 500_000  # of a kind that wait in memory, some tens of MB; each time a file is written
OLDEST = pl.CompatLevel.oldest()

Schemas = Mapping[str, Mapping[str, Any]]


def shard_of(keys: npt.NDArray[np.uint64], shards: int) -> npt.NDArray[np.uint16]:
    """Of each hash, its shard."""
    return (keys % np.uint64(shards)).astype(np.uint16)


class Spill:
    """Frames of these kinds, each with its columns; `by` names the one with the hash. Rows without one are of shard 0.

    A file holds the shards of what came since the last one, one after the other, and is never changed. They are in
    `folder`, which is there, and which the caller cleans away.
    """

    def __init__(self, folder: Path, shards: int, schemas: Schemas, by: str) -> None:
        self.shards = shards
        self._folder, self._schemas, self._by = folder, schemas, by
        self._waiting: dict[str, list[pl.DataFrame]] = {kind: [] for kind in schemas}
        self._files: dict[str, list[Path]] = {kind: [] for kind in schemas}

    def add(self, kind: str, frame: pl.DataFrame) -> None:
        waiting = self._waiting[kind]
        waiting.append(frame)
        if sum(each.height for each in waiting) >= ROWS:
            self._write(kind)

    def frame(self, kind: str, shard: int, columns: Sequence[str] | None = None) -> pl.DataFrame:
        """All rows of one shard that were added, in their order; with these columns alone, where they are named."""
        if self._waiting[kind]:
            self._write(kind)
        names = list(self._schemas[kind])
        wanted = names if columns is None else list(columns)
        schema = {name: self._schemas[kind][name] for name in wanted}
        options = pa.ipc.IpcReadOptions(included_fields=sorted(map(names.index, wanted)))
        parts = [_batch(path, shard, options) for path in self._files[kind]]
        frames = [pl.DataFrame(pl.from_arrow(part)).select(wanted) for part in parts if part.num_rows]
        return pl.concat(frames, rechunk=True) if frames else pl.DataFrame(schema=schema)

    def _write(self, kind: str) -> None:
        frame = pl.concat(self._waiting[kind]).select(list(self._schemas[kind]))
        self._waiting[kind] = []
        shard = shard_of(frame[self._by].fill_null(0).to_numpy(), self.shards)
        order = np.argsort(shard, kind="stable")
        table = frame[order].to_arrow(compat_level=OLDEST).combine_chunks()
        bounds = np.searchsorted(shard[order], np.arange(self.shards + 1))
        path = self._folder / f"{kind}-{len(self._files[kind])}.arrow"
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
            for start, stop in pairwise(bounds.tolist()):
                part = table.slice(start, stop - start).to_batches()
                writer.write_batch(part[0] if part else pa.RecordBatch.from_pylist([], table.schema))
        self._files[kind].append(path)


def _batch(path: Path, number: int, options: pa.ipc.IpcReadOptions) -> pa.RecordBatch:
    # Read, not mapped: what is mapped counts as this process' memory.
    with pa.OSFile(str(path)) as file:
        return pa.ipc.open_file(file, options=options).get_batch(number)
