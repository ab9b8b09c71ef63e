"""What the demo submits: real requests, some of them twice, tasks that must be refused, and records that are no tasks.

I/O: reads tasks.jsonl beside it.
"""

from __future__ import annotations

import math
import struct
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from console.cli.tasks import parse_tasks
from schemas.codec import Codec
from schemas.reasons import DeadReason
from schemas.records import table
from streams.client import Client, Prepared, Submission

TASKS = Path(__file__).with_name("tasks.jsonl")
# Every so many tasks one comes again: by turns at once, while it is in flight, and at the end, when it is answered.
AGAIN_EVERY = 12
INVALID_EVERY = 20
UNREGISTERED_SCHEMA = 999_999_999
INT64_MAX = 2**63 - 1
YEAR_US = 366 * 86_400 * 1_000_000

Key = tuple[str, str]  # tenant, task id


@dataclass(frozen=True, slots=True)
class Send:
    """One record for the submitted topic. `task` is None where it is no valid record."""

    record: Prepared
    task: Key | None


def tasks() -> list[Submission]:
    return parse_tasks(TASKS.read_bytes(), str(TASKS), {})


def plan(requests: list[Submission], client: Client, codec: Codec) -> Iterator[Send]:
    """All records in the order in which they are sent. Each is encoded when it is asked for: so its time is true."""
    refused, strays = _refused(client), _strays(codec)
    again: list[Submission] = []
    for number, request in enumerate(requests):
        yield _send(request, client)
        if number % AGAIN_EVERY == AGAIN_EVERY // 2:
            yield _send(request, client)
        elif number % AGAIN_EVERY == 0:
            again.append(request)
        if number % INVALID_EVERY == 0:
            yield from _next(refused)
            yield from _next(strays)
    yield from refused
    yield from strays
    yield from (_send(request, client) for request in again)


def _next(sends: Iterator[Send]) -> Iterator[Send]:
    send = next(sends, None)
    if send is not None:
        yield send


def _send(request: Submission, client: Client) -> Send:
    return Send(client.prepare([request]), (request.tenant, request.task_id))


# Tasks that decode, and must not be served: what each states besides its text.
_REFUSED: Mapping[str, Mapping[str, Any]] = {
    "confidence-is-no-number": {"confidence": math.nan},
    "confidence-above-one": {"confidence": 1.5},
    "confidence-below-zero": {"confidence": -0.1},
    "negative-budget": {"budget_microusd": -1},
    "deadline-at-the-epoch": {"deadline_ms": 0},
    "deadline-never": {"deadline_ms": INT64_MAX},
    "deadline-passed": {"deadline_ms": 1_500_000_000_000},
    "depth-below-the-root": {"depth": -1},
    "depth-without-end": {"depth": 2**31 - 1},
    "intent-of-nobody": {"intent": "cooking", "confidence": 0.9},
    "": {},
}


def _refused(client: Client) -> Iterator[Send]:
    for name, stated in _REFUSED.items():
        yield _unchecked(client, f"refused-{name}" if name else "", stated)
    yield _unchecked(client, "refused-from-the-future", {"submitted_at": _now_us() + YEAR_US})


def _unchecked(client: Client, task_id: str, stated: Mapping[str, Any]) -> Send:
    """A task past the checks of the client: what another program might send."""
    columns = {"task_id": [task_id], "text": "Find the revenue of EMEA in Q3", **stated}
    return Send(client.prepare_columns(columns), ("default", task_id))


def _strays(codec: Codec) -> Iterator[Send]:
    """Records that are no valid task, one for each reason why."""
    for reason in DeadReason:
        key, value = _stray(reason, codec)
        yield Send(Prepared(["stray"], [key], [value]), None)


def _stray(reason: DeadReason, codec: Codec) -> tuple[bytes | None, bytes | None]:
    key = b"stray"
    columns = {"task_id": "stray", "text": "Which policy covers travel?", "submitted_at": _now_us()}
    [good] = codec.encode(table("TaskSubmitted", columns, 1), "TaskSubmitted")
    strays: Mapping[DeadReason, tuple[bytes | None, bytes | None]] = {
        DeadReason.NULL_VALUE: (key, None),
        DeadReason.EMPTY_VALUE: (key, b""),
        DeadReason.OVERSIZED: (key, good + bytes(codec.record_bytes_max)),
        DeadReason.UNFRAMED: (key, b"hello, is this the right topic?"),
        DeadReason.UNKNOWN_SCHEMA: (key, struct.pack(">BI", 0, UNREGISTERED_SCHEMA) + good[5:]),
        DeadReason.WRONG_SCHEMA: (key, codec.frame("Feedback") + good[5:]),
        DeadReason.UNDECODABLE: (key, good[: len(good) // 3]),
        DeadReason.INVALID_UTF8: (key, good.replace(b"travel", b"tr\xff\xfeel")),
        DeadReason.INVALID_KEY: (None, good),
        DeadReason.KEY_MISMATCH: (b"another key", good),
    }
    return strays[reason]


def _now_us() -> int:
    return time.time_ns() // 1000
