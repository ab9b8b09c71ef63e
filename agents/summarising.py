"""Has models sum up what agents said, ten interactions at a time, beside the agents' calls and never for them.

A summary is wanted once ten interactions are complete, while all of them are still shown verbatim, so it is there
before it is needed; until it is, and where it is refused, the extractive one stands. What is taken is written to the
agent's log by the log's owner, and shown once it is there. I/O: the code that sums up, in threads; the wall clock.
"""

from __future__ import annotations

import asyncio
import inspect
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from agents.calls import wall_us
from agents.contract import Span
from agents.conversation import Conversation, View
from agents.event_log import EventLog
from agents.inbox import Inbox
from agents.memory.fold import facts_of
from agents.memory.model import Interaction, Summary
from agents.memory.modelled import Unfit, modelled
from agents.recollection import Recollection
from agents.registry import Code
from agents.shown import earlier
from schemas.topology import Topology
from schemas.topology_agent import Summarising as Policy
from streams.transport.batch import TopicPartition
from streams.transport.telemetry import ERRORS, HOST_SUMMARIES, get_logger
from streams.transport.threads import DaemonPool

log = get_logger("pointsman.host")

TRIES = 2
"""How often a summary is asked for, where what came was refused: a model may say something else the next time."""

WAITING_MAX = 1_000
"""Conversations of one agent that wait for their turn. Of more, the one that waits longest goes without."""

VIEWS_MAX = 12
"""Of one conversation: as many chunks as there are in reach, for an agent that is quicker than what sums up."""

TRIED_MAX = 50_000
"""Summaries of one agent of which is known how often they were asked for."""

MADE = "MADE"


@dataclass(frozen=True, slots=True)
class Wanted:
    """One summary that is to be made: of these interactions, all of one chunk that is complete."""

    members: tuple[Interaction, ...]
    extractive: str

    def span(self, tokens_max: int) -> Span:
        facts = tuple(fact.text for each in self.members for fact in facts_of(each))
        return Span(tuple(map(earlier, self.members)), facts, tokens_max, self.extractive)


def lacking(view: View) -> list[Wanted]:
    """The chunks of a conversation that have no model's summary, and whose interactions are all at hand; oldest first.
    It folds what is not folded yet."""
    has = {(each.first, each.members) for each in view.state.models}
    by_id = {each.id: each for each in view.interactions}
    return [
        Wanted(tuple(by_id[id_] for id_ in chunk.ids), chunk.text)
        for chunk in view.state.chunks
        if chunk.members and (chunk.first, chunk.members) not in has and by_id.keys() >= set(chunk.ids)
    ]


class Summarising:
    """Belongs to one event loop. `inboxes` are the host's: what it owns by now."""

    def __init__(
        self,
        topology: Topology,
        codes: Mapping[str, Code],
        makers: Mapping[str, str],
        events: EventLog,
        memory: Recollection,
        inboxes: Mapping[TopicPartition, Inbox],
    ) -> None:
        self._events, self._memory, self._inboxes = events, memory, inboxes
        self._topics = topology.topics()
        policies = {name: topology.agents[name].summary for name in codes}
        self._agents = {
            name: _Agent(name, policy, codes[name], makers[name], self._take)
            for name, policy in policies.items()
            if policy is not None
        }
        memory.contexts.due = self.due

    def due(self, conversation: Conversation, view: View) -> None:
        """This conversation may lack summaries, as it stands there."""
        agent = self._agents.get(conversation.agent_id)
        if agent is not None:
            agent.add(conversation, view)

    async def run(self) -> None:
        """Has them made, for ever. Raises only what is a fault of ours."""
        async with asyncio.TaskGroup() as group:
            for agent in self._agents.values():
                for _ in range(agent.policy.concurrency):
                    group.create_task(agent.run())
            await asyncio.Event().wait()  # without any, that is no reason to end

    def close(self) -> None:
        for agent in self._agents.values():
            agent.close()

    async def _take(
        self, agent: _Agent, conversation: Conversation, view: View, wanted: Wanted, said: object, began_us: int
    ) -> Unfit | None:
        """Writes what a model said to the agent's log, if it may stand there; else why not."""
        contexts = self._memory.contexts
        inbox = self._inboxes.get(TopicPartition(self._topics.inbox(conversation.agent_id), conversation.partition))
        if inbox is None or inbox.lost:
            return Unfit.LOST
        if not contexts.stands(conversation, view):
            # Read anew since: something of it was revoked, or it was let go, or its log has another outcome.
            return Unfit.REVOKED if contexts.is_revoked(conversation, wanted.members) else Unfit.LOST
        count = contexts.count_of(conversation)
        summary = modelled(wanted.members, said, agent.maker, agent.policy.tokens_max, epoch=inbox.epoch, count=count)
        if not isinstance(summary, Summary):
            return summary
        delivered = self._events.write_summary(inbox, conversation.key, summary, (began_us, wall_us()))
        if delivered is None:
            return Unfit.TOO_LONG
        self._memory.modelled(conversation, summary, delivered)
        return None if await delivered else Unfit.LOST


