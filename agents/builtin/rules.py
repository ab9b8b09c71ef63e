"""Agents that answer by rule: what a load test asks, so that the pipeline is measured and not a model.

`answer` takes columns; `answer_one` says the same of one task, and so is shown its conversation, but does not look.

Which tasks it fails, and how it differs from others, is decided by the number at the end of a task's id: the same tasks
every time. I/O: none but waiting.
"""

from __future__ import annotations

import asyncio
import time
from zlib import crc32

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from agents.contract import AgentFailed, Answer, Context, Task
from schemas.mixing import share, shares
from schemas.reasons import ErrorClass

ANSWER_CHARACTERS = 32
DIGITS = 9
RULE_BOOK = "the rule book"
_CITATION = pa.scalar([RULE_BOOK])
_FAIL, _DISAGREE = 1, 2  # so that the two are independent of each other


def answer(
    rows: pa.RecordBatch,
    *,
    salt: int = 0,
    fail: float = 0.0,
    burst: int = 1,
    error_class: str = ErrorClass.OVERLOADED,
    slow_ms: int = 0,
    disagree: float = 0.0,
    confidence: float = 0.9,
) -> pa.RecordBatch:
    """The beginning of each text. Columns of BATCH_OUTPUT, a row a task.

    Of the tasks the share `fail` fails with `error_class`, `burst` numbers in a row; the share `disagree` gets an
    answer that no agent of another `salt` gives. Each call takes `slow_ms` at least.
    """
    if slow_ms:
        time.sleep(slow_ms / 1000)
    n = rows.num_rows
    answers = pc.utf8_slice_codeunits(rows.column("text"), 0, ANSWER_CHARACTERS)
    columns = {
        "answer": answers,
        "confidence": pa.repeat(confidence, n),
        "citations": pa.repeat(_CITATION, n),
    }
    if fail or disagree:
        numbers = _numbers(rows.column("task_id"))
        if disagree:
            differs = pa.array(_shares(numbers, salt, _DISAGREE) < disagree)
            columns["answer"] = pc.if_else(differs, pc.binary_join_element_wise(answers, f"not {salt}", " "), answers)
        if fail:
            fails = pa.array(_shares(numbers // max(burst, 1), salt, _FAIL) < fail)
            columns["error_class"] = pc.if_else(fails, pa.scalar(str(error_class)), pa.scalar(None, pa.string()))
            columns["error"] = pc.if_else(fails, pa.scalar("failed by rule"), pa.scalar(None, pa.string()))
    return pa.RecordBatch.from_arrays([*columns.values()], names=[*columns])


async def answer_one(
    task: Task,
    context: Context,  # noqa: ARG001  what an agent costs that looks at none is measured
    *,
    salt: int = 0,
    fail: float = 0.0,
    burst: int = 1,
    error_class: str = ErrorClass.OVERLOADED,
    slow_ms: int = 0,
    disagree: float = 0.0,
    confidence: float = 0.9,
) -> Answer:
    """As `answer`, of one task."""
    if slow_ms:
        await asyncio.sleep(slow_ms / 1000)
    text = task.text[:ANSWER_CHARACTERS]
    if fail or disagree:
        digits = task.task_id[-DIGITS:]
        number = int(digits) if digits.isascii() and digits.isdigit() else crc32(task.task_id.encode())
        if fail and share(number // max(burst, 1) + salt * 4 + _FAIL) < fail:
            raise AgentFailed("failed by rule", error_class)
        if disagree and share(number + salt * 4 + _DISAGREE) < disagree:
            text = f"{text} not {salt}"
    return Answer(text, confidence, citations=(RULE_BOOK,))


def _numbers(task_ids: pa.StringArray) -> npt.NDArray[np.uint64]:
    """The digits that the ids end with; of ids that end otherwise a checksum."""
    try:
        digits = pc.utf8_slice_codeunits(task_ids, -DIGITS, 2**31 - 1)
        return np.asarray(digits.cast(pa.uint64()).to_numpy(zero_copy_only=False))
    except pa.ArrowInvalid:
        return np.array([crc32(each.encode()) for each in task_ids.to_pylist()], np.uint64)


def _shares(numbers: npt.NDArray[np.uint64], salt: int, purpose: int) -> npt.NDArray[np.float64]:
    """For each number one from 0 to 1 that it always gets."""
    return shares(numbers + np.uint64(salt * 4 + purpose))
