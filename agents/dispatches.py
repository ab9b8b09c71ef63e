"""A batch of dispatches as attempts: what the host needs of each, and the columns that its events echo.

I/O: none.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from agents.contract import BATCH_INPUT, EMPTY_CONTEXT, NO_LABELS, Context, Task
from agents.conversation import Conversation
from agents.inbox import Inbox
from agents.recognition import AttemptId, keys_of
from schemas.dispatch_wait import waits_ms
from schemas.ids import task_texts
from schemas.records import record
from schemas.tenants import TenantDefaults

if TYPE_CHECKING:
    import numpy.typing as npt

_IDENTITY = record("AgentEvent").arrow.field("task").type


@dataclass(slots=True, eq=False, repr=False)
class Dispatched:
    """Decoded dispatches, with what their events repeat: columns of the same length.

    `number` rises with each batch that the host reads. `read_ms` is when it read them, in wall time; `wait_max_ms`,
    for how long they may have lain unread (`limits.dispatch_wait_ms`).
    """

    number: int
    slips: pa.StructArray
    identities: pa.StructArray
    tasks: pa.StructArray
    keys: list[bytes | None]
    read_ms: int = 0
    wait_max_ms: int = 0
    _input: pa.RecordBatch | None = None
    _expires_ms: npt.NDArray[np.int64] | None = None
    _task_texts: pa.BinaryArray | None = None

    @classmethod
    def of(
        cls, number: int, batch: pa.RecordBatch, keys: list[bytes | None], read_ms: int = 0, wait_max_ms: int = 0
    ) -> Dispatched:
        """`batch` has the columns of TaskDispatched; `keys` are the records' keys."""
        slips, tasks = batch.column("slip"), batch.column("task")
        deadline = pc.coalesce(_child(tasks, "deadline_ms"), _child(slips, "deadline_default_ms"))
        children = [deadline if field.name == "deadline_ms" else _child(tasks, field.name) for field in _IDENTITY]
        identities = pa.StructArray.from_arrays(children, fields=list(_IDENTITY))
        return cls(number, slips, identities, tasks, keys, read_ms, wait_max_ms)

    def batch_input(self) -> pa.RecordBatch:
        """What batch agents are given of all rows, made once: the columns of BATCH_INPUT."""
        if self._input is None:
            from_slip = ("intent", "stage")
            arrays = [_child(self.slips if name in from_slip else self.tasks, name) for name in BATCH_INPUT.names]
            self._input = pa.RecordBatch.from_arrays(arrays, schema=BATCH_INPUT)
        return self._input

    def expires_ms(self) -> npt.NDArray[np.int64]:
        """When each attempt is overdue, in wall time: its timeout counted from when it was read, or from when that was
        to be at the latest (`schemas.dispatch_wait`), but at most the task's deadline. Found once."""
        if self._expires_ms is None:
            self._expires_ms = self._found_expires_ms()
        return self._expires_ms

    def _found_expires_ms(self) -> npt.NDArray[np.int64]:
        routed_at, timeout_ms = (_child(self.slips, name).to_numpy() for name in ("routed_at", "timeout_ms"))
        routed_ms, deadline_ms = routed_at // 1000, _child(self.identities, "deadline_ms").to_numpy()
        latest_ms = routed_ms + waits_ms(self.wait_max_ms, routed_ms, deadline_ms)
        begins_ms = np.minimum(np.maximum(routed_ms, self.read_ms), latest_ms)
        return np.asarray(np.minimum(begins_ms + timeout_ms, deadline_ms), np.int64)

    def attempt_keys(self) -> list[bytes]:
        """What tells the attempts apart, as AttemptId.key; made anew."""
        return keys_of(self.task_texts(), _child(self.slips, "attempt"), _child(self.slips, "stage"))

    def task_texts(self) -> pa.BinaryArray:
        """As `schemas.ids.task_texts`, made once."""
        if self._task_texts is None:
            self._task_texts = task_texts(_child(self.tasks, "tenant"), _child(self.tasks, "task_id"))
        return self._task_texts

    def slice(self, number: int, start: int, stop: int) -> Dispatched:
        """Some of them, as a batch of their own."""
        slips, identities, tasks = (
            each.slice(start, stop - start) for each in (self.slips, self.identities, self.tasks)
        )
        keys = self.keys[start:stop]
        return Dispatched(number, slips, identities, tasks, keys, self.read_ms, self.wait_max_ms)


