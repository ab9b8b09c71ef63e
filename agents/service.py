"""One agent at work: takes attempts in, calls the agent for each in its turn, and gives the outcomes to its log.

I/O: the wall clock, and what the agents do.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial

from prometheus_client import Counter

from agents.calls import Caller, wall_us
from agents.contract import EMPTY_CONTEXT
from agents.conversation import Conversation
from agents.dispatches import Attempt
from agents.event_log import EventLog
from agents.inbox import Inbox
from agents.lanes import Lanes
from agents.outcome import OUTCOMES, Outcome, failed, timed_out
from agents.recollection import Recollection
from agents.rows import Outcomes, Rows
from schemas.reasons import ErrorClass
from schemas.topology import Agent
from streams.transport.telemetry import HOST_ATTEMPT_DURATION, HOST_ATTEMPTS, HOST_INFLIGHT, get_logger

log = get_logger("pointsman.host")

NOT_CALLED = timed_out("the time was over before the agent was called")
READ_LATE = failed(ErrorClass.OVERLOADED, "the time was over before the host read it: the agent was not called")
OVERRUN = timed_out("the agent did not answer in time")
PAUSED = failed(ErrorClass.PAUSED, "the agent is paused or retired: it was not called")
DOUBTFUL = failed(ErrorClass.UNKNOWN_OUTCOME, "an earlier host called the agent and left no outcome")
POLL_S = 0.005
TELL_S = 1.0


@dataclass(slots=True)
class Room:
    """How much one host may run at once, over all its agents."""

    running_max: int
    running: int = 0
    taken: int = 0  # attempts that run or wait

    def take(self, n: int) -> None:
        self.taken += n
        HOST_INFLIGHT.set(self.taken)


@dataclass(slots=True, eq=False, repr=False)  # no task's text may come into a log through a repr
class _Work:
    """Attempts that share one call: of a batch agent the rows of a poll, else one.

    It ends once: with its call, with its time, or given up. What the call comes to after that is of no interest.
    """

    attempts: list[Attempt]
    conversation: Conversation | None
    rows: Rows | None = None  # the same in columns; `attempts` is empty then
    started_us: int = 0
    # Whose conversations are kept at hand for it, and are told of the outcomes.
    shown: frozenset[Conversation] = frozenset()
    call: asyncio.Task[list[Outcome] | Outcomes] | None = None
    timer: asyncio.TimerHandle | None = None

    def expand(self) -> None:
        """From here on it is looked at row by row."""
        if self.rows is not None:
            self.attempts, self.rows = self.rows.attempts(), None

    def touches(self, inboxes: set[Inbox]) -> bool:
        if self.rows is not None:
            return not inboxes.isdisjoint(self.rows.inboxes)
        return any(attempt.inbox in inboxes for attempt in self.attempts)


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
        self._owns, self._paused = owns, paused
        self._writes = agent.effect == "write"
        # Of a batch agent one call at a time: its rows stay in order.
        self._lanes: Lanes[_Work] = Lanes(1 if caller.batched else agent.running_max)
        self._running: set[_Work] = set()
        self.taken = 0
        self._overran, self._tells_at = 0, 0.0
        self._durations = HOST_ATTEMPT_DURATION.labels(agent=agent_id)
        self._counters: dict[str, Counter] = {
            kind: HOST_ATTEMPTS.labels(agent=agent_id, outcome=kind) for kind in OUTCOMES
        }

    def take(self, attempts: Sequence[Attempt] | Rows) -> None:
        """New attempts, in the order of their dispatch."""
        if not attempts:
            return
        self._count(len(attempts))
        if isinstance(attempts, Rows):
            self._lanes.add(_Work([], None, attempts))
        elif self._caller.batched:
            self._lanes.add(_Work(list(attempts), None))
        else:
            for attempt in attempts:
                self._lanes.add(_Work([attempt], attempt.conversation))
        self.pump()

    def pump(self) -> None:
        """Start what may start."""
        if self._lanes.waiting and self._paused():
            self._lanes.drop(self._turn_away)
        while self._room.running < self._room.running_max and (work := self._lanes.next()) is not None:
            if work.rows is not None and work.rows.expires_ms[0] * 1000 <= wall_us():
                work.expand()
            if work.rows is None:
                work.attempts = self._callable(work.attempts)
            if work.rows is not None or work.attempts:
                self._begin(work)
            else:
                self._lanes.done(work)

    def _turn_away(self, work: _Work) -> bool:
        work.expand()
        work.attempts = self._callable(work.attempts)
        return not work.attempts

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
                self._lanes.add(_Work(work.attempts, work.conversation))
        if late:
            log.info("calls were cut off", agent=self.agent_id, calls=len(late))
        self.pump()

    async def close(self) -> None:
        await self._caller.close()

    def _begin(self, work: _Work) -> None:
        loop = asyncio.get_running_loop()
        self._room.running += 1
        self._running.add(work)
        work.started_us = wall_us()
        work.call = loop.create_task(self._call(work))
        work.call.add_done_callback(partial(self._called, work))
        # The rows of a batch have the time of the one that has most.
        if work.rows is not None:
            expires_ms = work.rows.expires_ms[1]
        else:
            expires_ms = max(attempt.expires_ms for attempt in work.attempts)
        work.timer = loop.call_later(expires_ms / 1000 - work.started_us / 1e6, self._overrun, work)

    async def _call(self, work: _Work) -> list[Outcome] | Outcomes:
        if work.rows is not None:
            return await self._caller.call_rows(work.rows)
        if self._remembers:
            await self._recall(work)
        if self._agent.logs_start:
            await self._events.start(work.attempts, work.started_us)
            if self._writes:
                # Who takes over after this finds STARTED in the log; who took over before it may be writing already.
                await self._owns()
            work.attempts = self._callable(work.attempts)
            work.started_us = wall_us()
        if not work.attempts:
            return []
        if not work.shown:
            return await self._caller.call(work.attempts, EMPTY_CONTEXT)
        await self._memory.ready(work.shown)  # people may have spoken since
        for attempt in work.attempts:
            attempt.context = self._contexts.of(attempt.conversation)
        return await self._caller.call(work.attempts, work.attempts[0].context)

    async def _recall(self, work: _Work) -> None:
        """Its conversations are at hand when this returns, and stay so."""
        shown = frozenset(each.conversation for each in work.attempts if each.conversation is not None)
        if not shown:
            return
        await self._memory.ready(shown)
        if work in self._running:
            work.shown = shown
            for conversation in shown:
                self._contexts.begin(conversation)
        work.attempts = self._callable(work.attempts)

    def _called(self, work: _Work, call: asyncio.Task[list[Outcome] | Outcomes]) -> None:
        # A call is cancelled by nobody but us, except at the end of the loop.
        if work in self._running and not call.cancelled():
            self._finish(work, call.result)

    def _overrun(self, work: _Work) -> None:
        work.expand()
        self._tell_overrun(len(work.attempts))
        self._finish(work, lambda: [OVERRUN] * len(work.attempts))

    def _tell_overrun(self, attempts: int) -> None:
        """At most once a second: of an agent that hangs, thousands of attempts overrun together."""
        self._overran += attempts
        if time.monotonic() >= self._tells_at:
            log.info("an agent overran its time", agent=self.agent_id, attempts=self._overran)
            self._overran, self._tells_at = 0, time.monotonic() + TELL_S

    def _finish(self, work: _Work, outcomes: Callable[[], list[Outcome] | Outcomes]) -> None:
        """The loop would swallow what is raised here: a fault of ours, since calls raise nothing."""
        try:
            ends = outcomes()
            if work.rows is not None and isinstance(ends, Outcomes):
                self._end_rows(work.rows, ends, work.started_us)
            else:
                work.expand()
                found = ends.rows() if isinstance(ends, Outcomes) else ends
                self._end(work.attempts, found, work.started_us, work.shown)
            self._leave(work)
            self.pump()
        except Exception as error:  # noqa: BLE001  it ends the host
            self._fail(error)

    def _leave(self, work: _Work) -> None:
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

    def _running_of(self, inboxes: set[Inbox]) -> list[_Work]:
        return [work for work in self._running if work.touches(inboxes)]

    def _forget(self, work: _Work, inboxes: set[Inbox]) -> bool:
        """Whether nothing of this work is left once the attempts of these inboxes are gone."""
        if not work.touches(inboxes):
            return False
        work.expand()
        gone = [attempt for attempt in work.attempts if attempt.inbox in inboxes]
        work.attempts = [attempt for attempt in work.attempts if attempt.inbox not in inboxes]
        for attempt in gone:
            attempt.inbox.known.forget(attempt.id)
        self._count(-len(gone))
        return not work.attempts

    def _callable(self, attempts: list[Attempt]) -> list[Attempt]:
        """Those that may be called now; the others end here.

        What is late is not begun, and what an earlier host began to write is never written again.
        """
        now_us, paused = wall_us(), self._paused()
        ready = []
        for attempt in attempts:
            if self._writes and attempt.began_before:
                self._end([attempt], [DOUBTFUL], now_us)
            elif attempt.expires_ms * 1000 <= now_us:
                self._end([attempt], [READ_LATE if attempt.was_read_late else NOT_CALLED], now_us)
            elif paused:
                self._end([attempt], [PAUSED], now_us)
            else:
                ready.append(attempt)
        return ready

    def _end(
        self,
        attempts: Sequence[Attempt],
        outcomes: Sequence[Outcome],
        started_us: int,
        shown: frozenset[Conversation] = frozenset(),
    ) -> None:
        """`shown`: conversations of which the agent was asked; what it was not asked is no part of them."""
        finished_us = wall_us()
        for attempt, outcome in zip(attempts, outcomes, strict=True):
            self._counters[outcome.kind].inc()
            attempt.inbox.known.ended(attempt.id, finished_us)
            timed = outcome._replace(started_at=started_us, finished_at=finished_us)
            if attempt.conversation is not None and attempt.conversation in shown:
                timed = self._contexts.note(attempt.conversation, attempt, timed)
            self._events.write(attempt, timed)
        if attempts:
            self._durations.observe((finished_us - started_us) / 1e6)
            self._count(-len(attempts))

    def _end_rows(self, rows: Rows, outcomes: Outcomes, started_us: int) -> None:
        """As `_end`. No batch agent is shown what was said before."""
        finished_us = wall_us()
        for kind, n in outcomes.counts().items():
            self._counters[kind].inc(n)
        rows.ended(finished_us)
        self._events.write_rows(rows, outcomes.at(started_us, finished_us))
        self._durations.observe((finished_us - started_us) / 1e6)
        self._count(-len(rows))

    def _count(self, n: int) -> None:
        self.taken += n
        self._room.take(n)
