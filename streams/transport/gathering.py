"""How long a reader goes on gathering once a record has come: in proportion to what its turns cost.

Most of a turn's cost is fixed: calls of the codec for each kind of record, and of the libraries for each column
(docs/cost-model.md). So a process bounds what turns take of a core by the time between them: where they are cheap it
hardly waits; where they are dear, or there is little of a core to be had, it waits longer, and pays for fewer of them.
I/O: the clock, of the wall and of this process's CPU time.
"""

from __future__ import annotations

import time

SHORTEST_S = 0.005
WEIGHT = 0.25
"""Of the last turn in what turns are taken to cost: the router's and those of consensus differ, and come in turns."""


class Gathering:
    """One reader's. `begin` where a first record has come, `end` once what came with it has been read.

    `share`: a turn that costs so much of the time between two is worth no longer wait (`limits.turn_percent`).
    """

    def __init__(self, longest_s: float, share: float) -> None:
        self._longest_s, self._share = longest_s, share
        self._cost_s = 0.0
        self._wait_s = self._began_at = 0.0
        self._rested_at: float | None = None
        self._ended_at, self._spent_s = time.monotonic(), time.process_time()

    @property
    def wait_s(self) -> float:
        """Between SHORTEST_S and `longest_s`."""
        return min(max(self._cost_s / self._share, SHORTEST_S), self._longest_s)

    def begin(self) -> float:
        """How long to gather from now on."""
        self._began_at, self._wait_s, self._rested_at = time.monotonic(), self.wait_s, None
        return self._wait_s

    def rested(self) -> None:
        """The wait is over, and only now is read: how long a broker takes to answer is no part of it. May be left out,
        and counts once."""
        if self._rested_at is None:
            self._rested_at = time.monotonic()

    def end(self) -> None:
        """Counts as a turn's cost the CPU time of the process since the last call, and how late this one comes.

        Who comes later than he wanted to has waited for a core, or for the interpreter.
        """
        now, spent_s = time.monotonic(), time.process_time()
        rested_at = now if self._rested_at is None else self._rested_at
        late_s = max(0.0, rested_at - self._began_at - self._wait_s)
        # Of an idle time before, no more than its last part is this turn's.
        part = min(1.0, self._longest_s / max(now - self._ended_at, SHORTEST_S))
        self._cost_s += ((spent_s - self._spent_s) * part + late_s - self._cost_s) * WEIGHT
        self._ended_at, self._spent_s = now, spent_s
