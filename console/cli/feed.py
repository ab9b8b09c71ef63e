"""Results as rows for people and programs.

I/O: none.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from streams.client import Result

Row = dict[str, Any]

COLUMNS = ("task_id", "status", "route", "reason", "agents", "votes", "ms", "answer")

_FIELDS = tuple(field.name for field in fields(Result))


def row_of(result: Result) -> Row:
    """Every field under the name of the record's, and `ms` from submission to decision."""
    row = {name: getattr(result, name) for name in _FIELDS}
    votes, version = [vote._asdict() for vote in result.votes], result.route_version or None
    return row | {"votes": votes, "route_version": version, "ms": result.ms}


def brief(result: Result) -> Row:
    """The columns of a table; `votes` says how many of a panel agreed."""
    votes = len(result.votes)
    return {
        "task_id": result.task_id,
        "status": result.status,
        "route": result.intent,
        "reason": result.reason,
        "agents": result.agents,
        "votes": f"{votes - len(result.dissent)} of {votes}" if votes else None,
        "ms": None if result.ms is None else round(result.ms, 1),
        "answer": result.answer,
    }
