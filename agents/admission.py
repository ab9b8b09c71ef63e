"""Who may be called now: what is late, begun before or of a paused agent ends here instead. I/O: the wall clock."""

from __future__ import annotations

from collections.abc import Callable

from agents.calls import wall_us
from agents.dispatches import Attempt
from agents.ends import Ends
from agents.outcome import failed, timed_out
from agents.outcome_columns import failed_of
from agents.work import Work
from schemas.reasons import ErrorClass

NOT_CALLED = timed_out("the time was over before the agent was called")
READ_LATE = failed(ErrorClass.OVERLOADED, "the time was over before the host read it: the agent was not called")
PAUSED = failed(ErrorClass.PAUSED, "the agent is paused or retired: it was not called")
DOUBTFUL = failed(ErrorClass.UNKNOWN_OUTCOME, "an earlier host called the agent and left no outcome")


class Admission:
    """Of one agent. While `paused` says so nothing of it is called."""

    def __init__(self, ends: Ends, paused: Callable[[], bool], *, writes: bool) -> None:
        self._ends, self.is_paused, self._writes = ends, paused, writes

    def admit(self, work: Work) -> bool:
        """Whether anything of it is left to be called, now that it is its turn."""
        if work.rows is not None:
            self._end_overdue(work)
        if work.rows is None:
            self.sort_out(work)
        return work.rows is not None or bool(work.attempts)

    def turn_away(self, work: Work) -> bool:
        """Whether all of it ended here; it is looked at row by row."""
        work.expand()
        self.sort_out(work)
        return not work.attempts

    def sort_out(self, work: Work) -> None:
        """Leaves the attempts that may be called now; the others end here.

        What is late is not begun, and what an earlier host began to write is never written again.
        """
        now_us, paused = wall_us(), self.is_paused()
        ready: list[Attempt] = []
        for attempt in work.attempts:
            if self._writes and attempt.began_before:
                self._ends.end([attempt], [DOUBTFUL], now_us)
            elif attempt.expires_ms * 1000 <= now_us:
                self._ends.end([attempt], [READ_LATE if attempt.was_read_late else NOT_CALLED], now_us)
            elif paused:
                self._ends.end([attempt], [PAUSED], now_us)
            else:
                ready.append(attempt)
        work.attempts = ready

    def _end_overdue(self, work: Work) -> None:
        """As `sort_out`, of rows: in a backlog it is most of them."""
        now_us = wall_us()
        if work.rows is None or work.rows.expires_ms[0] * 1000 > now_us:
            return
        overdue, work.rows = work.rows.split(now_us)
        if overdue is not None:
            self._ends.end_rows(overdue, failed_of((NOT_CALLED, READ_LATE), overdue.read_late().astype(int)), now_us)
