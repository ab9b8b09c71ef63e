"""Interactions in the history, as the sink stores them: for tests of what memory is made of there.

I/O: ClickHouse over HTTP.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from agents.memory.model import Interaction, Summary
from agents.memory.modelled import SUMMARISED, payload_of
from agents.memory.sources import tool_calls_text
from schemas.ids import agent_event_id
from schemas.topology import Agent, Route, Topology
from tests.support.history import T0_US, slip
from tests.support.history_rows import insert
from tests.support.memories import KEY

TOPOLOGY = Topology(
    agents={KEY.agent_id: Agent(run="m:f", effect="read")},
    routes={"all": Route(agents=(KEY.agent_id,))},
    default_route="all",
)
LOG = TOPOLOGY.topics().events(KEY.agent_id)
NOBODY = {"task_id": "", "tenant": "", "submitted_at": 0, "deadline_ms": 0}


def tell(
    client: Any,
    interactions: Sequence[Interaction],
    first: int,
    *,
    asked: bool = True,
    times: int = 1,
    topic: str = LOG,
    submitted_at: int = T0_US,
) -> None:
    """As the sink stores them: submissions, and outcomes from offset `first` of the agent's log on."""
    ids = [each.task_id for each in interactions]
    offsets = range(first, first + len(ids))
    key = interactions[0].key
    if asked:
        fields = {"tenant": key.tenant, "conversation_id": key.conversation_id, "submitted_at": submitted_at}
        texts = [each.asked for each in interactions]
        insert(client, "TaskSubmitted", {"task_id": ids, "text": texts, **fields}, offsets, times)
    whose = {"tenant": key.tenant, "conversation_id": key.conversation_id}
    task = {"task_id": ids, **whose, "submitted_at": submitted_at}
    facts = pa.array([each.facts for each in interactions], pa.list_(pa.field("item", pa.string(), nullable=False)))
    outcomes = {
        "event_id": [
            agent_event_id(key.tenant, each.task_id, key.agent_id, each.attempt, each.stage, each.status, each.epoch)
            for each in interactions
        ],
        "kind": [each.status for each in interactions],
        "slip": slip(key.agent_id),
        "task": {**task, "deadline_ms": T0_US // 1000},
        "facts": facts,
        "tool_calls": [tool_calls_text(each.tool_calls) for each in interactions],
        "finished_at": [each.at for each in interactions],
        **{name: [getattr(each, name) for each in interactions] for name in ("answer", "ordinal", "epoch", "error")},
    }
    insert(client, "AgentEvent", outcomes, offsets, times, topic)


def tell_models(client: Any, models: Sequence[Summary], first: int, *, times: int = 1, topic: str = LOG) -> None:
    """As the sink stores what models made, from offset `first` of the agent's log on."""
    for offset, each in enumerate(models, first):
        fields = {
            "event_id": f"m{offset}",
            "kind": "NOTE",
            "slip": {**slip(KEY.agent_id), "reason": SUMMARISED},
            "task": {**NOBODY, "tenant": KEY.tenant, "conversation_id": KEY.conversation_id},
            "epoch": each.epoch,
            "payload": payload_of(each),
        }
        insert(client, "AgentEvent", fields, [offset], times, topic)


def claim(client: Any, epoch: int, offset: int) -> None:
    fields = {"event_id": f"c{epoch}", "kind": "NOTE", "slip": {**slip(KEY.agent_id), "reason": "CLAIMED"}}
    insert(client, "AgentEvent", {**fields, "task": NOBODY, "epoch": epoch}, [offset], topic=LOG)
