"""The requests of one agent that is outside of the host: which task, under which id, with how much time.

I/O: the wall clock, randomness for ids.
"""

from __future__ import annotations

from itertools import count
from secrets import token_hex
from typing import NamedTuple

from agents.calls import task_of, wall_us
from agents.contract import Context, Task
from agents.dispatches import Attempt
from agents.wire import encode_request
from schemas.topology import Agent


class Request(NamedTuple):
    """One request; the response repeats its `id`. `body` is the JSON of `agents.wire`."""

    task: Task
    id: str
    body: bytes


class Requests:
    """Ids of two runners never meet, nor do those of a host and of the one before it."""

    def __init__(self, agent_id: str, agent: Agent) -> None:
        self._agent_id, self._agent = agent_id, agent
        self._ids = (f"{agent_id}-{token_hex(4)}-{number}" for number in count(1))

    def of(self, attempt: Attempt, context: Context) -> Request:
        """Raises AgentWrongInput for a payload that is no JSON."""
        task, request_id = task_of(attempt), next(self._ids)
        left_ms = max(attempt.expires_ms - wall_us() // 1000, 1)
        options = self._agent.options
        body = encode_request(self._agent_id, options, task, context, request_id=request_id, timeout_ms=left_ms)
        return Request(task, request_id, body)
