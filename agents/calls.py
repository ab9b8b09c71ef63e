"""Calls an agent and tells what came of it, whatever its kind and whatever its code does.

I/O: the wall clock, and what the agents do.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Protocol, cast

from agents.contract import AgentWrongInput, Context, Task
from agents.dispatches import Attempt
from agents.outcome import Outcome, from_error
from agents.outcome_columns import Given
from agents.rows import Rows


def wall_us() -> int:
    """Microseconds since the epoch."""
    return time.time_ns() // 1000


def task_of(attempt: Attempt) -> Task:
    """As the agent sees it. Raises AgentWrongInput for a payload that is no JSON."""
    try:
        return attempt.task()
    except ValueError as error:
        raise AgentWrongInput(f"the payload is no JSON: {error}") from error


class Runner(Protocol):
    """How agents of one kind are called. It belongs to the host's event loop, and is made before that runs.

    `batched`: one call takes many attempts; else there is one in each. `run` may raise whatever comes up: AgentFailed
    and AgentRefused where the agent surely did nothing, OutcomeUnclear where its outcome was not learned. It may be
    cancelled, and then lets nothing of the call go on that it can stop. `close` ends what it holds, within a second.
    """

    @property
    def batched(self) -> bool: ...

    async def run(self, attempts: Sequence[Attempt], context: Context) -> list[Outcome]: ...

    async def close(self) -> None: ...


class RowsRunner(Runner, Protocol):
    """One that takes columns, too. What is made of them may end with any error, as `run`."""

    def start_rows(self, rows: Rows) -> asyncio.Future[Given]: ...


class Caller:
    """Calls one agent.

    `call` raises nothing, and turns even its cancellation into an outcome: whoever cancels it is not interested.
    """

    def __init__(self, runner: Runner, *, writes: bool) -> None:
        self._runner, self._writes = runner, writes
        self.batched = runner.batched

    async def call(self, attempts: Sequence[Attempt], context: Context) -> list[Outcome]:
        """The outcomes of the attempts of one call."""
        try:
            return await self._runner.run(attempts, context)
        except BaseException as error:  # noqa: BLE001  sys.exit() in an agent must not end the host
            return [from_error(error, may_have_acted=self._writes)] * len(attempts)

    def start_rows(self, rows: Rows) -> asyncio.Future[Given]:
        """As `call`, for the rows of a batch agent, and without a task: a poll has a dozen of them. `ended` says what
        came of it."""
        return cast("RowsRunner", self._runner).start_rows(rows)

    def ended(self, call: asyncio.Future[Given], rows: int) -> Given | list[Outcome]:
        """The outcomes of a call that was started for so many rows, and has ended."""
        try:
            return call.result()
        except BaseException as error:  # noqa: BLE001  as above
            return [from_error(error, may_have_acted=self._writes)] * rows

    async def close(self) -> None:
        await self._runner.close()
