"""Which submissions are taken in: those that decode, and lie where their conversation lives.

Duplicates and conversations are recognised per partition, so a record under another key would be served beside its
like. I/O: none.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas.codec import Codec, Decoded, DecodedLog, DecodeFault
from schemas.reasons import DeadReason

KEY_RULE = "the key must be the conversation id where the task has one, else the task id"

SUBMISSION = "TaskSubmitted"
"""What anybody may write."""


def admit(codec: Codec, record_name: str, values: Sequence[bytes | None], keys: Sequence[bytes | None]) -> Decoded:
    """Decodes records; a submission under a key that is not its own is a fault like any other."""
    decoded = codec.decode(values, record_name)
    if record_name != SUBMISSION:
        return decoded
    batch, rows = decoded.batch, decoded.rows
    own = keys if len(rows) == len(keys) else [keys[row] for row in rows.tolist()]
    misfits = key_faults(own, batch.column("task_id"), batch.column("conversation_id"))
    if not misfits:
        return decoded
    kept = np.setdiff1d(np.arange(len(rows)), [row for row, _ in misfits])
    misplaced = [DecodeFault(int(rows[row]), reason, KEY_RULE) for row, reason in misfits]
    faults = sorted([*decoded.faults, *misplaced], key=lambda fault: fault.row)
    return Decoded(batch.take(pa.array(kept)), rows[kept], faults, decoded.schema_ids[kept])


def admit_log(codec: Codec, record_name: str, batches: Sequence[bytes], rows: int) -> DecodedLog | None:
    """As `Codec.decode_log`; submissions only where all are let in, and each is just what it would be by itself."""
    is_submission = record_name == SUBMISSION
    decoded = codec.decode_log(batches, rows, record_name, doubted=is_submission)
    if decoded is None or not is_submission:
        return decoded
    wanted = pc.coalesce(decoded.batch.column("conversation_id"), decoded.batch.column("task_id"))
    return decoded if pc.all(pc.equal(decoded.keys, wanted)).as_py() else None


def key_faults(
    keys: Sequence[bytes | None], task_ids: pa.Array, conversation_ids: pa.Array
) -> list[tuple[int, DeadReason]]:
    """Index and reason of each row whose key is not its conversation id or, where it has none, its task id.

    INVALID_KEY: there is no key, or it is not UTF-8. KEY_MISMATCH: it is another text.
    """
    given = pa.array(keys, pa.binary())
    wanted = pc.coalesce(conversation_ids, task_ids).cast(pa.binary())
    same = pc.fill_null(pc.equal(given, wanted), pa.scalar(False))
    if pc.all(same).as_py() is not False:
        return []
    return [(row, _reason(keys[row])) for row, good in enumerate(same.to_pylist()) if not good]


def _reason(key: bytes | None) -> DeadReason:
    if key is None:
        return DeadReason.INVALID_KEY
    try:
        key.decode()
    except UnicodeDecodeError:
        return DeadReason.INVALID_KEY
    return DeadReason.KEY_MISMATCH
