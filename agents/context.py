"""Conversations as their agents remember them: the last interactions of each, folded from inbox and log.

I/O: none.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import NamedTuple

from agents.contract import EMPTY_CONTEXT, Context, Interaction

CONVERSATIONS_MAX = 20_000  # held by one host; the one that was used least recently goes first


class Conversation(NamedTuple):
    """Whose memory: agents share none, and neither do tenants. The partition tells who forgets it on hand-over."""

    agent_id: str
    partition: int
    tenant: str
    conversation_id: str


class Contexts:
    """At most `conversations_max` conversations of at most `interactions_max` interactions each."""

    def __init__(self, interactions_max: int, conversations_max: int = CONVERSATIONS_MAX) -> None:
        self._interactions_max, self._conversations_max = interactions_max, conversations_max
        self._held: OrderedDict[Conversation, deque[Interaction]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._held)

    def of(self, conversation: Conversation | None) -> Context:
        """The interactions so far, oldest first."""
        held = None if conversation is None else self._held.get(conversation)
        return Context(tuple(held)) if held else EMPTY_CONTEXT

    def fold(self, conversation: Conversation | None, interaction: Interaction) -> None:
        """One more interaction; the oldest beyond the bound is forgotten."""
        if conversation is None or not self._interactions_max:
            return
        held = self._held.get(conversation)
        if held is None:
            held = self._held[conversation] = deque(maxlen=self._interactions_max)
        held.append(interaction)
        self._held.move_to_end(conversation)
        if len(self._held) > self._conversations_max:
            self._held.popitem(last=False)

    def forget(self, agent_id: str, partition: int) -> None:
        """Another host has them now."""
        gone = [each for each in self._held if each.agent_id == agent_id and each.partition == partition]
        for conversation in gone:
            del self._held[conversation]
