"""What a host writes in an agent's log about no task: claims, and what a model made of a conversation. I/O: none."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pyarrow as pa

from agents.inbox import Inbox
from agents.memory.model import Key, Summary
from agents.memory.modelled import SUMMARISED, payload_of
from agents.outcome import NOTE
from schemas.epochs import CLAIMED
from schemas.ids import fact_id
from schemas.records import table
from streams.transport.batch import TopicPartition


def claims(
    agents: Sequence[str],
    epochs: Mapping[TopicPartition, int],
    versions: Sequence[str] = (),
    changes: Sequence[str | None] = (),
) -> pa.RecordBatch:
    """Columns of AgentEvent: one NOTE for each log, about no task. `versions` are those that answer from now on,
    `changes` say what they consist of, as JSON, where the log does not know them."""
    columns: dict[str, Any] = {
        "event_id": [fact_id(*log, CLAIMED, epoch) for log, epoch in epochs.items()],
        "kind": NOTE,
        "slip": _slip(list(agents), CLAIMED, 0),
        "task": {"task_id": "", "tenant": "", "submitted_at": 0, "deadline_ms": 0},
        "epoch": list(epochs.values()),
        "agent_version": list(versions) or "",
        "payload": list(changes) or None,
    }
    return table("AgentEvent", columns, len(epochs))


def summary_note(inbox: Inbox, key: Key, summary: Summary, version: str, times: tuple[int, int]) -> pa.RecordBatch:
    """Columns of AgentEvent: a NOTE about a conversation and no task, with what a model made of it. `times` are when it
    was asked and when it had answered, in us."""
    task = {"task_id": "", "tenant": key.tenant, "conversation_id": key.conversation_id}
    columns: dict[str, Any] = {
        "event_id": fact_id(*key, SUMMARISED, summary.first, inbox.epoch, *summary.ids),
        "kind": NOTE,
        "slip": _slip(inbox.agent_id, SUMMARISED, times[0]),
        "task": {**task, "submitted_at": times[0], "deadline_ms": 0},
        "epoch": inbox.epoch,
        "agent_version": version,
        "payload": payload_of(summary),
        "started_at": times[0],
        "finished_at": times[1],
    }
    return table("AgentEvent", columns, 1)


def _slip(agent_id: str | list[str], reason: str, routed_at: int) -> dict[str, Any]:
    """The slip of a note, which answers no dispatch."""
    nothing = {"attempt": 0, "stage": "UNKNOWN", "intent": "", "confidence": 0.0, "attempts": 0, "route_version": ""}
    nothing |= {"timeout_ms": 0, "deadline_default_ms": 0}
    return {"agent_id": agent_id, "reason": reason, "routed_at": routed_at, **nothing}


class Note(NamedTuple):
    """A record about a conversation, behind all that its log has of it by now."""

    inbox: Inbox
    key: bytes
    value: bytes
    delivered: asyncio.Future[bool]
