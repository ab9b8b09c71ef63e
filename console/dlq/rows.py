"""A dead letter as a row: what `pointsman dlq list` prints, and the beginning of what `show` does. I/O: none."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from console.cli.output import Row
from console.dlq.bodies import Body
from schemas.redrive import Redriven
from streams.transport.dead_topic import Letter


def row_of(letter: Letter, body: Body, redrives: Sequence[Redriven]) -> Row:
    """All fields that are promised in docs/output.md; null where the letter does not say."""
    said = letter.said
    tenant, task_id = body.task
    return {
        "id": letter.id,
        "partition": letter.partition,
        "offset": letter.offset,
        "at": time_of(letter.at_ms),
        "origin_topic": said.origin.topic if said.origin else None,
        "origin_partition": said.origin.partition if said.origin else None,
        "origin_offset": said.origin.offset if said.origin else None,
        "origin_at": time_of(said.origin.appended_ms) if said.origin else None,
        "reason": said.reason or None,
        "detail": said.detail or None,
        "component": said.component or None,
        "attempt": said.attempt,
        "key": None if letter.key is None else text_of(letter.key),
        "size": None if letter.value is None else len(letter.value),
        "tenant": tenant,
        "task_id": task_id,
        "redrives": len(redrives),
        "redriven_at": time_of(redrives[-1].at_ms) if redrives else None,
    }


def time_of(at_ms: int) -> datetime | None:
    """None where a record has no time, or one that no calendar has."""
    try:
        return datetime.fromtimestamp(at_ms / 1000, UTC) if at_ms >= 0 else None
    except (ValueError, OverflowError, OSError):
        return None


def text_of(content: bytes) -> str:
    """UTF-8 as it is, all else in hex."""
    try:
        return content.decode()
    except UnicodeDecodeError:
        return f"0x{content.hex()}"


def told(count: int, what: str) -> str:
    """`1 dead letter`, `2 dead letters`."""
    return f"{count} {what}{'' if count == 1 else 's'}"


def shown(row: Row) -> dict[str, Any]:
    """The row for people: times short, and one word for what became of it."""
    at = row["at"]
    return {
        **row,
        "at": at.astimezone().isoformat(sep=" ", timespec="seconds") if isinstance(at, datetime) else None,
        "topic": row["origin_topic"],
        "redriven": row["redrives"] or None,
    }
