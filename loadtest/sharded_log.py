"""A log of any length, read once and kept on disk in parts: each part has all records of its tasks.

What an audit then needs of all of it at once is small: hashes of the facts of one kind, or the places of a few tasks.
I/O: files; what it is given comes from Kafka.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path

import numpy as np
import polars as pl

from loadtest.audit_log import Place
from loadtest.column_audit import LINES, of_run
from loadtest.column_log import SCHEMAS, ColumnLog, ColumnReader
from loadtest.spill import Spill, shard_of
from schemas.codec import Codec
from schemas.topics import Topics

TASKS = 200_000
"""Of a part: its records are some 100 MB, and what a check makes of them as much again."""


class ShardedLog:
    """Takes batches as `ColumnReader`. `tasks`: about how many will come; they may be more. `only`: hashes of the tasks
    that count, where others are in the topics, too.

    Its files lie in a folder of their own in `folder`, until `close`.
    """

    def __init__(self, topics: Topics, codec: Codec, folder: Path, tasks: int, only: pl.Series | None = None) -> None:
        self.shards = max(1, -(-tasks // TASKS))
        self._folder = Path(tempfile.mkdtemp(prefix="audit-", dir=folder))
        self._spill = Spill(self._folder, self.shards, SCHEMAS, by="key")
        self._reader = ColumnReader(topics, codec, self._spill.add)
        self._only = None if only is None else Parts(only, self.shards)
        self.topics, self.take = self._reader.topics, self._reader.take

    @property
    def invalid(self) -> AbstractSet[Place]:
        """Where the records stand that are none, whosever they are."""
        return self._reader.invalid

    def parts(self) -> Iterator[ColumnLog]:
        """What was taken so far, one part after the other, as if it had no dead."""
        for shard in range(self.shards):
            log = self._reader.log_of({kind: self._spill.frame(kind, shard) for kind in SCHEMAS})
            yield log if self._only is None else of_run(log, self._only[shard])

    def facts(self, kind: str, *, of_tasks: bool) -> pl.Series:
        """Hashes of the facts of one kind; of all, or of those that are about tasks."""
        return pl.concat([self._facts(kind, shard, of_tasks=of_tasks) for shard in range(self.shards)], rechunk=True)

    def _facts(self, kind: str, shard: int, *, of_tasks: bool) -> pl.Series:
        if self._only is not None:
            frame = self._spill.frame(kind, shard, ("key", "fact"))
            return frame.join(self._only[shard].to_frame("key"), on="key", how="semi")["fact"]
        if of_tasks:
            return self._spill.frame(kind, shard, ("key", "fact")).filter(pl.col("key").is_not_null())["fact"]
        return self._spill.frame(kind, shard, ("fact",))["fact"]

    def places(self, keys: pl.Series) -> Mapping[str, pl.DataFrame]:
        """By kind, where the records of these tasks are."""
        names = ("key", "topic", "partition", "offset")
        wanted = Parts(keys, self.shards)
        return {
            kind: pl.concat(
                self._spill.frame(kind, shard, names).join(wanted[shard].to_frame("key"), on="key", how="semi")
                for shard in range(self.shards)
            )
            for kind in SCHEMAS
        }

    def lines(self) -> Spill:
        """Where what `lined` makes of the parts is kept, to be had again by lanes."""
        folder = Path(tempfile.mkdtemp(prefix="lines-", dir=self._folder))
        return Spill(folder, self.shards, {"lines": LINES}, by="lane")

    def close(self) -> None:
        """Cleans its files away."""
        shutil.rmtree(self._folder, ignore_errors=True)


class Parts:
    """Hashes by their shards."""

    def __init__(self, keys: pl.Series, shards: int) -> None:
        values = keys.to_numpy()
        shard = shard_of(values, shards)
        order = np.argsort(shard, kind="stable")
        self._keys = values[order]
        self._bounds = np.searchsorted(shard[order], np.arange(shards + 1)).tolist()

    def __getitem__(self, shard: int) -> pl.Series:
        return pl.Series("key", self._keys[self._bounds[shard] : self._bounds[shard + 1]], pl.UInt64)
