"""Who counts in an agent's log: the rule, its columns, and the number that rises with each owner."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.epochs import EPOCH_MAX, KEPT, Epochs, LogEpochs, halves, is_behind, joined, next_epoch, spill_epoch

TERM = 1 << 32


def void_by_definition(records: list[tuple[str, int]]) -> list[int]:
    """Rows with a lower epoch than a row of the same log before them; 0 is no epoch."""
    highest: dict[str, int] = {}
    found = []
    for row, (log, epoch) in enumerate(records):
        if 0 < epoch < highest.get(log, 0):
            found.append(row)
        highest[log] = max(epoch, highest.get(log, 0))
    return found


def void(epochs: Epochs, records: list[tuple[str, int]], first: int = 0) -> list[int]:
    rows = epochs.void(
        [topic for topic, _ in records],
        np.zeros(len(records), np.int32),
        np.arange(first, first + len(records), dtype=np.int64),
        np.array([epoch for _, epoch in records], np.int64),
    )
    return [] if rows is None else rows.tolist()


RECORDS = st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, KEPT - 1)), max_size=30)


@given(RECORDS, st.data())
def test_what_stands_behind_a_newer_epoch_is_void_however_the_log_is_cut_into_batches(
    records: list[tuple[str, int]], data: st.DataObject
) -> None:
    epochs, found, at = Epochs(), list[int](), 0
    while at < len(records):
        size = data.draw(st.integers(1, len(records) - at))
        found += [at + row for row in void(epochs, records[at : at + size], at)]
        at += size
    assert found == void_by_definition(records)


def test_a_log_that_begins_with_the_epoch_of_all_others_is_taken_note_of() -> None:
    epochs = Epochs()
    assert [void(epochs, [record], at) for at, record in enumerate([("b", 2), ("a", 2), ("a", 1)])] == [[], [], [0]]


def test_an_epoch_that_nobody_can_have_is_void_and_outbids_nobody() -> None:
    """Its writer is none of ours: no later claim would fit into the log's 64 bits."""
    epochs = Epochs()
    assert void(epochs, [("a", 5), ("a", EPOCH_MAX + 1), ("a", 5), ("a", (1 << 63) - 1), ("a", 6)]) == [1, 3]
    assert epochs.of(("a", 0)).newest == 6
    assert void(Epochs(), [("a", EPOCH_MAX)]) == []


@given(RECORDS, st.data())
def test_what_is_read_again_is_judged_as_before(records: list[tuple[str, int]], data: st.DataObject) -> None:
    epochs = Epochs()
    once = void(epochs, records)
    since = data.draw(st.integers(0, len(records)))
    assert void(epochs, records[since:], since) == [row - since for row in once if row >= since]


@given(RECORDS, st.data())
def test_what_is_remembered_of_the_logs_is_enough_to_go_on(records: list[tuple[str, int]], data: st.DataObject) -> None:
    """As a recovery does that begins somewhere, with the claims that a cut has kept."""
    epochs, until = Epochs(), data.draw(st.integers(0, len(records)))
    void(epochs, records[:until])
    since = data.draw(st.integers(0, until))
    again = Epochs({("a", 0): LogEpochs(epochs.of(("a", 0)).since), ("b", 0): LogEpochs(epochs.of(("b", 0)).since)})
    assert void(again, records[since:], since) == [row - since for row in void_by_definition(records) if row >= since]


def test_only_the_last_claims_are_kept_and_who_is_older_is_unknown() -> None:
    log = LogEpochs()
    for number in range(1, 2 * KEPT):
        log.note(number * 10, number)
    assert log.since == [(number * 10, number) for number in range(KEPT, 2 * KEPT)]
    assert log.is_void(KEPT * 10 + 1, KEPT - 1)
    assert not log.is_void(KEPT * 10, 1), "before the first that is known"


def test_partitions_that_are_given_up_are_forgotten() -> None:
    epochs = Epochs({("a", 0): LogEpochs([(0, 3)]), ("a", 1): LogEpochs([(0, 4)])})
    assert set(epochs.items(1)) == {("a", 1)}
    epochs.drop([1])
    assert epochs.of(("a", 1)).newest == 0
    assert epochs.of(("a", 0)).newest == 3


@given(st.lists(st.one_of(st.just("reset"), st.integers(1, 4)), max_size=20))
def test_each_owner_has_a_higher_epoch_than_the_one_before_though_the_group_is_forgotten(
    steps: list[str | int],
) -> None:
    generation, newest = 0, 0
    for step in steps:
        generation = 0 if step == "reset" else generation + int(step)
        if generation:
            epoch = next_epoch(generation, newest)
            assert epoch > newest
            newest = epoch


@pytest.mark.parametrize(
    ("generation", "newest", "epoch", "behind"),
    [
        (1, 0, 1, False),
        (7, 6, 7, False),
        (6, 6, TERM + 6, True),
        (2, 6, TERM + 2, True),
        (3, TERM + 2, TERM + 3, False),
        (9, 2 * TERM + 9, 3 * TERM + 9, True),
    ],
)
def test_a_generation_that_does_not_rise_needs_the_brokers_word(
    generation: int, newest: int, epoch: int, behind: bool
) -> None:
    assert next_epoch(generation, newest) == epoch
    assert is_behind(generation, newest) is behind


def test_a_worker_that_starts_again_in_its_slot_spills_above_its_former_self_and_a_zombie_below() -> None:
    first = spill_epoch(7, 0)
    again = spill_epoch(7, first)
    assert 0 < first < again
    assert spill_epoch(7, again) > again, "a third one, in the same generation"
    assert spill_epoch(8, again) > again
    assert spill_epoch(6, again) < again, "its generation is over"
    claims = LogEpochs().claimed(10, first).claimed(20, again)
    assert claims.is_void(20, first)
    assert not claims.is_void(19, first)
    assert not claims.is_void(20, again)


def test_an_epoch_is_written_as_its_halves() -> None:
    for epoch in (0, 7, spill_epoch(7, 7), EPOCH_MAX):
        assert joined(*halves(epoch)) == epoch
    assert halves(spill_epoch(7, 7)) == (1, 7)