@dataclass(slots=True, eq=False, repr=False)
class Attempt:
    """One dispatch, from the moment it is read to its outcome.

    `routed_at` is in us. `expires_ms` is wall time, as of `Dispatched.expires_ms`.
    `conversation` is None where nothing has to be kept in order. `began_before`: its STARTED is in the log of an
    earlier host. `context` is what its agent is shown, once it is called.
    """

    inbox: Inbox
    source: Dispatched
    row: int
    offset: int
    id: AttemptId
    agent_id: str
    text: str
    payload: str | None
    intent: str
    language: str | None
    deadline_ms: int
    routed_at: int
    expires_ms: int
    labels: list[tuple[str, str]]
    traceparent: str | None
    data_class: str
    conversation: Conversation | None
    cause_id: str | None = None
    began_before: bool = False
    context: Context = EMPTY_CONTEXT

    @property
    def was_read_late(self) -> bool:
        """Whether its time was over when the host read it: that says nothing of the agent."""
        return self.expires_ms <= self.source.read_ms

    def task(self) -> Task:
        """As the agent sees it. Raises ValueError where the payload is no JSON."""
        tenant, task_id, _, stage = self.id
        try:
            payload = None if self.payload is None else json.loads(self.payload)
        except RecursionError as error:
            raise ValueError("nested too deeply") from error
        return Task(
            task_id,
            self.text,
            tenant,
            None if self.conversation is None else self.conversation.conversation_id,
            payload,
            self.intent,
            self.language,
            self.deadline_ms,
            stage,
            dict(self.labels) if self.labels else NO_LABELS,
            self.traceparent,
            self.data_class,
        )


def attempt_ids(slips: pa.StructArray, tasks: pa.StructArray) -> Iterator[AttemptId]:
    """One per row, of dispatches or of events: `tasks` may be either's."""
    of_tasks, of_slips = (_list(tasks, name) for name in ("tenant", "task_id")), ("attempt", "stage")
    return map(AttemptId, *of_tasks, *(_list(slips, name) for name in of_slips))


def attempts(
    source: Dispatched, inboxes: Iterable[Inbox], offsets: Iterable[int], defaults: TenantDefaults
) -> Iterator[Attempt]:
    """One attempt per row, given the inbox and the offset of each; `defaults` for what tasks leave out."""
    slips, tasks = source.slips, source.tasks
    rows = zip(
        inboxes,
        offsets,
        attempt_ids(slips, tasks),
        *(_list(slips, name) for name in ("agent_id", "intent", "routed_at")),
        source.expires_ms().tolist(),
        *(_list(tasks, name) for name in ("conversation_id", "text", "payload", "language", "labels", "traceparent")),
        _list(tasks, "cause_id"),
        defaults.data_classes(_child(tasks, "tenant"), _child(tasks, "data_class")),
        _list(source.identities, "deadline_ms"),
        strict=True,
    )
    for row, columns in enumerate(rows):
        inbox, offset, id_, agent_id, intent, routed_at, expires_ms, conversation_id, text, payload, language = columns[
            :11
        ]
        labels, traceparent, cause_id, data_class, deadline_ms = columns[11:]
        conversation = None
        if conversation_id is not None:
            conversation = Conversation(inbox.agent_id, inbox.partition, id_.tenant, conversation_id)
        yield Attempt(
            inbox,
            source,
            row,
            offset,
            id_,
            agent_id,
            text,
            payload,
            intent,
            language,
            deadline_ms,
            routed_at,
            expires_ms,
            labels,
            traceparent,
            data_class,
            conversation,
            cause_id,
        )


def _child(array: pa.StructArray, name: str) -> pa.Array:
    return array.field(array.type.get_field_index(name))


def _list(array: pa.StructArray, name: str) -> list[Any]:
    values: list[Any] = _child(array, name).to_pylist()
    return values
