"""What the oracle decides, as plain values whose text is one line of a transcript.

I/O: none.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias


@dataclass(frozen=True)
class Dispatch:
    """One attempt sent to one agent. `deadline_ms` is the task's; `cost_microusd` and `tokens` are those so far."""

    tenant: str
    task_id: str
    agent_id: str
    attempt: int
    seat: int
    stage: str
    reason: str
    band: str
    panel: tuple[str, ...]
    chain: tuple[str, ...]
    intent: str
    confidence: float
    value_tier: str
    probe_epoch: int
    timeout_ms: int
    routed_at_ms: int
    deadline_ms: int
    cost_microusd: int
    tokens: int

    def __str__(self) -> str:
        stage = "" if self.stage == "WORK" else f" {self.stage}"
        panel = f" panel {','.join(self.panel)}" if self.panel else ""
        chain = f" chain {','.join(self.chain)}" if self.chain else ""
        where = f"#{self.attempt} seat {self.seat}{stage}"
        return f"dispatch {self.task_id} {self.agent_id} {where} {self.band} {self.reason}{panel}{chain}"


@dataclass(frozen=True)
class Vote:
    """One voice of a panel; `weight` is the log-odds of the agent's accuracy."""

    seat: int
    agent_id: str
    key: str
    confidence: float
    weight: float
    answer: str
    payload: str | None = None


@dataclass(frozen=True)
class Result:
    """The one terminal answer to a task."""

    tenant: str
    task_id: str
    status: str
    reason: str
    intent: str | None = None
    answer: str | None = None
    payload: str | None = None
    confidence: float | None = None
    agents: tuple[str, ...] = ()
    votes: tuple[Vote, ...] = ()
    dissent: tuple[str, ...] = ()
    attempts: int = 0
    cost_microusd: int = 0
    tokens: int = 0
    conversation_id: str | None = None
    labels: dict[str, str] = field(default_factory=dict)
    traceparent: str | None = None
    submitted_at: int = 0
    decided_at_ms: int = 0
    route_version: str = ""

    def __str__(self) -> str:
        answer = "" if self.answer is None else f' "{self.answer}"'
        agents = f" by {','.join(self.agents)}" if self.agents else ""
        dissent = f" against {','.join(self.dissent)}" if self.dissent else ""
        return f"result {self.task_id} {self.status} {self.reason}{answer}{agents}{dissent}"


@dataclass(frozen=True)
class Note:
    """An orchestrator event. `agent_id` is set where one agent is the cause."""

    kind: str
    reason: str
    tenant: str
    task_id: str
    agent_id: str | None = None

    def __str__(self) -> str:
        agent = "" if self.agent_id is None else f" {self.agent_id}"
        return f"note {self.task_id} {self.kind} {self.reason}{agent}"


@dataclass(frozen=True)
class Health:
    """What one outcome says to the agent's breaker: `success`, `failure` or `neutral`."""

    agent_id: str
    verdict: str
    probe_epoch: int


Action: TypeAlias = Dispatch | Result | Note
