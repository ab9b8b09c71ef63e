"""What agents were asked, out of their inboxes, for what they answered.

Task ids are a tenant's to choose, and one that comes again after `limits.duplicate_horizon_ms` is a new task, perhaps
of another conversation. So an outcome belongs to the dispatch of its conversation that was routed when it says, and to
no other conversation's ever. I/O: none.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from agents.dispatches import attempt_ids
from agents.memory.model import Place
from agents.recognition import AttemptId
from schemas.codec import Codec
from streams.transport.batch import Batch


class Question(NamedTuple):
    """A dispatch; `routed_at` in us."""

    attempt: AttemptId
    conversation_id: str | None
    routed_at: int
    text: str
    place: Place


def questions_in(codec: Codec, batch: Batch) -> Iterator[Question]:
    """Those of a batch of an inbox, in its order; what is no dispatch is passed over."""
    decoded = codec.decode(batch.values, "TaskDispatched")
    rows = decoded.rows
    slips, tasks = decoded.batch.column("slip"), decoded.batch.column("task")
    return map(
        Question,
        attempt_ids(slips, tasks),
        tasks.field("conversation_id").to_pylist(),
        slips.field("routed_at").to_pylist(),
        tasks.field("text").to_pylist(),
        map(
            Place,
            (batch.topics[row] for row in rows.tolist()),
            batch.partitions[rows].tolist(),
            batch.offsets[rows].tolist(),
        ),
    )


class Questions:
    """Of copies the first; a worker that took a task over may have routed it anew, at another time."""

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held: dict[tuple[AttemptId, str | None], list[Question]] = {}

    def add(self, question: Question) -> None:
        self._held.setdefault(question[:2], []).append(question)

    def has(self, attempt: AttemptId, conversation_id: str, routed_at: int) -> bool:
        """Whether exactly this dispatch is among them."""
        return any(each.routed_at == routed_at for each in self._held.get((attempt, conversation_id), ()))

    def of(self, attempt: AttemptId, conversation_id: str, routed_at: int) -> Question | None:
        """What was asked in the attempt that was routed at that time; None of what is not there."""
        held = self._held.get((attempt, conversation_id))
        return None if held is None else next((each for each in held if each.routed_at == routed_at), held[0])

    def forget(self, question: Question) -> None:
        """It, and what was routed before it under the same id."""
        left = [each for each in self._held.pop(question[:2], ()) if each.routed_at > question.routed_at]
        if left:
            self._held[question[:2]] = left
