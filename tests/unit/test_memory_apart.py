"""What is one's is no other's: paths by which a text could come into a memory that is not its own.

Others are tested where they are: the fold, hosts' conversations, the history, people's words, words handed over.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import pytest

from agents.logrecall import LogRecall, only
from agents.memory.fold import refold
from agents.memory.model import Key, State
from agents.memory.render import text
from agents.memory.window import window
from agents.rebuild import Rebuilder
from console.bench_rebuild import Stored
from schemas.codec import Codec
from schemas.epochs import LogEpochs
from schemas.records import table
from schemas.registry import FileRegistry
from schemas.topology import Topology
from streams.transport.batch import TopicPartition

AGENT = "planner"
TOPOLOGY = Topology.model_validate(
    {
        "partitions": 1,
        "agents": {AGENT: {"run": "a:b", "effect": "read"}},
        "routes": {"all": {"agents": [AGENT], "fallback": {"answer": "none"}}},
        "default_route": "all",
    }
)
TOPICS, CODEC = TOPOLOGY.topics(), Codec(FileRegistry.load(), 1 << 20)
INBOX, EVENTS = TopicPartition(TOPICS.inbox(AGENT), 0), TopicPartition(TOPICS.events(AGENT), 0)
MINUTE_US = 60_000_000


class Said(NamedTuple):
    """A dispatch and its outcome."""

    task_id: str
    key: Key
    ordinal: int
    routed_at: int = MINUTE_US

    @property
    def asked(self) -> str:
        return f"secret of {self.key.tenant} in {self.key.conversation_id} at {self.routed_at}"


def logged(said: Sequence[Said], *, copies: int = 1, batch: int = 100) -> Any:
    """The agent's inbox and log, `batch` records at a time."""
    stored = Stored()
    for at in range(0, len(said), batch):
        some = said[at : at + batch]
        slip: dict[str, Any] = {
            "agent_id": AGENT, "attempt": 1, "intent": "all", "confidence": 0.9, "reason": "ROUTED",
            "route_version": "1", "attempts": 1, "timeout_ms": 5_000, "deadline_default_ms": 0,
            "routed_at": [each.routed_at for each in some],
        }  # fmt: skip
        task: dict[str, Any] = {
            "task_id": [each.task_id for each in some],
            "tenant": [each.key.tenant for each in some],
            "conversation_id": [each.key.conversation_id for each in some],
            "submitted_at": 0,
            "deadline_ms": 0,
        }
        asked = {**task, "text": [each.asked for each in some]}
        event: dict[str, Any] = {
            "event_id": [f"e{each.key}{each.ordinal}" for each in some], "kind": "COMPLETED", "slip": slip,
            "task": task, "agent_version": "1", "epoch": 1, "answer": [f"of {each.asked}" for each in some],
            "ordinal": [each.ordinal for each in some], "finished_at": 1,
        }  # fmt: skip
        dispatches = CODEC.encode(table("TaskDispatched", {"slip": slip, "task": asked}, len(some)), "TaskDispatched")
        stored.add(INBOX, dispatches * copies)
        stored.add(EVENTS, CODEC.encode(table("AgentEvent", event, len(some)), "AgentEvent"))
    return stored


def from_the_log(stored: Any, keys: Sequence[Key]) -> dict[Key, State]:
    found = LogRecall(TOPOLOGY, CODEC, stored).read(AGENT, 0, only(keys)).memories
    return {key: refold(key, each.interactions) for key, each in found.items()}


def rebuilt(stored: Any, keys: Sequence[Key]) -> dict[Key, State]:
    del keys
    return dict(Rebuilder(TOPOLOGY, CODEC, stored, stored).rebuild(AGENT, 0, LogEpochs([(-1, 1)]), ()).memory.states())


ONE, TWO = Key("acme", AGENT, "c1"), Key("acme", AGENT, "c2")
ANOTHER = Key("globex", AGENT, "c1")


@pytest.mark.parametrize("read", [from_the_log, rebuilt])
@pytest.mark.parametrize("copies", [1, 2])
@pytest.mark.parametrize("batch", [1, 100])
def test_a_task_id_that_two_conversations_use_tells_neither_what_the_other_asked(
    read: Any, copies: int, batch: int
) -> None:
    """Ids are a tenant's to choose, and one that comes again after `duplicate_horizon_ms` is a new task."""
    said = [
        Said("1", ONE, 1),
        Said("1", ANOTHER, 1),
        Said("1", TWO, 1, 10 * MINUTE_US),
        Said("2", TWO, 2, 11 * MINUTE_US),
        Said("2", ONE, 2, 30 * MINUTE_US),
        Said("3", ONE, 3, 31 * MINUTE_US),
    ]
    states = read(logged(said, copies=copies, batch=batch), [ONE, TWO, ANOTHER])
    assert {key: [each.asked for each in state.recent] for key, state in states.items()} == {
        key: [each.asked for each in said if each.key == key] for key in (ONE, TWO, ANOTHER)
    }
    for key, state in states.items():
        shown = text(window(state))
        assert not [each for each in said if each.key != key and f"{each.asked}\n" in f"{shown}\n"]


@pytest.mark.parametrize("read", [from_the_log, rebuilt])
def test_a_task_id_that_comes_again_in_its_conversation_stands_beside_what_was_asked_then(read: Any) -> None:
    said = [Said(f"{n}", ONE, n, n * MINUTE_US) for n in range(1, 14)] + [Said("1", ONE, 14, 14 * MINUTE_US)]
    (state,) = read(logged(said, copies=2, batch=5), [ONE]).values()
    assert [each.asked for each in state.recent] == [each.asked for each in said[-10:]]
