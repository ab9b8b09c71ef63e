"""Agents that are functions of this process: of kind `python`, in the loop or in threads, and of kind `batch`.

I/O: what the agents do.
"""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Sequence

import pyarrow as pa

from agents.calls import task_of
from agents.contract import BATCH_CONTEXT, Answer, Context
from agents.dispatches import Attempt
from agents.outcome import Outcome, from_answer, from_batch
from agents.outcome_columns import Given, given_of
from agents.registry import Code, is_async
from agents.rows import Rows
from agents.runners.turns import CallThreads, Lane
from agents.wire import context_fields
from schemas.topology import Agent
from streams.transport.threads import DaemonPool


class PythonRunner:
    """One task a call. Plain functions run in at most `agent.running_max` threads of their own."""

    batched = False

    def __init__(self, agent_id: str, agent: Agent, code: Code) -> None:
        self._code, self._async = code, is_async(code)
        self._pool = DaemonPool(f"agent-{agent_id}", agent.running_max)

    async def run(self, attempts: Sequence[Attempt], context: Context) -> list[Outcome]:
        (attempt,) = attempts
        task = task_of(attempt)
        answer: Answer
        if self._async:
            answer = await self._code(task, context)
        else:
            answer = await self._pool.run(self._code, task, context)
            # A plain function may hand on another's coroutine.
            answer = await answer if inspect.isawaitable(answer) else answer
        return [from_answer(answer)]

    async def close(self) -> None:
        self._pool.close()


class BatchRunner:
    """Rows of one batch of dispatches a call, in one of the host's threads. An agent whose `context` is true is shown
    that of each row, as it was before the call, in a column of its own; any other remembers nothing."""

    batched = True

    def __init__(self, agent: Agent, code: Code, threads: CallThreads) -> None:
        self._code, self._writes, self._remembers = code, agent.effect == "write", agent.remembers
        self._threads, self._lane = threads, Lane(agent.running_max)

    async def run(self, attempts: Sequence[Attempt], context: Context) -> list[Outcome]:  # noqa: ARG002  one interface
        rows = pa.concat_batches([each.source.batch_input().slice(each.row, 1) for each in attempts])
        if self._remembers:
            shown = pa.array([json.dumps(context_fields(each.context)) for each in attempts], pa.string())
            rows = rows.append_column(BATCH_CONTEXT, shown)
        output = await self._threads.start(self._lane, self._code, rows)
        return from_batch(output, len(attempts), may_have_acted=self._writes)

    def start_rows(self, rows: Rows) -> asyncio.Future[Given]:
        """As `run`, in columns."""
        return self._threads.start(self._lane, self._given, rows.batch_input())

    def _given(self, rows: pa.RecordBatch) -> Given:
        return given_of(self._code(rows), rows.num_rows)

    async def close(self) -> None:
        pass
