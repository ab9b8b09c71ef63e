"""Events of agents that count for nothing: hosts wrote them that had lost their inboxes (schemas/epochs.py).

One look at a batch, in columns, before anything is decided by it or folded. I/O: none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa

from schemas.codec import Decoded
from schemas.epochs import Epochs
from streams.transport.batch import Batch

if TYPE_CHECKING:
    import numpy.typing as npt


class Rows(NamedTuple):
    """Decoded records, and the row of the batch that each was."""

    records: pa.RecordBatch
    rows: npt.NDArray[np.intp]

    def take(self, places: npt.NDArray[np.intp]) -> Rows:
        return Rows(self.records.take(pa.array(places)), self.rows[places])


def split(epochs: Epochs, batch: Batch, decoded: Decoded) -> tuple[Rows, Rows | None]:
    """The AgentEvents that count, and those that are void: None, the ordinary case, which costs nothing."""
    every = Rows(decoded.batch, decoded.rows)
    topics = batch.topics if len(every.rows) == len(batch) else [batch.topics[row] for row in every.rows.tolist()]
    written = every.records.column("epoch").to_numpy()
    void = epochs.void(topics, batch.partitions[every.rows], batch.offsets[every.rows], written)
    if void is None:
        return every, None
    return every.take(np.setdiff1d(np.arange(len(every.rows)), void)), every.take(void)
