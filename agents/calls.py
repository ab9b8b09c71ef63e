"""Calls an agent and tells what came of it, whatever its code does: answers, raises or returns rubbish.

I/O: the wall clock, and what the agents do.
"""

from __future__ import annotations

import inspect
import time

from agents.contract import AgentWrongInput, Answer, Context
from agents.dispatches import Attempt
from agents.outcome import Outcome, from_answer, from_batch, from_error
from agents.registry import Code, is_async
from schemas.topology import Agent
from streams.transport.threads import DaemonPool


def wall_us() -> int:
    """Microseconds since the epoch."""
    return time.time_ns() // 1000


class Caller:
    """Calls one agent. Plain functions run in at most `agent.concurrency` threads of its own.

    Both calls raise nothing, and turn even their cancellation into an outcome: whoever cancels them is not interested.
    """

    def __init__(self, agent_id: str, agent: Agent, code: Code) -> None:
        self._code = code
        self._writes = agent.effect == "write"
        self._async = is_async(code)
        self._pool = DaemonPool(f"agent-{agent_id}", agent.concurrency)

    async def call(self, attempt: Attempt, context: Context) -> Outcome:
        """The outcome of one attempt."""
        try:
            task = attempt.task()
        except ValueError as error:
            return from_error(AgentWrongInput(f"the payload is no JSON: {error}"), may_have_acted=False)
        try:
            answer: Answer
            if self._async:
                answer = await self._code(task, context)
            else:
                answer = await self._pool.run(self._code, task, context)
                # A plain function may hand on another's coroutine.
                answer = await answer if inspect.isawaitable(answer) else answer
            return from_answer(answer)
        except BaseException as error:  # noqa: BLE001  sys.exit() in an agent must not end the host
            return from_error(error, may_have_acted=self._writes)

    async def call_batch(self, attempts: list[Attempt]) -> list[Outcome]:
        """The outcomes of rows of one batch of dispatches, from one call."""
        try:
            rows = attempts[0].source.batch_input([attempt.row for attempt in attempts])
            output = await self._pool.run(self._code, rows)
            return from_batch(output, len(attempts), may_have_acted=self._writes)
        except BaseException as error:  # noqa: BLE001  as above
            return [from_error(error, may_have_acted=self._writes)] * len(attempts)

    def close(self) -> None:
        self._pool.close()
