"""Failure, slowness and doubt on order, for tests and demonstrations: options that every example agent takes.

`fail_every`: every n-th call fails; 0: none. `fail_rate`: this share of the tasks fails, always the same ones, by a
hash of the task's id. `error_class`: how they fail; REFUSED refuses. `slow_ms`: waited before each answer.
`confidence`: said of every answer. I/O: none but waiting.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from itertools import count
from typing import NamedTuple, Protocol

import pyarrow as pa

from agents.contract import BATCH_OUTPUT, BATCH_REFUSED, AgentFailed, AgentRefused, Answer, Context, Task
from schemas.reasons import ErrorClass

ON_ORDER = "failed on order"


class PythonExample(Protocol):
    """A python agent with the options of this module."""

    async def __call__(
        self,
        task: Task,
        context: Context,
        *,
        fail_every: int = 0,
        fail_rate: float = 0.0,
        error_class: str = ErrorClass.INTERNAL,
        slow_ms: int = 0,
        confidence: float | None = None,
    ) -> Answer: ...


class BatchExample(Protocol):
    """A batch agent with the options of this module."""

    def __call__(
        self,
        rows: pa.RecordBatch,
        *,
        fail_every: int = 0,
        fail_rate: float = 0.0,
        error_class: str = ErrorClass.INTERNAL,
        slow_ms: int = 0,
        confidence: float | None = None,
    ) -> pa.RecordBatch: ...


class Failure(NamedTuple):
    """A row of a batch agent that gave no answer; the class REFUSED refuses."""

    error_class: str
    error: str


@dataclass(slots=True)
class _Order:
    """Which calls fail; one for each agent function of a process."""

    calls: count[int]

    def fails(self, task_id: str, fail_every: int, fail_rate: float) -> bool:
        number = next(self.calls)
        if fail_every and number % fail_every == 0:
            return True
        return fail_rate > 0 and share(task_id) < fail_rate


def share(text: str) -> float:
    """A number from 0 to 1 that a text always gets."""
    return int.from_bytes(blake2b(text.encode(), digest_size=6).digest()) / 2**48


def with_faults(agent: Callable[[Task, Context], Answer]) -> PythonExample:
    """The python agent that answers as this function does, except where it is told otherwise."""
    order = _Order(count(1))

    async def run(
        task: Task,
        context: Context,
        *,
        fail_every: int = 0,
        fail_rate: float = 0.0,
        error_class: str = ErrorClass.INTERNAL,
        slow_ms: int = 0,
        confidence: float | None = None,
    ) -> Answer:
        if slow_ms:
            await asyncio.sleep(slow_ms / 1000)
        if order.fails(task.task_id, fail_every, fail_rate):
            if error_class == BATCH_REFUSED:
                raise AgentRefused(ON_ORDER)
            raise AgentFailed(ON_ORDER, error_class)
        answer = agent(task, context)
        return answer if confidence is None else replace(answer, confidence=confidence)

    run.__doc__ = agent.__doc__
    return run


def batch_with_faults(agent: Callable[[str], Answer]) -> BatchExample:
    """The batch agent that answers each text as this function does, except where it is told otherwise."""
    order = _Order(count(1))

    def run_batch(
        rows: pa.RecordBatch,
        *,
        fail_every: int = 0,
        fail_rate: float = 0.0,
        error_class: str = ErrorClass.INTERNAL,
        slow_ms: int = 0,
        confidence: float | None = None,
    ) -> pa.RecordBatch:
        if slow_ms:
            time.sleep(slow_ms / 1000)
        results: list[Answer | Failure] = []
        for task_id, text in zip(rows.column("task_id").to_pylist(), rows.column("text").to_pylist(), strict=True):
            if order.fails(task_id, fail_every, fail_rate):
                results.append(Failure(error_class, ON_ORDER))
            else:
                result = _outcome(agent, text)
                if confidence is not None and isinstance(result, Answer):
                    result = replace(result, confidence=confidence)
                results.append(result)
        return as_rows(results)

    run_batch.__doc__ = agent.__doc__
    return run_batch


def _outcome(agent: Callable[[str], Answer], text: str) -> Answer | Failure:
    try:
        return agent(text)
    except AgentRefused as error:
        return Failure(BATCH_REFUSED, str(error))
    except AgentFailed as error:
        return Failure(error.error_class, str(error))
    except Exception as error:  # noqa: BLE001  one row must not cost the others
        return Failure(ErrorClass.INTERNAL, f"{type(error).__name__}: {error}")


def as_rows(results: Sequence[Answer | Failure]) -> pa.RecordBatch:
    """The columns of BATCH_OUTPUT."""
    rows = [
        {"error_class": str(result.error_class), "error": result.error}
        if isinstance(result, Failure)
        else {
            "answer": result.text,
            "confidence": result.confidence,
            "vote_key": result.vote_key,
            "citations": list(result.citations),
        }
        for result in results
    ]
    return pa.RecordBatch.from_pylist(rows, schema=BATCH_OUTPUT)
