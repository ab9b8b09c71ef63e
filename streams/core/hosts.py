"""How far the hosts of one partition's inboxes have read, as the agents' logs tell: what is unread is not overdue.

A host that is behind or gone says nothing about its agents, and all agents of a partition have the same one: to hand
its tasks on would give it more to read, and trip breakers of agents that nobody has asked. I/O: none.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

AHEAD_MS = 60_000
"""So much the clock that routed a dispatch may be ahead of the one that reads it; what is more is no time."""


AGAIN_MS = 250
"""Time between two looks at what lies unread."""


class HostsSeen(Protocol):
    """By agent, up to when its dispatches are read; times are those at which they were routed, in milliseconds."""

    def is_over(self, agent_id: str, routed_ms: int) -> bool:
        """Whether the host began this dispatch, or a later one, long enough ago to have said what came of it."""
        ...

    def has_begun(self, agent_id: str, routed_ms: int) -> bool:
        """Whether the host began this dispatch, or a later one."""
        ...


class AllRead:
    """Who knows nothing of hosts takes them to be up to date."""

    def is_over(self, agent_id: str, routed_ms: int) -> bool:  # noqa: ARG002  of any
        return True

    def has_begun(self, agent_id: str, routed_ms: int) -> bool:  # noqa: ARG002  of any
        return True


ALL_READ = AllRead()


@dataclass(slots=True)
class _Agent:
    epoch: int
    begun_ms: int = 0
    over_ms: int = 0
    heard: deque[tuple[int, int]] = field(default_factory=deque)  # (when it was read, when it was routed), both rising


@dataclass(slots=True)
class Hosts:
    """What was heard of one partition. `verdict_ms`: by agent, how long after its beginning a host has said what came
    of an attempt.
    """

    verdict_ms: Mapping[str, int]
    _agents: dict[str, _Agent] = field(default_factory=dict)

    def heard(self, agent_id: str, epoch: int, routed_ms: int, now_ms: int) -> None:
        """An event of the agent was read, about a dispatch that was routed then; 0: about none.

        With its first event, which is its claim, a host of another `epoch` (schemas/epochs.py) has the inbox: what the
        last one left unanswered is unread again.
        """
        agent = self._agents.get(agent_id)
        if agent is None or agent.epoch != epoch:
            agent = self._agents[agent_id] = _Agent(epoch)
        if routed_ms > agent.begun_ms:
            agent.begun_ms = routed_ms
            agent.heard.append((now_ms, routed_ms))

    def pass_to(self, now_ms: int) -> None:
        """Time goes on: what was begun long enough ago is over."""
        for agent_id, agent in list(self._agents.items()):
            if agent.begun_ms > now_ms + AHEAD_MS:  # the clock was set back
                del self._agents[agent_id]
            before_ms = now_ms - self.verdict_ms.get(agent_id, 0)
            while agent.heard and agent.heard[0][0] <= before_ms:
                agent.over_ms = agent.heard.popleft()[1]

    def is_over(self, agent_id: str, routed_ms: int) -> bool:
        agent = self._agents.get(agent_id)
        return agent is not None and routed_ms <= agent.over_ms

    def has_begun(self, agent_id: str, routed_ms: int) -> bool:
        agent = self._agents.get(agent_id)
        return agent is not None and routed_ms <= agent.begun_ms
