"""One turn: a batch, and the cells whose rows it holds. What can be decided together is, and the rest cell by cell.

I/O: none.
"""

from __future__ import annotations

from collections.abc import Sequence

from streams.core.effects import Effects
from streams.core.intake import Heard, Intake
from streams.core.swift import Part, send_out, take_answers


def submit(parts: Sequence[Part], intake: Intake, now_ms: int) -> dict[int, Effects]:
    """Takes in new tasks; what each cell decided, by partition."""
    for cell, _ in parts:
        cell.evict(now_ms)
    left = send_out(parts, intake, now_ms)
    return {cell.partition: cell.take_in(intake, rows, now_ms) for (cell, _), rows in zip(parts, left, strict=True)}


def collect(parts: Sequence[Part], heard: Heard, now_ms: int) -> dict[int, Effects]:
    """Takes in agents' events; what each cell decided, by partition."""
    left = take_answers(parts, heard, now_ms)
    return {cell.partition: cell.hear(heard, each, now_ms) for (cell, _), each in zip(parts, left, strict=True)}
