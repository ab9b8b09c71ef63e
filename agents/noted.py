"""An interaction as a host keeps it until somebody looks at the conversation: packed into one object. I/O: none."""

from __future__ import annotations

import marshal
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from agents.inbox import Inbox
from agents.memory.model import Interaction, Key, Place
from agents.memory.sources import Asked, interaction_of
from agents.outcome import Outcome

if TYPE_CHECKING:
    from agents.dispatches import Attempt

_dumps = marshal.dumps


class Noted(NamedTuple):
    """An interaction as it happened: what `Interaction` is made from, once somebody looks. Of the attempt and its
    outcome it has what memory shows, in the order in which `pack` puts it."""

    asked: str
    task_id: str
    attempt: int
    stage: str
    labels: Sequence[tuple[str, str]] | None
    cause_id: str | None
    offset: int
    epoch: int
    kind: str
    answer: str | None
    facts: tuple[str, ...]
    error: str | None
    tokens_in: int
    tokens_out: int
    cost_microusd: int
    started_at: int
    finished_at: int
    ordinal: int
    tool_calls: str | None

    @classmethod
    def of(cls, packed: bytes) -> Noted:
        return cls(*marshal.loads(packed))  # noqa: S302  made by `pack`, in this process

    def interaction(self, key: Key, inbox: Inbox, version: str) -> Interaction:
        place = Place(inbox.topic, inbox.partition, self.offset)
        asked = Asked(self.task_id, self.attempt, self.stage, self.asked, dict(self.labels or ()), self.cause_id, place)
        return interaction_of(key, asked, self, self.epoch, version)


def pack(attempt: Attempt, outcome: Outcome) -> bytes:
    """What `Noted` has, as one object. Kept as what it came in, an interaction is a dozen, and once thousands of
    conversations have a hundred each, to let one go costs more than to take one in: none of it is in a cache any more.
    It never leaves the process."""
    _, task_id, number, stage = attempt.id
    kind, answer, _, _, _, _, facts, _, error, tokens_in, tokens_out, cost, started, finished, ordinal, calls = outcome
    noted = (
        attempt.text,
        task_id,
        number,
        stage,
        attempt.labels or None,
        attempt.cause_id,
        attempt.offset,
        attempt.inbox.epoch,
        kind,
        answer,
        facts,
        error,
        tokens_in,
        tokens_out,
        cost,
        started,
        finished,
        ordinal,
        calls,
    )
    try:
        return _dumps(noted, 0)
    except ValueError:  # an agent's texts and counts may be of classes of its own
        return _dumps(_plain(noted), 0)


def _plain(value: Any) -> Any:
    """The same of Python's own classes."""
    if isinstance(value, tuple | list):
        return tuple(map(_plain, value))
    if isinstance(value, str):
        return str.__str__(value)
    return int.__index__(value) if isinstance(value, int) else value