Take = Callable[["_Agent", Conversation, View, Wanted, object, int], Awaitable[Unfit | None]]


class _Agent:
    """What sums up for one agent, and which conversations wait for it."""

    def __init__(self, agent_id: str, policy: Policy, code: Code, maker: str, take: Take) -> None:
        self.agent_id, self.policy, self.maker = agent_id, policy, maker
        self._code, self._take = code, take
        self._pool = DaemonPool(f"summary-{agent_id}", policy.concurrency)
        self._folding = DaemonPool(f"summary-{agent_id}-folding", 1)
        self._waiting: OrderedDict[Conversation, deque[View]] = OrderedDict()
        self._busy: set[Conversation] = set()
        self._tried: OrderedDict[tuple[Conversation, tuple[str, ...]], int] = OrderedDict()
        self._wake = asyncio.Event()

    def add(self, conversation: Conversation, view: View) -> None:
        self._waiting.setdefault(conversation, deque(maxlen=VIEWS_MAX)).append(view)
        if len(self._waiting) > WAITING_MAX:
            self._waiting.popitem(last=False)
        self._wake.set()

    async def run(self) -> None:
        while True:
            conversation = next((each for each in self._waiting if each not in self._busy), None)
            if conversation is None:
                self._wake.clear()
                await self._wake.wait()
                continue
            self._busy.add(conversation)
            try:
                for view in self._waiting.pop(conversation):
                    for wanted in await self._folding.run(lacking, view):
                        await self._make(conversation, view, wanted)
            except Exception as error:  # noqa: BLE001  a fault of ours; agents are called without summaries, too
                ERRORS.labels("summarising").inc()
                log.warning("no summary can be made", agent=self.agent_id, why=f"{type(error).__name__}: {error}"[:300])
            finally:
                self._busy.discard(conversation)
                self._wake.set()

    def close(self) -> None:
        self._pool.close()
        self._folding.close()

    async def _make(self, conversation: Conversation, view: View, wanted: Wanted) -> None:
        """One summary. What is refused is asked for once more, and then no more: its interactions do not change."""
        key = conversation, tuple(each.id for each in wanted.members)
        while self._tried.get(key, 0) < TRIES:
            self._note(key, self._tried.get(key, 0) + 1)
            why = await self._asked(conversation, view, wanted)
            HOST_SUMMARIES.labels(agent=self.agent_id, outcome=str(why or MADE)).inc()
            if why is None:
                self._note(key, TRIES)  # whoever saw the conversation before it was there asks for no other
            if why in (None, Unfit.REVOKED, Unfit.LOST):
                return
            log.warning("a summary is refused; the extractive one stands", agent=self.agent_id, reason=str(why))

    def _note(self, key: tuple[Conversation, tuple[str, ...]], tries: int) -> None:
        self._tried.pop(key, None)
        self._tried[key] = tries
        if len(self._tried) > TRIED_MAX:
            self._tried.popitem(last=False)

    async def _asked(self, conversation: Conversation, view: View, wanted: Wanted) -> Unfit | None:
        began_us = wall_us()
        try:
            # Not `wait_for`: Python 3.11's forgets that it was cancelled where the answer comes in the same moment.
            async with asyncio.timeout(self.policy.timeout_ms / 1000):
                said = await self._pool.run(self._call, wanted.span(self.policy.tokens_max))
        except TimeoutError:
            return Unfit.TIMEOUT
        except Exception as error:  # noqa: BLE001  whatever it is: no answer depends on it
            log.warning("what sums up failed", agent=self.agent_id, why=f"{type(error).__name__}: {error}"[:300])
            return Unfit.RAISED
        return await self._take(self, conversation, view, wanted, said, began_us)

    def _call(self, span: Span) -> object:
        """In a thread. A coroutine has an event loop of its own there, and ends with its time."""
        try:
            said = self._code(span)
            return asyncio.run(self._awaited(said)) if inspect.isawaitable(said) else said
        except (SystemExit, KeyboardInterrupt) as error:  # they would end the host's loop
            raise RuntimeError(f"it ended itself: {error!r}") from error

    async def _awaited(self, said: Awaitable[object]) -> object:
        return await asyncio.wait_for(said, self.policy.timeout_ms / 1000)
