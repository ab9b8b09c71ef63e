"""A recovery that reads results first makes nothing of finished tasks, and comes to the same as one that makes all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from console.bench_fold import Logs
from loadtest.invariants import differences
from schemas.registry import FileRegistry
from schemas.topology import load_topology
from streams.core.policy import Policy
from streams.core.recovery import Fold
from streams.processors.recovery import GivenUpError, Recovery
from streams.transport.batch import Batch, merged
from tests.simulation.judge_folds import state_of

TASKS, OPEN = 240, 40


@pytest.fixture(scope="module")
def logs() -> Logs:
    """Panels, failures and cascades among them, and tasks that nobody has answered."""
    made = Logs(load_topology(Path("topology.yaml")), TASKS, OPEN)
    made.cut(7)
    return made


def test_what_is_finished_is_skimmed_and_the_state_is_the_same(logs: Logs, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = logs.fold(results_first=False, one_by_one=True)
    assert sum(len(cell) for cell, _ in whole.values()) == OPEN
    asked: list[int] = []
    monkeypatch.setattr(Fold, "dispatches", _counting(asked, Fold.dispatches))
    skimmed = logs.fold()
    assert OPEN <= sum(asked) < 2 * OPEN, "of the open ones alone; a panel has two"
    for number, (cell, effects) in whole.items():
        assert differences("fold", state_of(cell, effects), state_of(*skimmed[number])) == []
        assert cell._folded == skimmed[number][0]._folded
        ended, skimmed_ended = ([key for key, *_ in each.finished.items()] for each in (cell, skimmed[number][0]))
        assert ended == skimmed_ended


def test_a_recovery_that_was_given_up_reads_no_further(logs: Logs) -> None:
    topology = load_topology(Path("topology.yaml"))
    recovery, read = Recovery(topology, Policy.compile(topology), FileRegistry.load(), {}), list[Batch]()
    batches = logs.batches[topology.topics().results]

    def reading() -> Iterator[Batch]:
        for batch in batches:
            read.append(batch)
            if len(read) == 2:
                recovery.give_up()
            yield batch

    with pytest.raises(GivenUpError):
        recovery.fold_all(reading(), {})
    assert len(read) == 2 < len(batches)


def test_batches_that_are_merged_hold_the_same_in_the_same_order(logs: Logs) -> None:
    batches = next(each for each in logs.batches.values() if len(each) > 2)
    one = merged(batches)
    assert len(one) == sum(map(len, batches))
    assert one.values == [value for batch in batches for value in batch.values]
    assert one.offsets.tolist() == [offset for batch in batches for offset in batch.offsets.tolist()]
    assert one.partitions.tolist() == [number for batch in batches for number in batch.partitions.tolist()]
    assert {tp for batch in batches for tp in batch.ends} == one.ends.keys()


def _counting(asked: list[int], real: Any) -> Any:
    def dispatches(fold: Fold, facts: Any) -> None:
        asked.append(facts.batch.num_rows)
        real(fold, facts)

    return dispatches
