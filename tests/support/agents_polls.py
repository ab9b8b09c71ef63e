"""Polls of inboxes without a broker: what a host is given when it reads dispatches.

I/O: the wall clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from schemas.codec import Codec
from schemas.records import record, table
from schemas.topics import Topics
from streams.transport.batch import Batch
from tests.support.agents_bench import now_ms


def poll_of(topics: Topics, codec: Codec, rows: Sequence[tuple[str, int, int, str]], first: int = 0) -> Batch:
    """A row is agent, partition, number of the task and text; offsets rise from `first` through all rows.

    Tasks are per partition; those of an odd number belong to conversations. The text `overdue` makes a dispatch so,
    `garbage` none.
    """
    n, now, fields = len(rows), now_ms(), record("TaskSubmitted")
    ids = [f"t{partition}-{task}" for _, partition, task, _ in rows]
    conversations = [f"c{task % 3}" if task % 2 else None for _, _, task, _ in rows]
    columns: dict[str, Any] = {name: [fields.defaults.get(name)] * n for name in fields.arrow.names}
    columns |= {"task_id": ids, "text": [text for *_, text in rows], "submitted_at": [1] * n, "labels": [[]] * n}
    columns["conversation_id"] = conversations
    slip: dict[str, Any] = {
        "agent_id": [row[0] for row in rows],
        "attempt": 1,
        "intent": "all",
        "confidence": 0.9,
        "attempts": 1,
        "reason": "ROUTED",
        "route_version": "v",
        "timeout_ms": 60_000,
        "deadline_default_ms": now + 60_000,
        "routed_at": [(now - (90_000 if row[3] == "overdue" else 0)) * 1000 for row in rows],
    }
    values: list[bytes | None] = list(
        codec.encode(table("TaskDispatched", {"slip": slip, "task": columns}, n), "TaskDispatched")
    )
    values = [b"junk" if row[3] == "garbage" else value for row, value in zip(rows, values, strict=True)]
    names = [topics.inbox(row[0]) for row in rows]
    numbers = np.array([row[1] for row in rows], np.int32)
    offsets = np.arange(first, first + n)
    keys: list[bytes | None] = [(c or t).encode() for c, t in zip(conversations, ids, strict=True)]
    ends = dict(zip(zip(names, numbers.tolist(), strict=True), offsets.tolist(), strict=True))
    return Batch("dispatches", values, keys, names, numbers, offsets, np.full(n, now), None, ends)
