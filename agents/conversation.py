"""One conversation at hand: what was read of it, what came after that, and what it comes to once somebody looks.

Taking note of an interaction costs to pack it (agents/noted.py). It is folded when an agent looks at its context, in
whatever thread that does. I/O: none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property, reduce
from typing import TYPE_CHECKING, NamedTuple

from agents.inbox import Inbox
from agents.memory.fold import facts_of, fold, pin, refold, resolve, with_model
from agents.memory.model import (
    NO_DIRECTIVES,
    Directives,
    Fact,
    ForeignInteraction,
    Interaction,
    Key,
    State,
    Summary,
)
from agents.memory.ports import Remembered
from agents.noted import Noted, pack
from agents.outcome import Outcome

if TYPE_CHECKING:
    from agents.dispatches import Attempt

UNSEEN_MAX = 120
"""Interactions that nobody has looked at yet: a state depends on no more (`agents.memory.fold.reach`)."""

UNSEEN_SLACK = 40
"""So many more are kept before the oldest are let go, all at once: so a view need not copy the list."""

NEVER = -1  # no version of what people say

HELD_BYTES = 2_000  # of a conversation, beside its texts
INTERACTION_BYTES = 400  # of an interaction, likewise
PACKED_BYTES = 50  # of one that nobody has looked at, beside what it is packed into


class Conversation(NamedTuple):
    """Whose memory: agents share none, and neither do tenants. The partition tells who forgets it on hand-over."""

    agent_id: str
    partition: int
    tenant: str
    conversation_id: str

    @property
    def key(self) -> Key:
        return Key(self.tenant, self.agent_id, self.conversation_id)


class Read(NamedTuple):
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


class View:
    """A conversation as it stood at one call. It never changes; it is folded once, by whoever looks first.

    `models` are summaries that a model made and that `base` does not know of. `generation` is another one once the
    conversation was read again.
    """

    def __init__(self, held: Held, directives: Directives) -> None:
        # What comes later is put behind these, and who lets some go makes another list: so nothing is copied.
        self._base, self._held, self._until, self._facts = held.base, held.unseen, len(held.unseen), held.facts
        self._inbox, self._version = held.inbox, held.version
        self.models, self.generation, self.directives = held.models, held.generation, directives

    @property
    def _unseen(self) -> list[Interaction]:
        inbox, packed = self._inbox, self._held[max(self._until - UNSEEN_MAX, 0) : self._until]
        if inbox is None:
            return []
        return [Noted.of(each).interaction(self._base.key, inbox, self._version) for each in packed]

    @property
    def is_folded(self) -> bool:
        return "state" in self.__dict__

    @property
    def interactions(self) -> list[Interaction]:
        """All of it that is at hand verbatim, oldest first, also what was revoked."""
        base = self._base
        before = base.recent if isinstance(base, State) else base.remembered.interactions
        return [*before, *self._unseen]

    @cached_property
    def state(self) -> State:
        return reduce(with_model, self.models, self._folded())

    def _folded(self) -> State:
        revoked = self.directives.revoked
        state = self._base if isinstance(self._base, State) else self._base.state()
        new = self._unseen
        if new and new[0].ordinal > state.count + 1:  # older ones were let go: none of them is in reach
            return refold(state.key, new, facts_before=self._facts, models=state.models, revoked=revoked)
        for each in new:
            state = fold(state, each, revoked)
        return state


class Held:
    """One conversation at hand. `unseen` are the interactions behind `base`, packed, in a list that grows or is
    replaced; of those that had to be let go before anybody looked the facts are kept. `version` is its agent's that
    answers now, `inbox` where the last one came from; `directives` are what people had said at `heard`, the version of
    what they say."""

    __slots__ = (
        *("base", "bytes", "calls", "count", "directives", "facts", "generation", "heard", "inbox", "is_checked"),
        *("key", "models", "revoked", "stale", "unseen", "version", "view"),
    )

    def __init__(self, read: Read, version: str, generation: int = 0) -> None:
        self.key, self.revoked, self.version, self.generation = read.key, read.revoked, version, generation
        self.directives, self.heard = NO_DIRECTIVES, NEVER
        self.models: tuple[Summary, ...] = ()
        self.is_checked = False
        self.unseen: list[bytes] = []
        self.inbox: Inbox | None = None
        self.view: View | None = None
        self.calls, self.stale = 0, False
        facts = read.remembered.facts_before
        is_own = all(each.key == read.key for each in read.remembered.interactions)
        if not is_own or any(each.id != Fact.of(read.key, each.text).id for each in facts):
            raise ForeignInteraction(f"what was read for {read.key} is not all its own")
        kept = resolve(read.remembered.interactions)
        self.base: State | Read = read._replace(remembered=replace(read.remembered, interactions=tuple(kept)))
        self.count = kept[-1].ordinal if kept else read.remembered.numbered
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

    def note(self, attempt: Attempt, outcome: Outcome) -> int:
        """Take an interaction in, numbered already; how many bytes more it is. Every interaction of a host comes by
        here: so nothing is called that need not be, and nothing is read that is older."""
        packed, unseen = pack(attempt, outcome), self.unseen
        unseen.append(packed)
        size = len(packed) + PACKED_BYTES
        self.bytes += size
        self.count += 1
        self.inbox = attempt.inbox
        return size if len(unseen) < UNSEEN_MAX + UNSEEN_SLACK else size - self._let_go()

    def facts_of_last(self) -> list[Fact]:
        """Those that the last interaction which was noted states."""
        assert self.inbox is not None
        return facts_of(Noted.of(self.unseen[-1]).interaction(self.key, self.inbox, self.version))

    def _let_go(self) -> int:
        """The oldest that nobody has looked at; how many bytes they are."""
        unseen = self.unseen
        size = _bytes_of(unseen[:-UNSEEN_MAX])
        self.unseen = unseen[-UNSEEN_MAX:]  # another list: views go on holding the old one
        self.bytes -= size
        return size

    def model(self, summary: Summary) -> None:
        self.models = (*self.models, summary)
        self.bytes += sum(len(line.text) for line in summary.lines)

    def settle(self) -> None:
        """Take over what a call has folded."""
        view, self.view = self.view, None
        if view is None or not view.is_folded or view.state.count <= self.folded_count:
            return
        count, facts = self.count, self.facts
        behind = self.unseen[max(len(self.unseen) - (self.count - view.state.count), 0) :]
        models = [each for each in self.models if each not in view.models]
        self.unseen = behind
        self.models = ()
        self.rebase(view.state)
        for summary in models:
            self.model(summary)
        self.bytes += _bytes_of(behind)
        self.count, self.facts = count, facts


def _bytes_of(packed: Sequence[bytes]) -> int:
    return sum(map(len, packed)) + PACKED_BYTES * len(packed)
