"""Agents that repeat what they are asked: the smallest example of each kind, and a stand-in where a test needs one.

I/O: none.
"""

from __future__ import annotations

import pyarrow as pa

from agents.contract import Answer, Context, Task


async def reply(task: Task, context: Context, confidence: float | None = 0.9) -> Answer:
    """The text of the task, and in the payload what it remembers of the conversation."""
    earlier = [interaction.asked for interaction in context.interactions]
    return Answer(task.text, confidence, payload={"earlier": earlier}, citations=("the request",))


def reply_batch(rows: pa.RecordBatch, confidence: float = 0.9) -> pa.RecordBatch:
    """The texts of the tasks."""
    n = rows.num_rows
    return pa.RecordBatch.from_arrays(
        [rows.column("text"), pa.repeat(confidence, n), pa.repeat(pa.scalar(["the request"]), n)],
        names=["answer", "confidence", "citations"],
    )
