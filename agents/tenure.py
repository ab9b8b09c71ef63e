"""Inboxes come and go: what a host does with those that its group gives it, and before it gives some up.

The group takes all of them from everybody, and deals them out again, each time that a member comes or goes. Most come
back. So what a host is told to give up is at stake first, and what runs goes on; once the group has dealt, what went is
forgotten, and what is back in the very next generation is as it was: nobody else can have had it in between.

The callbacks run in the reader's thread, inside a poll. State belongs to the event loop, which they ask, and wait for.
I/O: Kafka.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from agents.event_log import EventLog
from agents.inbox import Inbox
from agents.ownership import Questions
from agents.positions import Committed, Positions
from agents.readback import ReadBack, Recovered
from agents.recollection import Recollection
from agents.regulation import Regulation
from agents.service import Service
from agents.snapshots import Snapshots
from schemas.epochs import is_behind, next_epoch
from streams.transport.batch import TopicPartition
from streams.transport.clients import TransportError
from streams.transport.consumer import Begin, GroupConsumer
from streams.transport.requests import FROM_THE_FIRST, NO_OFFSET
from streams.transport.telemetry import CONSUMER_LAG, get_logger
from streams.transport.threads import has_ended

log = get_logger("pointsman.host")

REVOKE_S = 3.0  # what running attempts get when their partitions go to another host
SETTLE_S = 2.0  # what their events get to be delivered
CLAIM_S = 9.0  # what its claims get to be delivered
MEMORY_S = 120.0  # what reading snapshots and the rest of the logs may take when inboxes are taken over
ANSWER_EACH_S = 0.02
ANSWER_S = 10.0  # longest time that a rebalance callback waits for the loop

NO_GENERATION = -1
"""Of who is in no group; the first generation is 1."""

T = TypeVar("T")


class Tenure:
    """Of the host's `inboxes`, which it keeps. `fail` is told what ends the host.

    Inboxes of agents that remember are not read at first: what they remember is, which takes as long as all else
    together, and the others do not wait for it.

    `closing`, once the host ends: then it leaves the group, and nothing more is taken over or given up.
    """

    def __init__(
        self,
        consumer: GroupConsumer,
        read_back: ReadBack,
        positions: Positions,
        events: EventLog,
        memory: Recollection,
        questions: Questions,
        services: Mapping[str, Service],
        snapshots: Snapshots | None,
        inboxes: dict[TopicPartition, Inbox],
        regulation: Regulation,
        fail: Callable[[Exception], None],
    ) -> None:
        self._consumer, self._read_back, self._positions = consumer, read_back, positions
        self._events, self._memory, self._questions = events, memory, questions
        self._services, self._snapshots = services, snapshots
        self._inboxes, self._regulation, self._fail = inboxes, regulation, fail
        self._remembering: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self.is_assigned = False
        self.closing = False
        self._generation = NO_GENERATION  # in which this host got what it has

    def begin(self, topics: Iterable[str]) -> None:
        """Join the group, for these inboxes. To be called in the event loop."""
        self._loop = asyncio.get_running_loop()
        self._consumer.subscribe(topics, on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._lost)

    def _assigned(self, tps: list[TopicPartition]) -> Begin | None:
        """Gives where reading goes on, of inboxes that were not another's since this host read them, and which are not
        to be read yet."""
        if self.closing:  # it leaves the group, which then hears of it
            return None
        began, generation = time.monotonic(), self._consumer.generation()
        begin = self._ask(self._keep(self._kept(tps, generation)))
        self._positions.at_stake = False  # those that went are forgotten
        committed = self._take(new := [tp for tp in tps if tp not in self._inboxes])
        self._generation = generation
        log.info("inboxes assigned", inboxes=len(tps), new=len(new), seconds=round(time.monotonic() - began, 3))
        # Of these the client is told where they begin: paused while it asks for that, it may never know.
        paused = self._regulation.paused_at_first(tps)
        known = {tp: committed[tp][0] for tp in paused if tp in committed}
        return Begin({tp: FROM_THE_FIRST if at == NO_OFFSET else at for tp, at in known.items()} | begin, paused)

    def _kept(self, tps: Iterable[TopicPartition], generation: int) -> set[TopicPartition]:
        """Inboxes that this host had in the generation before this one. Each generation deals once: of one that passed
        without this host nothing is known, and of one in which it was expelled, it is told nothing."""
        return self._inboxes.keys() & set(tps) if generation == self._generation + 1 else set()

    async def _keep(self, kept: set[TopicPartition]) -> dict[TopicPartition, int]:
        """Forgets all others; gives how far each that is kept was read, where anything of it was."""
        gone = [tp for tp in self._inboxes if tp not in kept]
        for tp in gone:
            self._inboxes[tp].lost = True  # its next owner may have claimed the log
        if gone:
            await self.give_up(gone, 0.0, 0.0)
        for service in self._services.values():
            service.go_on()
        read = {tp: self._inboxes[tp].tracker.taken_until for tp in kept}
        return {tp: offset for tp, offset in read.items() if offset is not None}

    def _take(self, tps: list[TopicPartition]) -> Committed:
        """Of these it has to be known what is in the logs. Gives what was committed of them."""
        # What this host wrote under an earlier assignment must be in the log before it is read.
        self._ask(self._events.settle(SETTLE_S))
        committed = self._positions.read(tps)
        recovered = self._read_back.read(committed, self._claim) if tps else Recovered()
        self._ask(self._take_over(recovered))
        # The next owner has to know of this one's claims, though this one may come to nothing.
        self._positions.commit(self._positions.claimed(recovered.inboxes))
        return committed

    def _claim(
        self, newest: Mapping[TopicPartition, int], versions: Mapping[TopicPartition, str]
    ) -> Mapping[TopicPartition, int]:
        """The epochs in which this host owns the agents' logs, once these say so.

        Raises CommitRejectedError where the inboxes are another's by now, CommitUnavailableError or TransportError
        where that cannot be told, or the logs do not take the claims.
        """
        generation = self._consumer.generation()
        if any(is_behind(generation, epoch) for epoch in newest.values()):
            # This host was started again in its slot, and the group has not moved; or another one has them by now; or
            # the group was forgotten, and counts from one again.
            self._positions.stand()
            log.warning("the log knows this generation already; its epochs go on from there", generation=generation)
        epochs = {log_: next_epoch(generation, epoch) for log_, epoch in newest.items()}
        if not self._ask(self._events.claim(epochs, CLAIM_S, versions)):
            raise TransportError("the broker did not take the claims of the agents' logs; start the host again")
        return epochs

    def _revoked(self, tps: list[TopicPartition]) -> None:
        if not self.closing:
            began = time.monotonic()
            done = self._ask(self._stake(tps), meanwhile=self._questions.answer)
            self._positions.commit(done)
            self._positions.at_stake = True
            log.info("inboxes at stake", inboxes=len(tps), seconds=round(time.monotonic() - began, 3))

    async def _stake(self, tps: Iterable[TopicPartition]) -> Committed:
        """Gives what may be committed of these, should they go. What runs goes on, and nothing new begins."""
        self._events.hold(False)  # what is to end may wait for its STARTED to be in the log
        await asyncio.gather(*(service.rest(REVOKE_S) for service in self._services.values()))
        self._events.hold(True)  # what goes on would never let all be delivered
        delivered = await self._events.settle(SETTLE_S)
        news = self._positions.news(self._inboxes[tp] for tp in tps if tp in self._inboxes) if delivered else {}
        self._events.hold(False)
        for tp in tps:
            self._regulation.forget(tp)
        return news

    def _lost(self, tps: list[TopicPartition]) -> None:
        if not self.closing:
            for tp in tps:
                if (inbox := self._inboxes.get(tp)) is not None:
                    inbox.lost = True  # nothing more is written for it
            self._ask(self.give_up(tps, 0.0, 0.0))
            log.warning("inboxes lost", inboxes=len(tps))

    def _ask(
        self, work: Coroutine[Any, Any, T], timeout_s: float = ANSWER_S, meanwhile: Callable[[], None] | None = None
    ) -> T:
        """What the loop says. `meanwhile` is done again and again: a write that is to end before its inbox goes waits
        to hear whose that is, and the group has not moved on as long as this thread has not given it up."""
        assert self._loop is not None
        asked, until = asyncio.run_coroutine_threadsafe(work, self._loop), time.monotonic() + timeout_s
        while meanwhile is not None and not has_ended(asked, ANSWER_EACH_S) and time.monotonic() < until:
            meanwhile()
        if not has_ended(asked, max(until - time.monotonic(), 0.0)):
            raise TransportError(f"kept from its work for {timeout_s:g} s, stopped or starved: start the host again")
        return asked.result()

    async def _take_over(self, recovered: Recovered) -> None:
        for inbox in recovered.inboxes:
            self._inboxes[TopicPartition(inbox.topic, inbox.partition)] = inbox
            self._memory.own(inbox)
        self.is_assigned = True
        if self._snapshots is not None:
            remember = [each for each in recovered.inboxes if each.agent_id in self._snapshots.with_memory]
            self._regulation.arriving.update(TopicPartition(each.topic, each.partition) for each in remember)
            task = asyncio.create_task(self._remember(self._snapshots, remember))
            self._remembering.add(task)
            task.add_done_callback(self._remembering.discard)

    async def _remember(self, snapshots: Snapshots, inboxes: Sequence[Inbox]) -> None:
        """Hands each over to be read once what its agent remembers is at hand."""
        try:
            async with asyncio.timeout(MEMORY_S):
                async for inbox, states in snapshots.take_over(inboxes):
                    tp = TopicPartition(inbox.topic, inbox.partition)
                    if self._inboxes.get(tp) is inbox:
                        for conversation, state in states:
                            self._memory.contexts.adopt(conversation, state)
                        self._regulation.arriving.discard(tp)
        except TimeoutError:
            self._fail(TransportError(f"what agents remember could not be read within {MEMORY_S:g} s"))
        except Exception as error:  # noqa: BLE001  nobody awaits the task to hear of it
            self._fail(error)

    def close(self) -> None:
        """Nothing more is read of what agents remember."""
        self.closing = True
        for task in self._remembering:
            task.cancel()

    async def give_up(self, tps: Iterable[TopicPartition], run_s: float, settle_s: float) -> Committed:
        """Ends the work on these inboxes and forgets them; gives what may be committed of them."""
        inboxes = {self._inboxes[tp] for tp in tps if tp in self._inboxes}
        self._events.hold(False)
        await asyncio.gather(*(service.release(inboxes, run_s) for service in self._services.values()))
        delivered = await self._events.settle(settle_s)
        positions = self._positions.news(inbox for inbox in inboxes if not inbox.lost) if delivered else {}
        for inbox in inboxes:
            tp = TopicPartition(inbox.topic, inbox.partition)
            del self._inboxes[tp]
            self._positions.forget(tp)
            self._regulation.forget(tp)
            self._regulation.arriving.discard(tp)
            self._memory.give_up(inbox.agent_id, inbox.partition)
        CONSUMER_LAG.clear()  # what is left to us is shown again in a moment
        return positions
