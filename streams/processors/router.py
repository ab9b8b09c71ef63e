"""The router processor: submissions in columns, to the cells of their partitions, and what they decide out again.

I/O: Kafka, through the outbox that it is given.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas.admission import admit
from schemas.codec import FRAME_BYTES, Codec
from schemas.runs import by_value
from streams.core.cell import Cell
from streams.core.columns import Submissions
from streams.core.intake import Intake
from streams.core.policy import Policy
from streams.core.turn import submit
from streams.processors.outbox import Outbox
from streams.transport.batch import Batch, whole_or
from streams.transport.telemetry import TASKS_SUBMITTED

COMPONENT = "router"


class Router:
    """Call `handle` with each batch of `tasks.submitted`. What it raises must end the worker."""

    def __init__(self, policy: Policy, codec: Codec, outbox: Outbox, cells: Mapping[int, Cell]) -> None:
        self._policy, self._codec, self._outbox, self._cells = policy, codec, outbox, cells

    def handle(self, batch: Batch, now_ms: int) -> None:
        """Decodes, decides and hands over one batch, of partitions that all have a cell."""
        admitted = admit(self._codec, "TaskSubmitted", batch.values, batch.keys)
        self._outbox.bury(batch, admitted.faults, COMPONENT)
        records, rows, schema_ids = admitted.batch, admitted.rows, admitted.schema_ids
        TASKS_SUBMITTED.inc(len(rows))
        intake = Intake.read(self._policy, self._submissions(batch, records, rows, schema_ids), now_ms)
        parts = [(self._cells[partition], places) for partition, places in by_value(batch.partitions[rows])]
        self._outbox.emit(submit(parts, intake, now_ms))

    def _submissions(
        self, batch: Batch, records: pa.RecordBatch, rows: npt.NDArray[np.int64], schema_ids: npt.NDArray[np.int64]
    ) -> Submissions:
        """`records` are the rows `rows` of the batch."""
        where = rows.tolist()
        frames, datums = self._bodies(batch, records, where, schema_ids)
        return Submissions(
            batch=records,
            keys=whole_or(batch.keys, where),
            frames=frames,
            datums=datums,
            ahead=FRAME_BYTES,
            offsets=batch.offsets[rows].tolist(),
            appended_ms=batch.timestamps_ms[rows].tolist(),
        )

    def _bodies(
        self, batch: Batch, records: pa.RecordBatch, where: list[int], schema_ids: npt.NDArray[np.int64]
    ) -> tuple[list[bytes], list[bytes]]:
        """What precedes and what follows the slip in a dispatch: the producer's own bytes wherever a schema says so.

        The latter with the frame that it came in: what is copied for each dispatch need not be copied before.
        """
        ids = schema_ids.tolist()
        known = {each: self._codec.dispatch_frame(each) if each >= 0 else None for each in set(ids)}  # -1: no datum
        datums = whole_or(batch.values, where)
        ours = self._codec.frame("TaskDispatched")
        framed = {each: frame or ours for each, frame in known.items()}
        frames = list(map(framed.__getitem__, ids))
        if None in known.values():
            anew = [place for place, schema_id in enumerate(ids) if known[schema_id] is None]
            encoded = self._codec.encode_datums(records.take(pa.array(anew)), "TaskSubmitted")
            datums = list(datums)  # the batch keeps its own
            for place, datum in zip(anew, encoded, strict=True):
                datums[place] = ours + datum
        return frames, datums
