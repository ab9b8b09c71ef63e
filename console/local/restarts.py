"""When a process that ended is started again: after pauses that grow, and not for ever.

I/O: none.
"""

from __future__ import annotations

from dataclasses import dataclass

ENDS_MAX = 5
FIRST_PAUSE_S = 1.0
GROWTH = 2.0
# A process that served for so long had recovered: its next end is a first one.
STEADY_S = 60.0


@dataclass(slots=True)
class Restarts:
    """Of one process. `started` and `ended` are told of it, with the time in seconds of a clock that does not jump."""

    in_a_row: int = 0
    started_at: float = 0.0
    due_at: float | None = None

    def started(self, now: float) -> None:
        self.started_at, self.due_at = now, None

    def ended(self, now: float) -> float | None:
        """Seconds until it is to be started again; None where that was tried often enough."""
        self.in_a_row = 1 if now - self.started_at >= STEADY_S else self.in_a_row + 1
        if self.in_a_row > ENDS_MAX:
            return None
        pause = FIRST_PAUSE_S * GROWTH ** (self.in_a_row - 1)
        self.due_at = now + pause
        return pause
