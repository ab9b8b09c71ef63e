"""Whose words a task has, and which tools were called for its answer, out of what the records say. I/O: none."""

from __future__ import annotations

import json
from collections.abc import Mapping

from agents.memory.model import Source, ToolCall

FROM_AGENT = "from_agent"
"""The label of a task that says which agent's words it carries."""

UNKNOWN = "unknown"


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
