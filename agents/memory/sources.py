"""An interaction out of what the records say: whose words its task has, what came of it, which tools were called.

I/O: none.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from agents.memory.model import Interaction, Key, Place, Source, ToolCall

FROM_AGENT = "from_agent"
"""The label of a task that says which agent's words it carries."""

UNKNOWN = "unknown"


class Happened(Protocol):
    """What an event says of an outcome, under the names of its columns; times are in us."""

    @property
    def kind(self) -> str: ...
    @property
    def answer(self) -> str | None: ...
    @property
    def tool_calls(self) -> str | None: ...
    @property
    def facts(self) -> Sequence[str]: ...
    @property
    def error(self) -> str | None: ...
    @property
    def started_at(self) -> int: ...
    @property
    def finished_at(self) -> int: ...
    @property
    def tokens_in(self) -> int: ...
    @property
    def tokens_out(self) -> int: ...
    @property
    def cost_microusd(self) -> int: ...
    @property
    def ordinal(self) -> int: ...


class Asked(NamedTuple):
    """What an agent was asked, and for which attempt of which task."""

    task_id: str
    attempt: int
    stage: str
    text: str
    labels: Mapping[str, str]
    cause_id: str | None
    place: Place | None = None


def interaction_of(
    key: Key,
    asked: Asked,
    outcome: Happened,
    epoch: int,
    version: str,
    *,
    event: Place | None = None,
    event_id: str = "",
) -> Interaction:
    """What was asked and what came of it, together: the same from a host's memory, the logs and the history."""
    # By place, for names cost more: hosts make one of these for each interaction that an agent is shown.
    return Interaction(
        key,
        asked.task_id,
        asked.text,
        outcome.answer,
        outcome.kind,
        asked.attempt,
        asked.stage,
        outcome.ordinal,
        epoch,
        tool_calls_of(outcome.tool_calls),
        tuple(outcome.facts),
        outcome.error,
        outcome.started_at,
        outcome.finished_at,
        outcome.tokens_in,
        outcome.tokens_out,
        outcome.cost_microusd,
        version,
        source_of(asked.labels, asked.cause_id),
        asked.place,
        event,
        event_id,
    )


def source_of(labels: Mapping[str, str], cause_id: str | None) -> Source | None:
    """None for the words of whoever began. A task that another one caused carries words that came out of that."""
    agent_id = labels.get(FROM_AGENT)
    if not agent_id and not cause_id:
        return None
    return Source(agent_id or UNKNOWN, f"task {cause_id}" if cause_id else "no task named")


def tool_calls_of(text: str | None) -> tuple[ToolCall, ...]:
    """Out of an event; what cannot be read is one call that says so, for something was called."""
    if not text:
        return ()
    try:
        return tuple(
            ToolCall(str(each["id"]), str(each["name"]), str(each.get("arguments") or ""), _text(each.get("result")))
            for each in json.loads(text)
        )
    except (ValueError, TypeError, KeyError, AttributeError):
        return (ToolCall("", "unreadable", text),)


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def tool_calls_text(calls: tuple[ToolCall, ...]) -> str | None:
    """As an event holds them."""
    if not calls:
        return None
    rows = [
        {"id": each.call_id, "name": each.name, "arguments": each.arguments, "result": each.result} for each in calls
    ]
    return json.dumps(rows, ensure_ascii=False, separators=(",", ":"))
