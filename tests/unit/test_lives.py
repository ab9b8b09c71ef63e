"""Whole lives of tasks: what the store's benchmark is fed."""

from __future__ import annotations

from pathlib import Path

from loadtest.lives import Lives
from schemas.codec import Codec
from schemas.registry import FileRegistry
from schemas.topology import load_topology

TOPOLOGY = load_topology(Path("topology.yaml"))
KINDS = ("TaskSubmitted", "TaskDispatched", "AgentEvent", "TaskResult")


def test_lives_are_whole_and_every_record_decodes() -> None:
    codec, n = Codec(FileRegistry.load(), TOPOLOGY.limits.record_bytes_max), 500
    found = list(Lives(TOPOLOGY, 1, 1_700_000_000_000_000).records(range(n)))
    assert [records.record for records in found] == list(KINDS)
    submitted, dispatched, events, results = found
    assert submitted.batch.num_rows == results.batch.num_rows == n
    assert n < dispatched.batch.num_rows == events.batch.num_rows < 2 * n
    assert set(dispatched.agents) == set(TOPOLOGY.agents)
    ids = set(submitted.batch.column("task_id").to_pylist())
    assert len(ids) == n == len(set(results.batch.column("task_id").to_pylist()))
    assert set(dispatched.batch.column("task").field("task_id").to_pylist()) == ids
    assert len(set(events.batch.column("event_id").to_pylist())) == events.batch.num_rows
    for records in found:
        decoded = codec.decode(codec.encode(records.batch, records.record), records.record)
        assert not decoded.faults
        assert decoded.batch.num_rows == len(records.tasks)


def test_the_same_seed_gives_the_same_records() -> None:
    first, again, other = (
        [records.batch for records in Lives(TOPOLOGY, seed, 1).records(range(100))] for seed in (1, 1, 2)
    )
    assert all(one.equals(two) for one, two in zip(first, again, strict=True))
    assert not first[0].equals(other[0])
