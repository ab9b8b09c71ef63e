"""Rows of the history by hand, put in as the sink puts them in: for tests of tables and views.

I/O: ClickHouse over HTTP.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from schemas.records import table
from streams.history.loader import INSERT_SETTINGS
from streams.history.tables import TABLES, places_of, rows_of, stream_of
from streams.transport.batch import Batch
from tests.support.history import T0_US, slip

Rows = dict[str, Any]


def raw(topic: str, offsets: Sequence[int], **more: Any) -> Batch:
    n = len(offsets)
    columns = {"values": [b"v"] * n, "keys": [b"k"] * n, "headers": None, **more}
    return Batch(
        channel=topic,
        topics=[topic] * n,
        partitions=np.zeros(n, np.int32),
        offsets=np.array(offsets, np.int64),
        timestamps_ms=np.full(n, T0_US // 1000, np.int64),
        ends={},
        **columns,
    )


def insert(
    client: Any, name: str, fields: Rows, offsets: Sequence[int], times: int = 1, topic: str | None = None
) -> None:
    """The same block, as often as asked."""
    n = len(offsets)
    rows = rows_of(TABLES[name], table(name, fields, n), places_of(raw(topic or name, offsets), np.arange(n)))
    put(client, TABLES[name].name, rows, times)


def put(client: Any, name: str, rows: pa.RecordBatch, times: int = 1) -> None:
    for _ in range(times):
        client.raw_insert(
            f"pointsman.{name}",
            rows.schema.names,
            stream_of([rows]),
            fmt="ArrowStream",
            settings=INSERT_SETTINGS,
        )


def identity(ids: list[str], **more: Any) -> Rows:
    return {"task_id": ids, "tenant": "acme", "submitted_at": T0_US, "deadline_ms": T0_US // 1000, **more}


def samples(ids: list[str]) -> dict[str, Rows]:
    """Fields of one record of each type for each id."""
    return {
        "TaskSubmitted": {"task_id": ids, "tenant": "acme", "text": "do", "submitted_at": T0_US},
        "TaskDispatched": {"slip": slip(), "task": {"task_id": ids, "tenant": "acme", "text": "do"}},
        "AgentEvent": {
            "event_id": [f"e-{each}" for each in ids],
            "kind": "COMPLETED",
            "slip": slip(),
            "task": identity(ids),
            "started_at": T0_US + 1_000,
            "finished_at": T0_US + 3_500,
        },
        "TaskResult": {
            "task_id": ids,
            "tenant": "acme",
            "status": "COMPLETED",
            "reason": "ANSWERED",
            "submitted_at": T0_US,
            "decided_at": T0_US + 5,
        },
        "OrchestratorEvent": {
            "event_id": [f"n-{each}" for each in ids],
            "kind": "CASCADED",
            "reason": "FAILED",
            "at": T0_US,
            "task_id": ids,
            "tenant": "acme",
        },
        "BreakerState": {"agent_id": ids, "state": "OPEN", "epoch": 3, "reason": "FAILURE_RATE", "since_ms": 5},
        "PauseState": {"scope": ids, "paused": True, "reason": "DEAD_SHARE", "by": "h", "at": T0_US},
        "MemoryDirective": {"id": ids, "kind": "INSTRUCTION", "agent_id": "a", "text": "be brief", "at": T0_US},
        "AgentCard": {
            "agent_id": ids,
            "version": "1",
            "kind": "python",
            "effect": "read",
            "host_id": "h",
            "announced_at": T0_US,
        },
        "HealthCounts": {"agent_id": ids, "partition": 3, "window_id": 200, "successes": 1, "failures": 0},
    }


def identity_free(task_id: str, **more: Any) -> Rows:
    return {"task_id": task_id, "tenant": "acme", "text": "do", "submitted_at": T0_US, **more}


def result(task_id: str, status: str, reason: str, **more: Any) -> Rows:
    agents = pa.array([["b"]], pa.list_(pa.field("item", pa.string(), nullable=False)))
    body = {"task_id": task_id, "tenant": "acme", "status": status, "reason": reason, "attempts": 2, "agents": agents}
    return {**body, "submitted_at": T0_US, **more}


def note(event_id: str, kind: str, task_id: str, at: int, **more: Any) -> Rows:
    body = {"event_id": event_id, "kind": kind, "reason": "FAILED", "at": at, "task_id": task_id, "tenant": "acme"}
    return {**body, **more}


class NoLetters:
    """A producer of dead letters that has none under way."""

    def __len__(self) -> int:
        return 0
