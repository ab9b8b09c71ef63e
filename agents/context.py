"""Conversations as their agents remember them: those at hand, folded when somebody looks, and never more than fit.

Taking note of an interaction costs the append of a tuple. It is folded when an agent looks at its context, in whatever
thread that does. What is not at hand is read again (agents/recollection.py). I/O: none.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from agents.contract import EMPTY_CONTEXT, Context, Known
from agents.contract import Interaction as Earlier
from agents.memory.canonical import window_hash
from agents.memory.fold import facts_of, fold, pin, refold, resolve
from agents.memory.model import (
    NO_DIRECTIVES,
    Caps,
    Directives,
    Fact,
    ForeignInteraction,
    Interaction,
    Key,
    Place,
    State,
    Window,
)
from agents.memory.ports import Remembered, Told
from agents.memory.render import messages, text
from agents.memory.sources import source_of, tool_calls_of
from agents.memory.window import window
from agents.outcome import Outcome
from schemas.topology import Topology

if TYPE_CHECKING:
    from agents.dispatches import Attempt

UNSEEN_MAX = 120
"""Interactions that nobody has looked at yet: a state depends on no more (`agents.memory.fold.reach`)."""

HELD_BYTES = 2_000  # of a conversation, beside its texts
INTERACTION_BYTES = 400  # likewise
EVICTED_MAX = 200_000  # conversations of which no more is known than how many interactions they had


class Conversation(NamedTuple):
    """Whose memory: agents share none, and neither do tenants. The partition tells who forgets it on hand-over."""

    agent_id: str
    partition: int
    tenant: str
    conversation_id: str

    @property
    def key(self) -> Key:
        return Key(self.tenant, self.agent_id, self.conversation_id)


class NobodySaid:
    """No word of people on any memory."""

    version = 0

    def of(self, key: Key) -> Directives:
        del key
        return NO_DIRECTIVES


class _Noted(NamedTuple):
    """An interaction as it happened: what `Interaction` is made from, once somebody looks."""

    ordinal: int
    asked: str
    attempt: tuple[str, str, int, str]
    labels: Sequence[tuple[str, str]]
    cause_id: str | None
    epoch: int
    place: tuple[str, int, int]
    outcome: Outcome
    version: str

    def interaction(self, key: Key) -> Interaction:
        _, task_id, attempt, stage = self.attempt
        outcome = self.outcome
        return Interaction(
            key,
            task_id,
            self.asked,
            outcome.answer,
            outcome.kind,
            attempt,
            stage,
            self.ordinal,
            self.epoch,
            tool_calls_of(outcome.tool_calls),
            outcome.facts,
            outcome.error,
            outcome.started_at,
            outcome.finished_at,
            outcome.tokens_in,
            outcome.tokens_out,
            outcome.cost_microusd,
            self.version,
            source_of(dict(self.labels or ()), self.cause_id),
            Place(*self.place),
        )

    @property
    def bytes(self) -> int:
        outcome = self.outcome
        return INTERACTION_BYTES + len(self.asked) + len(outcome.answer or "") + len(outcome.tool_calls or "")


class _Read(NamedTuple):
    """A memory that was read and not folded yet."""

    key: Key
    remembered: Remembered
    revoked: frozenset[str]

    def state(self) -> State:
        return refold(
            self.key,
            self.remembered.interactions,
            facts_before=self.remembered.facts_before,
            models=self.remembered.models,
            revoked=self.revoked,
        )


class _View:
    """A conversation as it stood at one call. It never changes; it is folded once, by whoever looks first."""

    def __init__(
        self, base: State | _Read, unseen: Sequence[_Noted], facts: tuple[Fact, ...], directives: Directives
    ) -> None:
        self._base, self._unseen, self._facts, self.directives = base, unseen, facts, directives

    @property
    def is_folded(self) -> bool:
        return "state" in self.__dict__

    @cached_property
    def state(self) -> State:
        revoked = self.directives.revoked
        state = self._base if isinstance(self._base, State) else self._base.state()
        new = [each.interaction(state.key) for each in self._unseen]
        if new and new[0].ordinal > state.count + 1:  # older ones were let go: none of them is in reach
            return refold(state.key, new, facts_before=self._facts, models=state.models, revoked=revoked)
        for each in new:
            state = fold(state, each, revoked)
        return state


class _Held:
    """One conversation at hand. `unseen` are the interactions behind `base`; of those that had to be let go before
    anybody looked the facts are kept."""

    __slots__ = ("base", "bytes", "calls", "count", "facts", "revoked", "stale", "unseen", "view")

    def __init__(self, read: _Read) -> None:
        self.revoked = read.revoked
        self.unseen: deque[_Noted] = deque(maxlen=UNSEEN_MAX)
        self.view: _View | None = None
        self.calls, self.stale = 0, False
        if any(each.key != read.key for each in read.remembered.interactions):
            raise ForeignInteraction(f"what was read for {read.key} is not all its own")
        kept = resolve(read.remembered.interactions)
        self.base: State | _Read = read._replace(remembered=replace(read.remembered, interactions=tuple(kept)))
        self.count = kept[-1].ordinal if kept else 0
        new = [fact for each in kept if each.id not in read.revoked for fact in facts_of(each)]
        self.facts = pin(
            (), [*(each for each in read.remembered.facts_before if each.origin not in read.revoked), *new]
        )
        self.bytes = HELD_BYTES + sum(INTERACTION_BYTES + len(each.asked) + len(each.answer or "") for each in kept)

    @property
    def folded_count(self) -> int:
        return self.base.count if isinstance(self.base, State) else -1

    def rebase(self, base: State) -> None:
        self.base, self.count, self.facts = base, base.count, base.facts
        self.bytes = HELD_BYTES + sum(len(each.text) for each in base.facts)
        self.bytes += sum(INTERACTION_BYTES + len(each.asked) + len(each.answer or "") for each in base.recent)
        self.bytes += sum(len(line.text) for chunk in (*base.chunks, *base.models) for line in chunk.lines)

    def note(self, noted: _Noted) -> None:
        if len(self.unseen) == UNSEEN_MAX:
            self.bytes -= self.unseen[0].bytes
        self.unseen.append(noted)
        self.bytes += noted.bytes
        self.count = noted.ordinal

    def settle(self) -> None:
        """Take over what a call has folded."""
        view, self.view = self.view, None
        if view is None or not view.is_folded or view.state.count <= self.folded_count:
            return
        unseen, count, facts = list(self.unseen), self.count, self.facts
        self.unseen.clear()
        self.rebase(view.state)
        for each in unseen:
            if each.ordinal > view.state.count:
                self.note(each)
        self.count, self.facts = count, facts


def caps_of(topology: Topology) -> dict[str, Caps]:
    """Of each agent that is shown its conversations."""
    limits = topology.limits
    hard, shown = limits.context_tokens_max, limits.context_interactions
    soft = {
        name: limits.context_tokens if agent.context_tokens is None else agent.context_tokens
        for name, agent in topology.agents.items()
        if agent.remembers and shown
    }
    return {name: Caps(min(tokens, hard), hard, shown) for name, tokens in soft.items()}


class Contexts:
    """The conversations at hand, within `limits.context_bytes_max`; the one used least recently goes first.

    Belongs to one event loop; contexts may be looked at in any thread.
    """

    def __init__(self, topology: Topology, told: Told | None = None, versions: Mapping[str, str] | None = None) -> None:
        self._told = told or NobodySaid()
        self._caps = caps_of(topology)
        self._versions = versions or {name: agent.version for name, agent in topology.agents.items()}
        self.bytes_max, self.bytes = topology.limits.context_bytes_max, 0
        self._held: OrderedDict[Conversation, _Held] = OrderedDict()
        self._evicted: OrderedDict[Conversation, int] = OrderedDict()

    def __len__(self) -> int:
        return len(self._held)

    def remembers(self, agent_id: str) -> bool:
        """Whether this agent is shown its conversations."""
        return agent_id in self._caps

    def is_at_hand(self, conversation: Conversation) -> bool:
        held = self._held.get(conversation)
        return held is not None and not held.stale and held.revoked == self._told.of(conversation.key).revoked

    def count_of(self, conversation: Conversation) -> int:
        """How many interactions it is known to have had, if it was at hand before."""
        held = self._held.get(conversation)
        return held.count if held is not None else self._evicted.get(conversation, 0)

    def put(self, conversation: Conversation, remembered: Remembered) -> bool:
        """What was read of it. False, where that is less than what was at hand already: its last outcome is on its way
        to the log. Raises ForeignInteraction where not all of it is its own.
        """
        if self.is_at_hand(conversation):
            return True
        revoked = self._told.of(conversation.key).revoked
        held = _Held(_Read(conversation.key, remembered, revoked))
        if held.count < self.count_of(conversation):
            return False
        held.calls = self._drop(conversation)
        self._held[conversation] = held
        self.bytes += held.bytes
        self._evicted.pop(conversation, None)
        self._make_room()
        return True

    def adopt(self, conversation: Conversation, state: State) -> None:
        """What a snapshot and the rest of the log say of it, where nothing is at hand and nothing was revoked."""
        if not self.remembers(conversation.agent_id) or self._told.of(conversation.key).revoked:
            return
        held = self._held.get(conversation) if self.put(conversation, Remembered()) else None
        if held is not None and not held.count:
            before = held.bytes
            held.rebase(state)
            self.bytes += held.bytes - before
            self._make_room()

    def of(self, conversation: Conversation | None) -> Context:
        """What the agent is shown, made when it looks. It is kept at hand until `left`."""
        held = None if conversation is None else self._held.get(conversation)
        if conversation is None or held is None:
            return EMPTY_CONTEXT
        before = held.bytes
        held.settle()
        self.bytes += held.bytes - before
        self._held.move_to_end(conversation)
        directives = self._told.of(conversation.key)
        view = held.view = _View(held.base, tuple(held.unseen), held.facts, directives)
        caps = self._caps[conversation.agent_id]
        return Context(make=lambda: known_of(window(view.state, caps, view.directives)))

    def begin(self, conversation: Conversation) -> None:
        """A call of its agent begins: it stays at hand until `left`."""
        self._held[conversation].calls += 1

    def left(self, conversation: Conversation) -> None:
        held = self._held.get(conversation)
        if held is not None:
            held.calls -= 1
            self._make_room()

    def note(self, conversation: Conversation, attempt: Attempt, outcome: Outcome) -> Outcome:
        """An outcome of a call, with the ordinal that it gets."""
        held = self._held.get(conversation)
        if held is None:
            return outcome
        ordinal = held.count + 1
        outcome = outcome._replace(ordinal=ordinal)
        inbox = attempt.inbox
        before = held.bytes
        held.note(
            _Noted(
                ordinal,
                attempt.text,
                attempt.id,
                attempt.labels,
                attempt.cause_id,
                inbox.epoch,
                (inbox.topic, inbox.partition, attempt.offset),
                outcome,
                self._versions[inbox.agent_id],
            )
        )
        self.bytes += held.bytes - before
        if outcome.facts:
            held.facts = pin(held.facts, facts_of(held.unseen[-1].interaction(conversation.key)))
        return outcome

    def forget(self, agent_id: str, partition: int) -> None:
        """Another host has them now."""
        for conversation in [each for each in self._held if (each.agent_id, each.partition) == (agent_id, partition)]:
            self._drop(conversation)
        for conversation in [
            each for each in self._evicted if (each.agent_id, each.partition) == (agent_id, partition)
        ]:
            del self._evicted[conversation]

    def changed(self, attempt: Attempt) -> None:
        """The log gets another outcome of it than was noted."""
        if attempt.conversation is not None:
            self.evict(attempt.conversation)

    def evict(self, conversation: Conversation) -> None:
        """It is read again before its next call: what the log holds is not what was noted."""
        held = self._held.get(conversation)
        if held is not None and held.calls:
            held.stale = True  # it counts on until its calls have ended
        elif held is not None:
            self._evicted[conversation] = held.count
            self._drop(conversation)

    def _drop(self, conversation: Conversation) -> int:
        held = self._held.pop(conversation, None)
        if held is None:
            return 0
        self.bytes -= held.bytes
        return held.calls

    def _make_room(self) -> None:
        if self.bytes <= self.bytes_max:
            return
        for conversation, held in list(self._held.items()):
            if self.bytes <= self.bytes_max:
                break
            if not held.calls:
                self.evict(conversation)
        while len(self._evicted) > EVICTED_MAX:
            self._evicted.popitem(last=False)


def known_of(shown: Window) -> Known:
    """A window in the words of the agents' contract."""
    return Known(
        tuple(
            Earlier(
                each.task_id,
                each.asked,
                each.answer,
                each.status,
                each.at,
                each.tool_calls,
                "" if each.source is None else each.source.agent_id,
            )
            for each in shown.interactions
        ),
        "" if shown.summary is None else shown.summary.text,
        tuple(fact.text for fact in shown.facts),
        tuple(instruction.text for instruction in shown.instructions),
        text(shown),
        tuple(messages(shown)),
        shown.tokens,
        window_hash(shown),
    )
