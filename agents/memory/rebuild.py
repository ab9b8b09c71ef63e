"""Memories of one partition of an agent's log, from a snapshot or from nothing, and all that was written after it.

A state reaches only so far back as `fold.reach` says. So of each conversation the last interactions are kept, and
folded once, at the end: a million events are a million small steps, not a million folds. States of the snapshot that
nothing touches stay bytes. I/O: none.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import reduce
from itertools import chain, islice

from agents.memory.canonical import state_bytes, state_of
from agents.memory.fold import facts_of, fold, pin, refold, with_model
from agents.memory.model import CHUNK, RECENT, SUMMARISED, Diverged, Fact, Interaction, Key, State, Summary
from agents.memory.snapshot import Snapshot, hash_of

KEPT = RECENT + SUMMARISED + 2 * CHUNK
"""Interactions of a conversation that its state can depend on, facts apart; `fold.reach` asks for no more."""


@dataclass(slots=True)
class _Tail:
    """What came after a state, None for the beginning: the last interactions, and the facts of those before."""

    base: State | None = None
    count: int = 0
    epoch: int = 0
    last: deque[Interaction] = field(default_factory=deque)
    dropped: bool = False
    facts: tuple[Fact, ...] = ()
    models: deque[Summary] = field(default_factory=lambda: deque(maxlen=KEPT))

    def add(self, each: Interaction) -> None:
        if each.epoch < self.epoch:
            return  # a fenced host's
        if not each.ordinal:
            if any(_is_same(held, each) for held in self._recent()):
                return
            each = replace(each, ordinal=self.count + 1)
        elif each.ordinal <= self.count:
            if each.epoch <= self.epoch:
                return  # a copy: what is written twice is folded once
            self._step_back(each.ordinal)
        self.count, self.epoch = each.ordinal, max(self.epoch, each.epoch)
        self.last.append(each)
        if len(self.last) > KEPT:
            self.dropped = True
            gone = self.last.popleft()
            if gone.facts:
                self.facts = pin(self.facts, facts_of(gone))

    def _step_back(self, ordinal: int) -> None:
        """A newer host counts from here: what stands there and behind is not what it knows. As `fold.resolve`."""
        if self.base is not None and ordinal <= self.base.count:
            raise Diverged
        while self.last and self.last[-1].ordinal >= ordinal:
            self.last.pop()
        self.facts = tuple(fact for fact in self.facts if fact.ordinal < ordinal)

    def _recent(self) -> Iterator[Interaction]:
        earlier = self.base.recent if self.base is not None else ()
        return islice(chain(reversed(self.last), reversed(earlier)), RECENT)

    def state(self, key: Key) -> State:
        if self.base is not None and not self.dropped:
            return reduce(with_model, self.models, reduce(fold, self.last, self.base))
        earlier = self.base.models if self.base is not None else ()
        return refold(key, self.last, facts_before=self.facts, models=(*earlier, *self.models))


class Rebuild:
    """Takes interactions in the order of the log, those of one owner after the other: nothing that is void.

    `cold` are conversations of which neither the snapshot nor the log holds the beginning. Their states have to come
    from the history.
    """

    def __init__(self, snapshot: Snapshot | None = None) -> None:
        self._untouched: dict[Key, bytes] = {} if snapshot is None else dict(snapshot.states)
        self._tails: dict[Key, _Tail] = {}
        self.cold: set[Key] = set()
        self.taken = 0

    def take(self, each: Interaction) -> None:
        """Raises Diverged where a newer host wrote it in the place of one that the snapshot holds."""
        self.taken += 1
        if (tail := self._tail(each.key, each.ordinal)) is not None:
            tail.add(each)

    def take_model(self, key: Key, summary: Summary) -> None:
        """What a model made of interactions that were taken before."""
        self.taken += 1
        if (tail := self._tail(key, summary.last)) is not None:
            tail.models.append(summary)

    def _tail(self, key: Key, ordinal: int) -> _Tail | None:
        """Of a conversation that is used last by this."""
        tail = self._tails.pop(key, None) or self._begin(key, ordinal)
        if tail is not None:
            self._tails[key] = tail
        return tail

    def _begin(self, key: Key, ordinal: int) -> _Tail | None:
        held = self._untouched.pop(key, None)
        if held is not None:
            base = state_of(held)
            return _Tail(base, base.count, base.epoch, facts=base.facts)
        if key in self.cold or ordinal > 1:
            self.cold.add(key)
            return None
        return _Tail()

    def states(self) -> Mapping[Key, State]:
        """All of them, by key, those that were used last come last; reads every state of the snapshot."""
        return {key: state_of(data) for key, data in self._untouched.items()} | self._touched()

    def state_bytes(self) -> Mapping[Key, bytes]:
        """As `states`, in canonical bytes."""
        return self._untouched | {key: state_bytes(state) for key, state in self._touched().items()}

    def hash(self) -> str:
        """As `agents.memory.snapshot.memory_hash` of the states."""
        return hash_of(self.state_bytes())

    def _touched(self) -> dict[Key, State]:
        return {key: tail.state(key) for key, tail in self._tails.items()}


def _is_same(one: Interaction, other: Interaction) -> bool:
    """Whether they are outcomes of one attempt, as their ids say at more cost."""
    return (one.task_id, one.attempt, one.stage) == (other.task_id, other.attempt, other.stage)
