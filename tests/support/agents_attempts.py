"""One attempt without a log around it, for tests of how an agent is called."""

from __future__ import annotations

import json
from typing import Any

from agents.conversation import Conversation
from agents.dispatches import Attempt, Dispatched
from agents.inbox import Inbox
from agents.recognition import AttemptId
from tests.support.agents_bench import now_ms


def attempt_of(
    task_id: str = "t", text: str = "hello", *, timeout_ms: int = 5_000, payload: object = None, **fields: Any
) -> Attempt:
    """It has `timeout_ms` left. `fields` are those of Attempt."""
    inbox = Inbox("a", "agents.a.inbox.v1", 0)
    given: dict[str, Any] = {
        "inbox": inbox,
        "source": Dispatched(1, None, None, None, [None]),
        "row": 0,
        "offset": 0,
        "id": AttemptId("default", task_id, 1, "WORK"),
        "agent_id": "a",
        "text": text,
        "payload": None if payload is None else json.dumps(payload),
        "intent": "all",
        "language": None,
        "deadline_ms": now_ms() + 60_000,
        "routed_at": now_ms() * 1000,
        "expires_ms": now_ms() + timeout_ms,
        "labels": [],
        "traceparent": None,
        "data_class": "INTERNAL",
        "conversation": Conversation("a", 0, "default", "c"),
        **fields,
    }
    return Attempt(**given)
