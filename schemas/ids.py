"""Ids that are computed, never drawn: the same fact written twice has the same id.

I/O: none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from hashlib import blake2b
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

_ID_BYTES = 16


def fact_id(*parts: str | int) -> str:
    """32 hexadecimal digits naming a fact by its parts, in order; parts are length-prefixed, so none can run over."""
    return _digest(joined(*parts))


def joined(*parts: str | int) -> str:
    """The text of an id: of a longer one, if it is put behind that of the parts before."""
    return "".join([f"{len(part)}:{part}" for part in map(str, parts)])


def task_fact_ids(tenants: Iterable[str], task_ids: Iterable[str], rests: Iterable[str]) -> list[str]:
    """As `fact_id`, of many: `rests` are `joined` of what follows the task, which is the same for many facts."""
    begun: dict[str, Callable[[], Any]] = {}
    found = []
    for tenant, task_id, rest in zip(tenants, task_ids, rests, strict=True):
        begin = begun.get(tenant)
        if begin is None:  # what is the same for many is hashed once
            begin = begun[tenant] = blake2b(_bytes(joined(tenant)), digest_size=_ID_BYTES).copy
        hashed = begin()
        hashed.update(f"{len(task_id)}:{task_id}{rest}".encode("utf-8", "surrogatepass"))
        found.append(hashed.hexdigest())
    return found


def task_texts(tenants: pa.StringArray, task_ids: pa.StringArray) -> pa.BinaryArray:
    """`joined(tenant, task_id)` of many tasks, as bytes."""
    sizes = (pc.utf8_length(each).cast(pa.string()) for each in (tenants, task_ids))
    pieces = (piece for size, each in zip(sizes, (tenants, task_ids), strict=True) for piece in (size, ":", each))
    return pc.binary_join_element_wise(*pieces, "").cast(pa.binary())


def fact_ids(heads: Iterable[bytes], rests: Iterable[bytes]) -> list[str]:
    """As `fact_id`, of many: `heads` are `joined` of their first parts, `rests` of the others, as bytes."""
    return [blake2b(head + rest, digest_size=_ID_BYTES).hexdigest() for head, rest in zip(heads, rests, strict=True)]


def _digest(text: str) -> str:
    return blake2b(_bytes(text), digest_size=_ID_BYTES).hexdigest()


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def agent_event_id(
    tenant: str, task_id: str, agent_id: str, attempt: int, stage: str, kind: str, ordinal: int = 0
) -> str:
    """Id of an agent's event; `ordinal`, the host's epoch, tells the runs of one attempt apart."""
    return fact_id(tenant, task_id, agent_id, attempt, stage, kind, ordinal)
