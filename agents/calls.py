"""Calls an agent and tells what came of it, whatever its code does: answers, raises, hangs or returns rubbish.

I/O: the wall clock, and what the agents do.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from agents.contract import AgentWrongInput, Context
from agents.dispatches import Attempt
from agents.outcome import Outcome, from_answer, from_batch, from_error, timed_out
from agents.registry import Code, is_async
from agents.threads import DaemonPool
from schemas.topology import Agent
from streams.transport.telemetry import HOST_ATTEMPT_DURATION, HOST_ATTEMPTS, get_logger

log = get_logger("pointsman.host")

NOT_CALLED = "the time was over before the agent was called"

T = TypeVar("T")


def wall_us() -> int:
    """Microseconds since the epoch."""
    return time.time_ns() // 1000


class Caller:
    """Calls one agent. Plain functions run in at most `agent.concurrency` threads of its own."""

    def __init__(self, agent_id: str, agent: Agent, code: Code) -> None:
        self.agent_id, self._agent, self._code = agent_id, agent, code
        self._writes = agent.effect == "write"
        self._async = is_async(code)
        self._pool = DaemonPool(f"agent-{agent_id}", agent.concurrency)
        self._durations = HOST_ATTEMPT_DURATION.labels(agent=agent_id)

    async def call(self, attempt: Attempt, context: Context) -> Outcome:
        """The outcome of one attempt, within its time. Raises only CancelledError."""
        started = wall_us()
        try:
            task = attempt.task()
        except ValueError as error:
            return self.timed(
                from_error(AgentWrongInput(f"the payload is no JSON: {error}"), may_have_acted=False), started
            )
        call = self._guarded(self._answer, task, context)
        outcome = await self._within(attempt.expires_ms, call)
        return self.timed(outcome, started)

    async def call_batch(self, attempts: list[Attempt]) -> list[Outcome]:
        """The outcomes of rows of one batch of dispatches, within the time of the one that has most."""
        started = wall_us()
        rows = attempts[0].source.batch_input([attempt.row for attempt in attempts])

        async def answer() -> list[Outcome]:
            output = await self._pool.run(self._code, rows)
            return from_batch(output, len(attempts), may_have_acted=self._writes)

        outcomes = await self._within(max(attempt.expires_ms for attempt in attempts), self._guarded(answer))
        each = outcomes if isinstance(outcomes, list) else [outcomes] * len(attempts)
        return [self.timed(outcome, started) for outcome in each]

    def timed(self, outcome: Outcome, started_us: int) -> Outcome:
        """With its times filled in, and counted."""
        finished_us = wall_us()
        HOST_ATTEMPTS.labels(agent=self.agent_id, outcome=outcome.kind).inc()
        self._durations.observe((finished_us - started_us) / 1e6)
        return outcome._replace(started_at=started_us, finished_at=finished_us)

    def close(self) -> None:
        self._pool.close()

    async def _answer(self, task: Any, context: Context) -> Outcome:
        if self._async:
            return from_answer(await self._code(task, context))
        answer = await self._pool.run(self._code, task, context)
        # A plain function may hand on another's coroutine.
        return from_answer(await answer if inspect.isawaitable(answer) else answer)

    async def _guarded(self, call: Callable[..., Awaitable[T]], *arguments: Any) -> T | Outcome:
        try:
            return await call(*arguments)
        except BaseException as error:  # noqa: BLE001  sys.exit() in an agent must not end the host
            return from_error(error, may_have_acted=self._writes)

    async def _within(self, expires_ms: int, call: Any) -> Any:
        running = asyncio.ensure_future(call)
        try:
            # Not wait_for: it waits for code that does not heed its cancellation.
            await asyncio.wait({running}, timeout=expires_ms / 1000 - time.time())
        except asyncio.CancelledError:
            running.cancel()
            raise
        if running.done():
            return running.result()
        running.cancel()
        log.info("an agent overran its time", agent=self.agent_id)
        return timed_out("the agent did not answer in time")
