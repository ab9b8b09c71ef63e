"""Conversations as their agents remember them: those at hand, folded when somebody looks, and never more than fit.

What one of them holds is agents/conversation.py; what is not at hand is read again (agents/recollection.py). I/O: none.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from agents.contract import EMPTY_CONTEXT, Context
from agents.conversation import Conversation, Held, Read, View
from agents.memory.fold import pin
from agents.memory.model import (
    CHUNK,
    NO_DIRECTIVES,
    Caps,
    Directives,
    Interaction,
    Key,
    State,
    Summary,
)
from agents.memory.ports import Remembered, Told
from agents.memory.window import window
from agents.outcome import Outcome
from agents.shown import Shown
from schemas.topology import Topology

if TYPE_CHECKING:
    from agents.dispatches import Attempt

EVICTED_MAX = 200_000  # conversations of which no more is known than how many interactions they had
MODELLED_MAX = 10_000  # conversations of which the last model-made summaries are known, whatever a reading brings


class NobodySaid:
    """No word of people on any memory."""

    version = 0

    def of(self, key: Key) -> Directives:
        del key
        return NO_DIRECTIVES


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
        self._held: OrderedDict[Conversation, Held] = OrderedDict()
        self._evicted: OrderedDict[Conversation, int] = OrderedDict()
        self._modelled: OrderedDict[Conversation, tuple[Summary, ...]] = OrderedDict()
        self._generations = 0
        self._summed_up = {name for name in self._caps if topology.agents[name].summary is not None}
        # Told of a conversation that may lack a model's summary, as it stands.
        self.due: Callable[[Conversation, View], None] = lambda _conversation, _view: None

    def __len__(self) -> int:
        return len(self._held)

    def remembers(self, agent_id: str) -> bool:
        """Whether this agent is shown its conversations."""
        return agent_id in self._caps

    def is_at_hand(self, conversation: Conversation) -> bool:
        held = self._held.get(conversation)
        return held is not None and not held.stale and held.revoked == self._said(held).revoked

    def _said(self, held: Held) -> Directives:
        """What people say about it now; they are asked only where they have said something since."""
        version = self._told.version  # before what it is the version of: then no change is missed
        if held.heard != version:
            held.directives, held.heard = self._told.of(held.key), version
        return held.directives

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
        if own := self._modelled.get(conversation):  # the reading may have begun before they were in the log
            remembered = replace(remembered, models=remembered.models + own)
        self._generations += 1
        version = self._versions[conversation.agent_id]
        held = Held(Read(conversation.key, remembered, revoked), version, self._generations)
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
        if held.view is not None:
            before = held.bytes
            held.settle()
            self.bytes += held.bytes - before
        self._held.move_to_end(conversation)
        view = held.view = View(held, self._said(held))
        if not held.is_checked:
            held.is_checked = True
            if conversation.agent_id in self._summed_up and held.count >= CHUNK:
                self.due(conversation, view)
        caps = self._caps[conversation.agent_id]
        return Shown(lambda: window(view.state, caps, view.directives))

    def begin(self, conversation: Conversation) -> None:
        """A call of its agent begins: it stays at hand until `left`."""
        self._held[conversation].calls += 1

    def left(self, conversation: Conversation) -> None:
        held = self._held.get(conversation)
        if held is not None:
            held.calls -= 1
            if self.bytes > self.bytes_max:
                self._make_room()

    def next_of(self, conversation: Conversation) -> int:
        """The ordinal that its next outcome gets; 0 where nobody counts."""
        held = self._held.get(conversation)
        return 0 if held is None else held.count + 1

    def note(self, conversation: Conversation, attempt: Attempt, outcome: Outcome) -> Outcome:
        """An outcome of a call, with the ordinal that it gets, if it does not bear it yet."""
        held = self._held.get(conversation)
        if held is None:
            return outcome
        ordinal = held.count + 1
        if outcome.ordinal != ordinal:
            outcome = outcome._replace(ordinal=ordinal)
        self.bytes += held.note(attempt, outcome)
        if outcome.facts:
            held.facts = pin(held.facts, held.facts_of_last())
        if self._summed_up and not ordinal % CHUNK and conversation.agent_id in self._summed_up:
            self.due(conversation, View(held, self._said(held)))
        return outcome

    def stands(self, conversation: Conversation, view: View) -> bool:
        """Whether it is at hand as it was seen there, but for what came after."""
        held = self._held.get(conversation)
        return held is not None and held.generation == view.generation and self.is_at_hand(conversation)

    def is_revoked(self, conversation: Conversation, interactions: Iterable[Interaction]) -> bool:
        """Whether people revoked one of them."""
        return not self._told.of(conversation.key).revoked.isdisjoint(each.id for each in interactions)

    def modelled(self, conversation: Conversation, summary: Summary) -> None:
        """Its log holds a model's summary."""
        own = self._modelled.pop(conversation, ())
        self._modelled[conversation] = (*own[-1:], summary)
        if len(self._modelled) > MODELLED_MAX:
            self._modelled.popitem(last=False)
        held = self._held.get(conversation)
        if held is not None:
            before = held.bytes
            held.model(summary)
            self.bytes += held.bytes - before

    def forget(self, agent_id: str, partition: int) -> None:
        """Another host has them now."""
        for conversation in [each for each in self._held if (each.agent_id, each.partition) == (agent_id, partition)]:
            self._drop(conversation)
        known: OrderedDict[Conversation, Any]
        for known in (self._evicted, self._modelled):
            for conversation in [each for each in known if (each.agent_id, each.partition) == (agent_id, partition)]:
                del known[conversation]

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
