"""One agent at work: takes attempts in, calls the agent for each in its turn, and gives the outcomes to its log.

I/O: the wall clock, and what the agents do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from agents.calls import NOT_CALLED, Caller, wall_us
from agents.context import Contexts, Conversation
from agents.contract import Interaction
from agents.dispatches import Attempt
from agents.event_log import EventLog
from agents.inbox import Inbox
from agents.lanes import Lanes
from agents.outcome import Outcome, failed, timed_out
from schemas.reasons import ErrorClass
from schemas.topology import Agent
from streams.transport.telemetry import ERRORS, HOST_INFLIGHT, get_logger

log = get_logger("pointsman.host")


@dataclass(slots=True)
class Room:
    """How much one host may run at once, over all its agents."""

    running_max: int
    running: int = 0
    taken: int = 0  # attempts that run or wait

    def take(self, n: int) -> None:
        self.taken += n
        HOST_INFLIGHT.set(self.taken)


@dataclass(slots=True, eq=False)
class _Work:
    """Attempts that share one call: of a batch agent the rows of a poll, else one."""

    attempts: list[Attempt]
    conversation: Conversation | None
    call: asyncio.Task[None] | None = None


class Service:
    """Belongs to one event loop. `end` is called when there is room again: some other agent may have work."""

    def __init__(
        self, agent_id: str, agent: Agent, caller: Caller, events: EventLog, contexts: Contexts, room: Room
    ) -> None:
        self.agent_id, self._agent, self._caller = agent_id, agent, caller
        self._events, self._contexts, self._room = events, contexts, room
        self._is_batch = agent.kind == "batch"
        # Of a batch agent one call at a time: its rows stay in order.
        self._lanes: Lanes[_Work] = Lanes(1 if self._is_batch else agent.concurrency)
        self._running: set[_Work] = set()
        self.taken = 0

    def take(self, attempts: Sequence[Attempt]) -> None:
        """New attempts, in the order of their dispatch."""
        if not attempts:
            return
        self.taken += len(attempts)
        self._room.take(len(attempts))
        if self._is_batch:
            self._lanes.add(_Work(list(attempts), None))
        else:
            for attempt in attempts:
                self._lanes.add(_Work([attempt], attempt.conversation))
        self.pump()

    def pump(self) -> None:
        """Start what may start."""
        while self._room.running < self._room.running_max and (work := self._lanes.next()) is not None:
            self._room.running += 1
            self._running.add(work)
            work.call = asyncio.create_task(self._run(work), name=f"attempt-{self.agent_id}")

    async def release(self, inboxes: set[Inbox], timeout_s: float) -> None:
        """Give these inboxes up: what waits is dropped, what runs gets this time and is then cancelled."""
        self._lanes.drop(lambda work: self._forget(work, inboxes))
        calls = {work.call for work in self._running if any(attempt.inbox in inboxes for attempt in work.attempts)}
        running = {call for call in calls if call is not None}
        if not running:
            return
        _, late = await asyncio.wait(running, timeout=max(timeout_s, 0))
        for call in late:
            call.cancel()
        if late:
            log.info("attempts were cut off", agent=self.agent_id, attempts=len(late))
            await asyncio.wait(late)

    def close(self) -> None:
        self._caller.close()

    def _forget(self, work: _Work, inboxes: set[Inbox]) -> bool:
        """Whether nothing of this work is left once the attempts of these inboxes are gone."""
        gone = [attempt for attempt in work.attempts if attempt.inbox in inboxes]
        if gone:
            work.attempts = [attempt for attempt in work.attempts if attempt.inbox not in inboxes]
            self._left(gone)
        return not work.attempts

    async def _run(self, work: _Work) -> None:
        open_ = set(work.attempts)
        try:
            ready = self._in_time(self._without_doubt(work.attempts, open_), open_)
            if ready and self._agent.logs_start:
                await self._events.start(ready, wall_us())
                ready = self._in_time(ready, open_)
            if ready and self._is_batch:
                for attempt, outcome in zip(ready, await self._caller.call_batch(ready), strict=True):
                    self._end(attempt, outcome, open_)
            elif ready:
                (attempt,) = ready
                outcome = await self._caller.call(attempt, self._contexts.of(attempt.conversation))
                self._end(attempt, outcome, open_)
        finally:
            for attempt in open_:  # cancelled
                attempt.inbox.forget(attempt.id)
            self._left(open_)
            self._running.discard(work)
            self._room.running -= 1
            self._lanes.done(work)
            self.pump()

    def _without_doubt(self, attempts: Iterable[Attempt], open_: set[Attempt]) -> list[Attempt]:
        """Those that may be called: what an earlier host began to write is never written again."""
        if self._agent.effect != "write":
            return list(attempts)
        clear = []
        for attempt in attempts:
            if attempt.began_before:
                outcome = failed(ErrorClass.UNKNOWN_OUTCOME, "an earlier host called the agent and left no outcome")
                self._end(attempt, self._caller.timed(outcome, wall_us()), open_)
            else:
                clear.append(attempt)
        return clear

    def _in_time(self, attempts: Iterable[Attempt], open_: set[Attempt]) -> list[Attempt]:
        now_us, ready = wall_us(), []
        for attempt in attempts:
            if attempt.expires_ms * 1000 <= now_us:
                self._end(attempt, self._caller.timed(timed_out(NOT_CALLED), now_us), open_)
            else:
                ready.append(attempt)
        return ready

    def _end(self, attempt: Attempt, outcome: Outcome, open_: set[Attempt]) -> None:
        open_.discard(attempt)
        if outcome.error_class in {ErrorClass.INTERNAL, ErrorClass.UNKNOWN_OUTCOME}:
            ERRORS.labels(component="agent").inc()
        self._contexts.fold(
            attempt.conversation,
            Interaction(attempt.id.task_id, attempt.text, outcome.answer, outcome.kind, outcome.finished_at),
        )
        attempt.inbox.ended(attempt.id)
        self._events.write(attempt, outcome)
        self._left((attempt,))

    def _left(self, attempts: Iterable[Attempt]) -> None:
        n = len(list(attempts))
        self.taken -= n
        self._room.take(-n)
