"""Ids that are computed, never drawn: the same fact written twice has the same id.

I/O: none.
"""

from __future__ import annotations

from hashlib import blake2b


def fact_id(*parts: str | int) -> str:
    """32 hexadecimal digits naming a fact by its parts, in order; parts are length-prefixed, so none can run over."""
    return _digest(joined(*parts))


def joined(*parts: str | int) -> str:
    """The text of an id: of a longer one, if it is put behind that of the parts before."""
    return "".join([f"{len(part)}:{part}" for part in map(str, parts)])


def task_fact_id(tenant: str, task_id: str, rest: str) -> str:
    """As `fact_id`, where what follows the task is the same for many facts: `rest` is `joined` of it."""
    return _digest(f"{len(tenant)}:{tenant}{len(task_id)}:{task_id}{rest}")


def _digest(text: str) -> str:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def agent_event_id(
    tenant: str, task_id: str, agent_id: str, attempt: int, stage: str, kind: str, ordinal: int = 0
) -> str:
    """Id of an agent's event; `ordinal`, the host's epoch, tells the runs of one attempt apart."""
    return fact_id(tenant, task_id, agent_id, attempt, stage, kind, ordinal)
