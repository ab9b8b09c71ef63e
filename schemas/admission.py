"""Whether a submission lies where its conversation lives: the key rule, checked in columns.

Duplicates and conversations are recognised per partition, so a record under another key would be served beside its
like. I/O: none.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from schemas.reasons import DeadReason


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
