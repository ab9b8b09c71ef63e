"""Which agents may be asked now: the fleet's breakers as one partition sees them, its unspent probes, and pauses.

I/O: none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol

from streams.core.policy import Policy


class BreakerLike(Protocol):
    """What availability needs to know of a breaker; streams.core.breaker.State is one."""

    @property
    def phase(self) -> str: ...
    @property
    def epoch(self) -> int: ...
    @property
    def probe_partitions(self) -> tuple[int, ...]: ...


class Blocked(NamedTuple):
    """Who may not be asked: by their breakers, overruled where nobody is left, and by a person, who is not.

    Answers as the `Availability` of every partition that sees this, and has no probe to send.
    """

    breakers: frozenset[str]
    paused: frozenset[str]

    def is_paused(self, agent_id: str) -> bool:
        return agent_id in self.paused

    def is_available(self, agent_id: str) -> bool:
        return agent_id not in self.paused and agent_id not in self.breakers

    def probe_epoch(self, agent_id: str) -> int:  # noqa: ARG002
        return 0


class Availability:
    """Answers for one partition. An agent that the view does not know is available."""

    def __init__(self, policy: Policy, partition: int) -> None:
        self._policy, self._partition = policy, partition
        self._blocked: dict[str, BreakerLike] = {}
        self._paused: frozenset[str] = frozenset()
        self._spent: set[tuple[str, int]] = set()

    def observe(self, breakers: Mapping[str, BreakerLike]) -> None:
        """Takes in the view as it is now."""
        self._blocked = {agent: state for agent, state in breakers.items() if state.phase != "CLOSED"}
        self._spent = {spent for spent in self._spent if spent[0] in self._blocked}

    def observe_paused(self, agents: frozenset[str]) -> None:
        """Takes in whom people have paused or retired."""
        self._paused = agents

    @property
    def view(self) -> Blocked | None:
        """Who may not be asked: plans of partitions that agree in this are alike. None while a probe may be sent."""
        if any(map(self.probe_epoch, self._blocked)):
            return None
        return Blocked(frozenset(self._blocked), self._paused)

    def is_paused(self, agent_id: str) -> bool:
        """Whether nothing may be sent to it, whoever else is left."""
        return agent_id in self._paused

    def is_available(self, agent_id: str) -> bool:
        if agent_id in self._paused:
            return False
        return agent_id not in self._blocked or self.probe_epoch(agent_id) > 0

    def probe_epoch(self, agent_id: str) -> int:
        """Epoch of the half-open breaker that a dispatch to the agent would probe now; 0 when it would be none."""
        state = self._blocked.get(agent_id)
        if state is None or state.phase != "HALF_OPEN" or self._policy.agent(agent_id).write:
            return 0
        if agent_id in self._paused:
            return 0
        if self._partition not in state.probe_partitions or (agent_id, state.epoch) in self._spent:
            return 0
        return state.epoch

    def spend(self, agent_id: str, epoch: int) -> None:
        """Remembers that this partition has sent its probe of that epoch."""
        self._spent.add((agent_id, epoch))
