"""Who runs next: one at a time per conversation, in the order of their dispatch, and no more at once than allowed.

I/O: none.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable
from typing import Generic, Protocol, TypeVar


class Queued(Protocol):
    """What a lane holds."""

    @property
    def conversation(self) -> Hashable | None:
        """Whose turn-taking it follows; None follows none."""
        ...


Q = TypeVar("Q", bound=Queued)


class Lanes(Generic[Q]):
    """The attempts of one agent that wait, and the count of those that run. Each operation takes constant time."""

    def __init__(self, running_max: int) -> None:
        self.running_max = running_max
        self.running = 0
        self.waiting = 0
        self._ready: deque[Q] = deque()  # may run now
        self._behind: dict[Hashable, deque[Q]] = {}  # wait for the one of their conversation that is ready or runs

    def __len__(self) -> int:
        """Taken in and not done."""
        return self.running + self.waiting

    def add(self, item: Q) -> None:
        self.waiting += 1
        conversation = item.conversation
        if conversation is None:
            self._ready.append(item)
        elif conversation in self._behind:
            self._behind[conversation].append(item)
        else:
            self._behind[conversation] = deque()
            self._ready.append(item)

    def next(self) -> Q | None:
        """One that may start now; it counts as running until `done`. None where none may."""
        if self.running >= self.running_max or not self._ready:
            return None
        self.waiting -= 1
        self.running += 1
        return self._ready.popleft()

    def done(self, item: Q) -> None:
        """It ended, or was given up: the next one of its conversation may start."""
        self.running -= 1
        self._let_pass(item)

    def drop(self, unwanted: Callable[[Q], bool]) -> int:
        """Forget waiting ones; gives how many. The order of the others stays. Each is asked for once: who asks may
        take it apart."""
        dropped = 0
        for conversation, items in self._behind.items():
            kept = deque(item for item in items if not unwanted(item))
            dropped += len(items) - len(kept)
            self._behind[conversation] = kept
        ready, self._ready = self._ready, deque()
        gone: list[Q] = []
        for item in ready:
            (gone if unwanted(item) else self._ready).append(item)
        self.waiting -= dropped + len(gone)
        for item in gone:
            self._let_pass(item)
        return dropped + len(gone)

    def _let_pass(self, item: Q) -> None:
        conversation = item.conversation
        if conversation is None:
            return
        behind = self._behind[conversation]
        if behind:
            self._ready.append(behind.popleft())
        else:
            del self._behind[conversation]
