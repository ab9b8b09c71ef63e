"""Who rests and who goes on: what a process paused itself, what the fleet says, and what was on its way meanwhile."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import numpy as np

from schemas.codec import Codec
from schemas.reasons import PauseReason
from schemas.records import table
from schemas.registry import FileRegistry
from streams.transport.batch import Batch
from streams.transport.held import SetAside
from streams.transport.pauses import AT_MAX, SCOPE, Pause, TopicPauses, _pauses
from tests.support.scenes import topology

TOPOLOGY = topology(limits={"dead_records_min": 10, "dead_share_max": 0.2})
TOPICS = TOPOLOGY.topics()
CODEC = Codec(FileRegistry.load(), 4_096)
T = TOPICS.submitted


class Fleet:
    """The topic of pauses: what is sent to it is shown once `arrive` is called."""

    def __init__(self) -> None:
        self.version = 0
        self.sent: list[tuple[str, int, dict[str, Any]]] = []
        self._shown: dict[str, Pause] = {}
        self._clock = 1_000

    def snapshot(self) -> Any:
        return MappingProxyType(dict(self._shown))

    def send(self, topic: str, partition: int, values: Any, keys: Any = None) -> None:
        record = "PauseState" if topic == TOPICS.pauses else "OrchestratorEvent"
        assert topic in (TOPICS.pauses, TOPICS.orchestrator)
        assert keys[0].decode().removeprefix(SCOPE) == T
        self.sent += [(record, partition, row) for row in CODEC.decode(values, record).batch.to_pylist()]

    def says(self, *, paused: bool, at: int) -> None:
        self._shown[SCOPE + T] = Pause(SCOPE + T, paused, "PAUSED_BY_HAND" if paused else "RESUMED_BY_HAND", at, "me")
        self.version += 1

    def now(self) -> int:
        self._clock += 1
        return self._clock


def batch(topics: list[str], partitions: list[int] | None = None, first: int = 0) -> Batch:
    n = len(topics)
    numbers = partitions or [0] * n
    return Batch(
        channel="router",
        values=[b"v"] * n,
        keys=[b"k"] * n,
        topics=topics,
        partitions=np.array(numbers, np.int32),
        offsets=np.arange(first, first + n),
        timestamps_ms=np.zeros(n, np.int64),
        headers=None,
        ends=dict(zip(zip(topics, numbers, strict=True), range(first, first + n), strict=True)),
    )


def pauses(fleet: Fleet) -> TopicPauses:
    return TopicPauses(TOPOLOGY, CODEC, fleet, fleet, fleet.now)


def test_too_many_bad_records_pause_the_topic_at_once_and_tell_fleet_and_history() -> None:
    fleet = Fleet()
    ours = pauses(fleet)
    ours.saw(batch([T] * 9, [3] * 9), range(9))
    assert (ours.resting, fleet.sent) == (frozenset(), [])
    ours.saw(batch([T], [3]), [])
    assert ours.resting == {T}
    (kind, partition, state), (note, where, event) = fleet.sent
    assert (kind, partition, state["scope"], state["paused"]) == ("PauseState", 0, SCOPE + T, True)
    assert (note, where, event["kind"], event["reason"]) == ("OrchestratorEvent", 3, "PAUSE_CHANGED", "DEAD_SHARE")
    assert (event["task_id"], '"read":10,"dead":9' in event["detail"]) == (None, True)
    # What was on its way is no second reason.
    ours.saw(batch([T] * 50), range(50))
    assert len(fleet.sent) == 2


def test_the_fleet_says_when_it_goes_on_and_what_it_said_before_counts_for_nothing() -> None:
    fleet = Fleet()
    ours = pauses(fleet)
    fleet.says(paused=False, at=1)  # resumed long ago
    ours.saw(batch([T] * 10), range(10))
    assert ours.resting == {T}
    fleet.says(paused=True, at=fleet.sent[0][2]["at"])  # our own word came back
    assert ours.resting == {T}
    fleet.says(paused=False, at=10**15)
    assert ours.resting == frozenset()
    # Counting begins anew.
    ours.saw(batch([T] * 9), range(9))
    assert ours.resting == frozenset()
    ours.saw(batch([T] * 9), range(9))
    assert ours.resting == {T}


def test_a_process_that_starts_finds_what_is_paused() -> None:
    fleet = Fleet()
    fleet.says(paused=True, at=5)
    assert pauses(fleet).resting == {T}


def test_records_of_other_topics_in_the_same_batch_pause_nothing() -> None:
    ours = pauses(Fleet())
    ours.saw(batch([T] * 5 + [TOPICS.results] * 95), range(5))
    assert ours.resting == frozenset()


def test_one_that_switches_it_off_is_never_paused() -> None:
    fleet = Fleet()
    off = topology(limits={"dead_records_min": 1, "dead_share_max": 1.0})
    ours = TopicPauses(off, CODEC, fleet, fleet, fleet.now)
    ours.saw(batch([T] * 500), range(500))
    assert ours.resting == frozenset()
    assert PauseReason.DEAD_SHARE not in str(fleet.sent)


def test_what_is_on_its_way_is_set_aside_in_order_and_positions_stay_before_it() -> None:
    aside, other = SetAside(), TOPICS.results
    mixed = batch([T, other, T, other], [0, 0, 1, 1])
    taken = aside.admit("router", mixed, frozenset({T}))
    assert taken is not None
    assert (taken.topics, taken.ends) == ([other, other], {(other, 0): 1, (other, 1): 3})
    assert aside.admit("router", batch([T], [0], 4), frozenset({T})) is None
    assert aside.released(frozenset({T})) == []
    aside.drop([1])
    released = aside.released(frozenset())
    assert [(name, part.offsets.tolist(), part.ends) for name, part in released] == [
        ("router", [0], {(T, 0): 0}),
        ("router", [4], {(T, 0): 4}),
    ]
    assert aside.released(frozenset()) == []
    assert aside.admit("router", mixed, frozenset()) is mixed


def test_a_pause_of_a_time_that_none_can_follow_is_skipped() -> None:
    fields = {"scope": SCOPE + T, "paused": True, "reason": "", "by": "", "note": "", "at": [AT_MAX, AT_MAX + 1]}
    read = _pauses(CODEC, CODEC.encode(table("PauseState", fields, 2), "PauseState"))
    assert [each and each.at for each in read] == [AT_MAX, None]
