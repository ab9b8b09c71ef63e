"""One agent at work: takes attempts in, calls the agent for each in its turn, and gives the outcomes to its log.

I/O: the wall clock, and what the agents do.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from agents.admission import Admission
from agents.calls import Caller, wall_us
from agents.contract import EMPTY_CONTEXT
from agents.dispatches import Attempt
from agents.ends import Ends
from agents.event_log import EventLog
from agents.inbox import Inbox
from agents.lanes import Lanes
from agents.outcome import Outcome, timed_out
from agents.outcome_columns import Given, judged
from agents.recollection import Recollection
from agents.rows import Rows
from agents.work import Room, Work
from schemas.topology import Agent
from streams.transport.telemetry import get_logger

log = get_logger("pointsman.host")

OVERRUN = timed_out("the agent did not answer in time")
POLL_S = 0.005
TELL_S = 1.0
QUICK_S = 0.5


class Service:
    """Belongs to one event loop. `pump` has to be called now and then: another agent may have made room.

    `owns` returns once the broker has said that this host still has its inboxes. `fail` is told of an error that is no
    agent's; it must end the process. While `paused` says so nothing is called: what waits is turned away, what runs
    goes on.
    """

    def __init__(
        self,
        agent_id: str,
        agent: Agent,
        caller: Caller,
        events: EventLog,
        memory: Recollection,
        room: Room,
        owns: Callable[[], Awaitable[None]],
        fail: Callable[[Exception], None],
        paused: Callable[[], bool] = lambda: False,
    ) -> None:
        self.agent_id, self._agent, self._caller = agent_id, agent, caller
        self._events, self._contexts, self._room, self._fail = events, memory.contexts, room, fail
        self._memory, self._remembers = memory, memory.contexts.remembers(agent_id)
        self._owns, self._writes = owns, agent.effect == "write"
        # Of a batch agent one call at a time: its rows stay in order.
        self._lanes: Lanes[Work] = Lanes(1 if caller.batched else agent.running_max)
        self._running: set[Work] = set()
        self._ends = Ends(agent_id, events, memory.contexts, room)
        self._admission = Admission(self._ends, paused, writes=self._writes)
        self._overran, self._tells_at = 0, 0.0
        self._rests = False

    @property
    def taken(self) -> int:
        """Attempts that run or wait."""
        return self._ends.taken

    def take(self, attempts: Sequence[Attempt] | Rows) -> None:
        """New attempts, in the order of their dispatch."""
        if not attempts:
            return
        self._ends.count(len(attempts))
        if isinstance(attempts, Rows):
            self._lanes.add(Work([], None, attempts))
        elif self._caller.batched:
            self._lanes.add(Work(list(attempts), None))
        else:
            for attempt in attempts:
                self._lanes.add(Work([attempt], attempt.conversation))
        self.pump()

    def pump(self) -> None:
        """Start what may start."""
        if self._rests:
            return
        if self._lanes.waiting and self._admission.is_paused():
            self._lanes.drop(self._admission.turn_away)
        while self._room.running < self._room.running_max and (work := self._lanes.next()) is not None:
            if self._admission.admit(work):
                self._begin(work)
            else:
                self._lanes.done(work)

    async def rest(self, timeout_s: float) -> None:
        """Begin nothing until `go_on`, and give what runs time to end: this time, where to repeat it is dear, or
        impossible; else so much of it as a quick agent needs. What runs on is not cut off."""
        self._rests = True
        deadline = time.monotonic() + (timeout_s if self._agent.logs_start else min(timeout_s, QUICK_S))
        while self._running and time.monotonic() < deadline:  # noqa: ASYNC110  calls need not tell it
            await asyncio.sleep(POLL_S)

    def go_on(self) -> None:
        """The rest is over."""
        self._rests = False

    async def release(self, inboxes: set[Inbox], timeout_s: float) -> None:
        """Give these inboxes up: what waits is dropped, what runs gets this time and is then cancelled."""
        self._lanes.drop(lambda work: self._forget(work, inboxes))
        deadline = time.monotonic() + timeout_s
        while self._running_of(inboxes) and time.monotonic() < deadline:  # noqa: ASYNC110  calls need not tell it
            await asyncio.sleep(POLL_S)
        late = self._running_of(inboxes)
        for work in late:
            self._forget(work, inboxes)
            self._leave(work)
            if work.attempts:  # rows of inboxes that stay
                for attempt in work.attempts:
                    attempt.began_before = True
                self._lanes.add(Work(work.attempts, work.conversation))
        if late:
            log.info("calls were cut off", agent=self.agent_id, calls=len(late))
        self.pump()

    async def close(self) -> None:
        await self._caller.close()

    def _begin(self, work: Work) -> None:
        loop = asyncio.get_running_loop()
        self._room.running += 1
        self._running.add(work)
        work.started_us = wall_us()
        # The rows of a batch have the time of the one that has most.
        if work.rows is not None:
            expires_ms = work.rows.expires_ms[1]
            of_rows = work.call = self._caller.start_rows(work.rows)
            of_rows.add_done_callback(partial(self._rows_called, work, len(work.rows)))
        else:
            expires_ms = max(attempt.expires_ms for attempt in work.attempts)
            of_attempts = work.call = loop.create_task(self._call(work))
            of_attempts.add_done_callback(partial(self._called, work))
        work.timer = loop.call_later(expires_ms / 1000 - work.started_us / 1e6, self._overrun, work)

    async def _call(self, work: Work) -> list[Outcome]:
        if self._remembers:
            await self._recall(work)
        if self._agent.logs_start:
            await self._events.start(work.attempts, work.started_us)
            if self._writes:
                # Who takes over after this finds STARTED in the log; who took over before it may be writing already.
                await self._owns()
            self._admission.sort_out(work)
            work.started_us = wall_us()
        if not work.attempts:
            return []
        if not work.shown:
            return await self._caller.call(work.attempts, EMPTY_CONTEXT)
        await self._memory.ready(work.shown)  # people may have spoken since
        for attempt in work.attempts:
            attempt.context = self._contexts.of(attempt.conversation)
        return await self._caller.call(work.attempts, work.attempts[0].context)

    async def _recall(self, work: Work) -> None:
        """Its conversations are at hand when this returns, and stay so."""
        shown = frozenset(each.conversation for each in work.attempts if each.conversation is not None)
        if not shown:
            return
        await self._memory.ready(shown)
        if work in self._running:
            work.shown = shown
            for conversation in shown:
                self._contexts.begin(conversation)
        self._admission.sort_out(work)

    def _rows_called(self, work: Work, n: int, call: asyncio.Future[Given]) -> None:
        if call.cancelled():
            return
        ends = self._caller.ended(call, n)  # also where nobody wants to know: the loop would log an error
        if work in self._running:
            self._finish(work, lambda: ends)

    def _called(self, work: Work, call: asyncio.Task[list[Outcome]]) -> None:
        # A call is cancelled by nobody but us, except at the end of the loop.
        if work in self._running and not call.cancelled():
            self._finish(work, call.result)

    def _overrun(self, work: Work) -> None:
        work.expand()
        self._tell_overrun(len(work.attempts))
        self._finish(work, lambda: [OVERRUN] * len(work.attempts))

    def _tell_overrun(self, attempts: int) -> None:
        """At most once a second: of an agent that hangs, thousands of attempts overrun together."""
        self._overran += attempts
        if time.monotonic() >= self._tells_at:
            log.info("an agent overran its time", agent=self.agent_id, attempts=self._overran)
            self._overran, self._tells_at = 0, time.monotonic() + TELL_S

    def _finish(self, work: Work, outcomes: Callable[[], list[Outcome] | Given]) -> None:
        """The loop would swallow what is raised here: a fault of ours, since calls raise nothing."""
        try:
            ends = outcomes()
            if work.rows is not None and isinstance(ends, Given):
                self._ends.end_rows(work.rows, ends, work.started_us)
            else:
                work.expand()
                found = judged([ends]).rows() if isinstance(ends, Given) else ends
                self._ends.end(work.attempts, found, work.started_us, work.shown)
            self._leave(work)
            self.pump()
        except Exception as error:  # noqa: BLE001  it ends the host
            self._fail(error)

    def _leave(self, work: Work) -> None:
        """It is over, whatever its code still does."""
        self._running.discard(work)
        self._room.running -= 1
        self._lanes.done(work)
        assert work.timer is not None
        work.timer.cancel()
        assert work.call is not None
        work.call.cancel()
        for conversation in work.shown:
            self._contexts.left(conversation)
        work.shown = frozenset()

    def _running_of(self, inboxes: set[Inbox]) -> list[Work]:
        return [work for work in self._running if work.touches(inboxes)]

    def _forget(self, work: Work, inboxes: set[Inbox]) -> bool:
        """Whether nothing of this work is left once the attempts of these inboxes are gone."""
        if not work.touches(inboxes):
            return False
        work.expand()
        gone = [attempt for attempt in work.attempts if attempt.inbox in inboxes]
        work.attempts = [attempt for attempt in work.attempts if attempt.inbox not in inboxes]
        for attempt in gone:
            attempt.inbox.known.forget(attempt.id)
        self._ends.count(-len(gone))
        return not work.attempts
