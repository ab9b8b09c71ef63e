"""A memory that is taken over where log and snapshot contradict each other: the log has the last word."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from agents.inbox import Inbox
from agents.memory.snapshot import Part, Position, Refused, pack
from agents.rebuild import Rebuilder
from agents.snapshots import tell
from console.bench_rebuild import Stored, alone
from schemas.codec import Codec
from schemas.epochs import LogEpochs
from schemas.records import table
from schemas.registry import FileRegistry
from streams.transport.batch import TopicPartition
from streams.transport.telemetry import HOST_SNAPSHOTS_REFUSED

AGENT = "planner"
TOPOLOGY = alone(AGENT)
TOPICS, CODEC = TOPOLOGY.topics(), Codec(FileRegistry.load(), 1 << 20)
INBOX = TopicPartition(TOPICS.inbox(AGENT), 0)


class Log:
    """One conversation in an agent's inbox and log."""

    def __init__(self) -> None:
        self.stored: Any = Stored()
        self.written = 0

    def write(self, epoch: int, ordinals: Sequence[int]) -> None:
        n, names = len(ordinals), [f"t{self.written + at}" for at in range(len(ordinals))]
        slip: dict[str, Any] = {
            "agent_id": AGENT, "attempt": 1, "intent": "all", "confidence": 0.9, "reason": "ROUTED",
            "route_version": "1", "attempts": 1, "timeout_ms": 5_000, "deadline_default_ms": 0, "routed_at": 1,
        }  # fmt: skip
        task: dict[str, Any] = {
            "task_id": names,
            "tenant": "default",
            "submitted_at": 0,
            "deadline_ms": 0,
            "conversation_id": "c",
        }
        asked = {**task, "text": [f"question {name} of host {epoch}" for name in names]}
        event: dict[str, Any] = {
            "event_id": names, "kind": "COMPLETED", "slip": slip, "task": task, "agent_version": "1", "epoch": epoch,
            "answer": "yes", "ordinal": list(ordinals), "finished_at": 1,
        }  # fmt: skip
        self.stored.add(
            INBOX, CODEC.encode(table("TaskDispatched", {"slip": slip, "task": asked}, n), "TaskDispatched")
        )
        self.stored.add(
            TopicPartition(TOPICS.events(AGENT), 0), CODEC.encode(table("AgentEvent", event, n), "AgentEvent")
        )
        self.written += n

    def rebuilder(self) -> Rebuilder:
        return Rebuilder(TOPOLOGY, CODEC, self.stored, self.stored)

    def snapshot(self, epochs: LogEpochs) -> list[Part]:
        """What its owner writes of it now."""
        return pack(self.rebuilder().rebuild(AGENT, 0, epochs, ()).snapshot(AGENT, 0, 1, "1", 10), 10_000)


@pytest.fixture
def log() -> Log:
    return Log()


def refused() -> Any:
    return HOST_SNAPSHOTS_REFUSED.labels(reason="DIVERGED")._value.get()


def test_a_snapshot_that_the_log_contradicts_is_refused_and_the_one_before_it_taken(
    log: Log, capsys: pytest.CaptureFixture[str]
) -> None:
    log.write(1, [1, 2, 3])
    before = log.snapshot(LogEpochs([(-1, 1)]))
    log.write(1, [4, 5])
    after = log.snapshot(LogEpochs([(-1, 1)]))
    log.write(2, [4, 5, 6])  # by a host that knew of three
    epochs = LogEpochs([(-1, 1), (5, 2)])
    whole = log.rebuilder().rebuild(AGENT, 0, epochs, ())
    (state,) = whole.memory.states().values()
    assert [each.task_id for each in state.recent] == ["t0", "t1", "t2", "t5", "t6", "t7"], "the newest host's"

    rebuilt = log.rebuilder().rebuild(AGENT, 0, epochs, [*before, *after])
    assert rebuilt.found.refused == ((after[0], Refused.DIVERGED),)
    assert rebuilt.found.snapshot is not None
    assert rebuilt.found.snapshot.position == Position(0, 3)
    assert rebuilt.memory.hash() == whole.memory.hash()

    counted = refused()
    tell(Inbox(AGENT, INBOX.topic, 0, epoch=2), rebuilt)
    assert refused() == counted + 1
    assert "reason=DIVERGED" in "".join(capsys.readouterr())


def test_without_another_snapshot_the_log_is_read_or_left_where_it_is_too_long(log: Log) -> None:
    log.write(1, [1, 2, 3])
    parts = log.snapshot(LogEpochs([(-1, 1)]))
    log.write(2, [2])
    epochs = LogEpochs([(-1, 1), (3, 2)])
    rebuilt = log.rebuilder().rebuild(AGENT, 0, epochs, parts, limit=4)
    assert (rebuilt.found.snapshot, rebuilt.events, rebuilt.is_left) == (None, 4, False)
    assert [state.count for state in rebuilt.memory.states().values()] == [2]
    left = log.rebuilder().rebuild(AGENT, 0, epochs, parts, limit=3)
    assert (left.is_left, [why for _, why in left.found.refused]) == (True, [Refused.DIVERGED])
    assert not left.memory.states()
