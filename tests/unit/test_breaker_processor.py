"""The breaker processor against a recording producer: what it publishes, and whose breakers it minds."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from schemas.codec import Codec
from schemas.records import table
from schemas.registry import FileRegistry
from schemas.topology import Agent, Route, Topology
from streams.core.breaker import Phase, State, from_row
from streams.processors.breaker import BreakerProcessor
from streams.transport.batch import Batch
from tests.support.recorder import DeadLetters

if TYPE_CHECKING:
    from collections.abc import Sequence

NOW = 1_700_000_000_000
TOPOLOGY = Topology(
    agents={"reader": Agent(run="m:f", effect="read"), "writer": Agent(run="m:f", effect="write")},
    routes={"all": Route(agents=("reader", "writer"))},
    default_route="all",
)
TOPICS = TOPOLOGY.topics()
CODEC = Codec(FileRegistry.load(), 262_144)


class Recorder(DeadLetters):
    """A producer that keeps what it is given, decoded, and a view that shows what was published."""

    def __init__(self) -> None:
        super().__init__(TOPICS)
        self.states: dict[str, State] = {}
        self.published: list[tuple[str, State]] = []
        self.events: list[tuple[int, bytes, dict[str, Any]]] = []
        self.lagging = False

    def send(
        self, topic: str, partition: int, values: Sequence[bytes | None], keys: Sequence[bytes | None] | None = None
    ) -> None:
        assert keys is not None
        rows = CODEC.decode(values, TOPICS.record_of(topic) or "").batch.to_pylist()
        assert len(rows) == len(keys)
        for key, row in zip(keys, rows, strict=True):
            assert key is not None
            if topic == TOPICS.breakers:
                assert (partition, row["agent_id"]) == (0, key.decode())
                self.published.append((key.decode(), from_row(row)))
                if not self.lagging:
                    self.states[key.decode()] = from_row(row)
            else:
                assert topic == TOPICS.orchestrator
                self.events.append((partition, key, row))

    def snapshot(self) -> dict[str, State]:
        return dict(self.states)


def processor(recorder: Recorder) -> BreakerProcessor:
    return BreakerProcessor(TOPOLOGY, CODEC, recorder, recorder, draw=lambda: 0.5)


def counts(agent: str, *, window_id: int, partition: int = 0, **numbers: int) -> dict[str, Any]:
    return {"agent_id": agent, "partition": partition, "window_id": window_id, "successes": 0, "failures": 0, **numbers}


def failing(agent: str, window_id: int, partition: int = 0) -> dict[str, Any]:
    return counts(agent, window_id=window_id, partition=partition, failures=5, leading_failures=5, demand=5)


def batch(*rows: dict[str, Any], source: int = 2, raw: Sequence[bytes | None] = ()) -> Batch:
    """A batch of `control.health.v1` from one partition of it; `raw` values come after the rows."""
    values: list[bytes | None] = [CODEC.encode(table("HealthCounts", row, 1), "HealthCounts")[0] for row in rows]
    values.extend(raw)
    keys: list[bytes | None] = [str(row["agent_id"]).encode() for row in rows]
    keys.extend(b"?" for _ in raw)
    n = len(values)
    return Batch(
        channel="health",
        values=values,
        keys=keys,
        topics=[TOPICS.health] * n,
        partitions=np.full(n, source, np.int32),
        offsets=np.arange(n, dtype=np.int64) + 100,
        timestamps_ms=np.full(n, NOW, np.int64),
        headers=None,
        ends={(TOPICS.health, source): 99 + n},
    )


def test_a_trip_is_published_and_told() -> None:
    recorder = Recorder()
    processor(recorder).handle(batch(failing("reader", NOW), counts("writer", window_id=NOW, successes=3)), NOW)
    [(agent, state)] = recorder.published
    assert (agent, state.phase, state.epoch) == ("reader", Phase.OPEN, 1)
    assert (state.reason, state.until_ms) == ("CONSECUTIVE_FAILURES", NOW + 60_000)
    [(partition, key, event)] = recorder.events
    assert (partition, key) == (2, b"reader")  # the partition that the counts came by
    assert (event["kind"], event["agent_id"], event["reason"]) == ("BREAKER_CHANGED", "reader", "CONSECUTIVE_FAILURES")
    assert (event["at"], event["route_version"], event["task_id"]) == (NOW * 1000, TOPOLOGY.version, None)
    assert json.loads(event["detail"]) == {
        "from": "CLOSED",
        "to": "OPEN",
        "epoch": 1,
        "until_ms": NOW + 60_000,
        "trips": 1,
    }


def test_nothing_is_published_while_nothing_changes() -> None:
    recorder = Recorder()
    each = processor(recorder)
    each.handle(batch(counts("reader", window_id=NOW, successes=50, failures=1, demand=51)), NOW)
    each.tick(NOW + 1_000)
    assert (recorder.published, recorder.events) == ([], [])


def test_probes_that_move_are_published_without_an_event() -> None:
    recorder = Recorder()
    each = processor(recorder)
    each.handle(batch(failing("reader", NOW)), NOW)
    each.tick(NOW + 60_000)
    each.handle(batch(counts("reader", window_id=NOW + 60_200, partition=3, demand=1)), NOW + 60_200)
    assert [state.phase for _, state in recorder.published] == [Phase.OPEN, Phase.HALF_OPEN, Phase.HALF_OPEN]
    assert recorder.published[-1][1].probe_partitions == (3,)
    assert [json.loads(event["detail"])["to"] for _, _, event in recorder.events] == ["OPEN", "HALF_OPEN"]


def test_a_write_agent_is_restored_without_probes() -> None:
    recorder = Recorder()
    each = processor(recorder)
    each.handle(batch(failing("writer", NOW)), NOW)
    each.tick(NOW + 60_000)
    assert [state.phase for _, state in recorder.published] == [Phase.OPEN, Phase.CLOSED]


def test_a_new_owner_goes_on_from_the_topic() -> None:
    recorder = Recorder()
    processor(recorder).handle(batch(failing("reader", NOW)), NOW)
    successor = processor(recorder)
    successor.tick(NOW + 60_000)  # it has not heard of the agent yet
    assert len(recorder.published) == 1
    successor.handle(batch(counts("reader", window_id=NOW + 60_200, partition=1, demand=1)), NOW + 60_200)
    state = recorder.published[-1][1]
    assert (state.phase, state.epoch, state.probe_partitions) == (Phase.HALF_OPEN, 2, (1,))


def test_a_view_that_lags_does_not_undo_what_was_decided() -> None:
    recorder = Recorder()
    recorder.lagging = True
    each = processor(recorder)
    each.handle(batch(failing("reader", NOW)), NOW)
    each.handle(batch(failing("reader", NOW + 200)), NOW + 200)
    each.tick(NOW + 400)
    assert len(recorder.published) == 1


def test_what_another_writer_put_into_the_topic_wins() -> None:
    recorder = Recorder()
    each = processor(recorder)
    each.handle(batch(failing("reader", NOW)), NOW)
    recorder.states["reader"] = State(epoch=7, reason="FORCED_RESET", since_ms=NOW + 100)
    each.handle(batch(failing("reader", NOW + 200)), NOW + 200)
    assert (recorder.published[-1][1].phase, recorder.published[-1][1].epoch) == (Phase.OPEN, 8)


def test_of_two_states_with_one_epoch_the_topics_wins() -> None:
    recorder = Recorder()
    each = processor(recorder)
    each.handle(batch(failing("reader", NOW)), NOW)
    recorder.states["reader"] = replace(recorder.states["reader"], until_ms=NOW + 1)
    each.tick(NOW + 1)
    assert recorder.published[-1][1].phase is Phase.HALF_OPEN


def test_released_partitions_are_minded_no_longer() -> None:
    recorder = Recorder()
    each = processor(recorder)
    each.handle(batch(failing("reader", NOW), source=1), NOW)
    each.handle(batch(failing("writer", NOW), source=2), NOW)
    each.release([1, 3])
    each.tick(NOW + 60_000)
    assert [(agent, state.phase) for agent, state in recorder.published[2:]] == [("writer", Phase.CLOSED)]


@pytest.mark.parametrize("value", [None, b"", b"\x00", b"garbage", b"\x00\x00\x00\x7f\xffx", b"\x00" * 40])
def test_what_cannot_be_decoded_is_dead_lettered_and_costs_no_neighbour(value: bytes | None) -> None:
    recorder = Recorder()
    processor(recorder).handle(batch(failing("reader", NOW), raw=[value]), NOW)
    assert len(recorder.published) == 1
    [(kept, key, partition, letter)] = recorder.dead
    assert (kept, key, partition) == (value, b"?", 2)
    assert letter.origin is not None
    assert (letter.origin.topic, letter.origin.partition, letter.origin.offset) == (TOPICS.health, 2, 101)
    assert letter.component == "breaker"


def test_absurd_counts_and_foreign_agents_are_ignored() -> None:
    recorder = Recorder()
    each = processor(recorder)
    each.handle(
        batch(
            failing("stranger", NOW),
            failing("reader", NOW, partition=4),
            counts("reader", window_id=NOW, failures=5, leading_failures=5, successes=-1),
            failing("reader", -(2**63)),
            failing("reader", 2**63 - 1),
        ),
        NOW,
    )
    assert (recorder.published, recorder.dead) == ([], [])


def test_an_empty_batch_is_nothing() -> None:
    recorder = Recorder()
    processor(recorder).handle(batch(), NOW)
    assert recorder.published == []
