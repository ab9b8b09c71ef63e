"""What a host has taken in: attempts that share one call of their agent, and how many there may be. I/O: none."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from agents.conversation import Conversation
from agents.dispatches import Attempt
from agents.inbox import Inbox
from agents.outcome import Outcome
from agents.outcome_columns import Given
from agents.rows import Rows
from streams.transport.telemetry import HOST_INFLIGHT


@dataclass(slots=True)
class Room:
    """How much one host may run at once, over all its agents."""

    running_max: int
    running: int = 0
    taken: int = 0  # attempts that run or wait

    def __post_init__(self) -> None:
        HOST_INFLIGHT.set_function(lambda: self.taken)  # asked when somebody looks, not told of each attempt

    def take(self, n: int) -> None:
        self.taken += n


@dataclass(slots=True, eq=False, repr=False)  # no task's text may come into a log through a repr
class Work:
    """Attempts that share one call: of a batch agent the rows of a poll, else one.

    It ends once: with its call, with its time, or given up. What the call comes to after that is of no interest.
    """

    attempts: list[Attempt]
    conversation: Conversation | None
    rows: Rows | None = None  # the same in columns; `attempts` is empty then
    started_us: int = 0
    # Whose conversations are kept at hand for it, and are told of the outcomes.
    shown: frozenset[Conversation] = frozenset()
    call: asyncio.Future[list[Outcome]] | asyncio.Future[Given] | None = None
    timer: asyncio.TimerHandle | None = None

    def expand(self) -> None:
        """From here on it is looked at row by row."""
        if self.rows is not None:
            self.attempts, self.rows = self.rows.attempts(), None

    def touches(self, inboxes: set[Inbox]) -> bool:
        if self.rows is not None:
            return not inboxes.isdisjoint(self.rows.inboxes)
        return any(attempt.inbox in inboxes for attempt in self.attempts)
