"""What a partition saw of each agent since it last reported: the counts that the fleet's breakers fold.

I/O: none.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Counts:
    """One agent, one window. Run lengths at both ends let the breaker join failures across windows."""

    successes: int = 0
    failures: int = 0
    slow: int = 0
    leading_failures: int = 0
    trailing_failures: int = 0
    demand: int = 0
    probe_epoch: int = 0
    probe_successes: int = 0
    probe_failures: int = 0

    def success(self, *, slow: bool, probe_epoch: int) -> None:
        self.successes += 1
        self.slow += slow
        self.trailing_failures = 0
        if probe_epoch:
            self.probe_epoch, self.probe_successes = probe_epoch, self.probe_successes + 1

    def successes_in_a_row(self, successes: int, slow: int) -> None:
        """So many, none of them a probe."""
        self.successes += successes
        self.slow += slow
        self.trailing_failures = 0

    def failure(self, *, slow: bool, probe_epoch: int) -> None:
        self.failures += 1
        self.slow += slow
        self.trailing_failures += 1
        if self.successes == 0:
            self.leading_failures += 1
        if probe_epoch:
            self.probe_epoch, self.probe_failures = probe_epoch, self.probe_failures + 1


class Health:
    """Counts per agent, drained once a window."""

    def __init__(self) -> None:
        self._counts: dict[str, Counts] = {}

    def of(self, agent_id: str) -> Counts:
        found = self._counts.get(agent_id)
        if found is None:
            found = self._counts[agent_id] = Counts()
        return found

    def drain(self) -> dict[str, Counts]:
        counts, self._counts = self._counts, {}
        return counts
