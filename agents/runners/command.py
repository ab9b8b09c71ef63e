"""Agents that are programs of their own: a line of JSON for each task, and one back, in the form of `agents.wire`.

I/O: processes, pipes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Sequence

from agents.contract import AgentFailed, Context
from agents.dispatches import Attempt
from agents.outcome import Outcome
from agents.runners.child import Child, Plan, spawn
from agents.runners.requests import Requests
from agents.targets import Program
from agents.wire import Heard, outcome_of, unheard
from schemas.reasons import ErrorClass
from schemas.topology import Agent
from streams.transport.telemetry import get_logger
from streams.transport.threads import DaemonPool

log = get_logger("pointsman.host")

# Of what the host has to end: what programs get to leave by themselves, and the end of the others.
LEAVE_S, KILL_S = 0.3, 0.5
RESTART_S, RESTART_S_MAX = 0.1, 10.0
PATIENCE = 2  # runs in a row that end without any answer before the next one has to wait


class CommandRunner:
    """Runs a program as often side by side as calls run, each run for one call after the other.

    A program is started when a call finds none that idles, and stays. Whatever goes wrong in a call, a time-out among
    it, costs its run: the whole tree is killed, and the next call gets a new one. The place of a run is free only once
    nothing of it is left, so that there are never more than `agent.running_max`.
    """

    batched = False

    def __init__(self, agent_id: str, agent: Agent, program: Program, heard: Heard = unheard) -> None:
        self._agent_id, self._agent, self._heard = agent_id, agent, heard
        self._plan = Plan(agent_id, program, agent.response_bytes_max)
        self._requests = Requests(agent_id, agent)
        self._places = asyncio.Semaphore(agent.running_max)
        self._idle: list[Child] = []  # the last one that worked is asked next, so that few are kept warm
        self._children: set[Child] = set()
        self._restarts = Restarts()
        self._starter = DaemonPool(f"start-{agent_id}", 1)
        self._background: set[asyncio.Task[None]] = set()

    async def run(self, attempts: Sequence[Attempt], context: Context) -> list[Outcome]:
        (attempt,) = attempts
        request = self._requests.of(attempt, context)
        await self._places.acquire()
        child, starting = self._idle_child(), None
        try:
            if child is None:
                starting = self._start()
                child = await asyncio.shield(starting)
            response = await child.ask(request.body, request.id)
        except BaseException as error:
            self._give_up(child, starting, error)
            raise
        self._restarts.answered()
        self._idle.append(child)
        self._places.release()
        self._heard(response)
        return [outcome_of(response)]

    async def close(self) -> None:
        for child in self._children:
            child.end()
        await self._all_gone(LEAVE_S)
        for child in self._children:
            child.kill()
        await self._all_gone(KILL_S)
        if self._children:
            log.warning("programs are left to their keepers", agent=self._agent_id, programs=len(self._children))
        self._starter.close()

    async def _all_gone(self, timeout_s: float) -> None:
        if ends := [*self._background, *(asyncio.ensure_future(child.gone()) for child in self._children)]:
            await asyncio.wait(ends, timeout=timeout_s)
            self._children = {child for child in self._children if not child.is_gone}

    def _idle_child(self) -> Child | None:
        while self._idle:
            child = self._idle.pop()
            if child.runs:
                return child
            child.kill()  # it has ended by itself, between two calls; what it left goes too
            self._in_background(self._forget(child))
        return None

    def _start(self) -> asyncio.Future[Child]:
        """Raises AgentFailed, as the future does, where none can be started now."""
        if (wait_s := self._restarts.wait_s(time.monotonic())) > 0:
            text = (
                f"the program ended {self._restarts.in_vain} times without an answer; no new start for {wait_s:.1f} s"
            )
            raise AgentFailed(text, ErrorClass.UNREACHABLE)
        return asyncio.ensure_future(self._started())

    async def _started(self) -> Child:
        try:
            child = await Child.start(self._plan, lambda plan: self._starter.run(spawn, plan))
        except AgentFailed:
            self._restarts.ended(time.monotonic(), answered=0)
            raise
        self._children.add(child)
        log.info("program started", agent=self._agent_id, pid=child.pid)
        return child

    def _give_up(self, child: Child | None, starting: asyncio.Future[Child] | None, error: BaseException) -> None:
        """After a call that failed: the place is free once nothing of its run is left."""
        if child is not None:
            if not isinstance(error, asyncio.CancelledError):  # one that was too slow is not one that crashes
                log.warning("a program is ended", agent=self._agent_id, pid=child.pid, why=str(error))
                self._restarts.ended(time.monotonic(), answered=child.answered)
            child.kill()
            self._in_background(self._forget(child, frees=True))
        elif starting is not None:
            self._in_background(self._forget_start(starting))
        else:
            self._places.release()

    async def _forget_start(self, starting: asyncio.Future[Child]) -> None:
        """Of a call that was cut off, or failed, while its program started."""
        await asyncio.wait([starting])
        if not starting.cancelled() and starting.exception() is None:
            starting.result().kill()
            await self._forget(starting.result())
        self._places.release()

    async def _forget(self, child: Child, *, frees: bool = False) -> None:
        await child.gone()
        self._children.discard(child)
        if frees:
            self._places.release()

    def _in_background(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.ensure_future(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)


class Restarts:
    """When a program that ends again and again may be started anew: each run in vain doubles the wait."""

    def __init__(self) -> None:
        self.in_vain = 0
        self._not_before_s = 0.0

    def answered(self) -> None:
        self.in_vain = 0

    def ended(self, now_s: float, *, answered: int) -> None:
        """A run has ended, by itself or for what it said, after so many answers."""
        if answered:
            self.in_vain = 0
            return
        self.in_vain += 1
        if self.in_vain >= PATIENCE:
            self._not_before_s = now_s + min(RESTART_S * 2 ** min(self.in_vain - PATIENCE, 20), RESTART_S_MAX)

    def wait_s(self, now_s: float) -> float:
        return self._not_before_s - now_s if self.in_vain >= PATIENCE else 0.0
