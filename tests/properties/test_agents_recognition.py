"""Dispatches recognised many at a time, as rows are, and one by one: the same ones are new."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from agents.recognition import AttemptId, Memory, Recognition, keys_of
from schemas.ids import task_texts
from tests.support.examples import examples

S = 1_000_000
MEMORY = Memory(writes=False, outcomes_max=1_000, horizon_us=20 * S, kept_us=30 * S)


def attempt(number: int) -> AttemptId:
    return AttemptId("default", f"t{number}", 1, "WORK")


class Columns:
    """An inbox whose polls are taken in columns, where they can be; `rounds` end later, all of one poll together."""

    def __init__(self, memory: Memory = MEMORY, *, in_columns: bool = True) -> None:
        self.known, self._in_columns = Recognition(memory=memory), in_columns
        self._open: list[tuple[set[bytes], list[AttemptId]]] = []  # met together, or one by one
        self._of_keys: dict[bytes, AttemptId] = {}
        self._offset = 0

    def read(self, numbers: Sequence[int], now_us: int) -> list[int]:
        """Which of them are new."""
        attempts, offset = list(map(attempt, numbers)), self._offset
        self._offset += len(numbers)
        if self._in_columns and (met := self.known.meet_all([each.key for each in attempts], offset)):
            self._of_keys |= {each.key: each for each in attempts}
            self._open.append((met, []))
            return list(numbers)
        new = [at for at, each in enumerate(attempts) if self.known.meet(each, offset + at, now_us) is None]
        self._open.append((set(), [attempts[at] for at in new]))
        return [numbers[at] for at in new]

    def end(self, now_us: int, *, apart: bool = False) -> None:
        """What was read first has its outcomes; of what was met together `apart` from each other, as what overruns."""
        together, attempts = self._open.pop(0)
        if not apart:
            self.known.ended_all(together, now_us)
        for each in self._attempts(together) * apart + attempts:
            self.known.ended(each, now_us)

    def give_up(self) -> None:
        """What was read first never has an outcome here."""
        together, attempts = self._open.pop(0)
        for each in self._attempts(together) + attempts:
            self.known.forget(each)

    def _attempts(self, together: set[bytes]) -> list[AttemptId]:
        return sorted(map(self._of_keys.__getitem__, together))


@examples(100)
@given(
    st.lists(
        st.tuples(
            st.lists(st.integers(0, 20), min_size=1, max_size=8),
            st.sampled_from(["goes on", "ends", "ends apart", "is given up"]),
            st.integers(0, 15),
        ),
        max_size=20,
    )
)
def test_what_is_new_is_the_same_in_columns_and_one_by_one(polls: list[tuple[list[int], str, int]]) -> None:
    """Each poll comes some seconds after the one before; then what becomes of the first that is in hand."""
    columns, rows = Columns(), Columns(in_columns=False)
    now = 0
    for numbers, what, later_s in polls:
        now += later_s * S
        assert columns.read(numbers, now) == rows.read(numbers, now)
        for each in (columns, rows):
            if what == "is given up":
                each.give_up()
            elif what != "goes on":
                each.end(now, apart=what == "ends apart")


@examples(50)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=30), st.integers(1, 12))
def test_as_many_are_remembered_as_shall_be_and_no_more_than_one_call_beyond_that(
    sizes: list[int], outcomes_max: int
) -> None:
    inbox = Columns(MEMORY._replace(outcomes_max=outcomes_max))
    first, last = 0, 0
    for size in sizes:
        first, last = last, last + size
        inbox.read(range(first, last), 0)
        inbox.end(0)
    again = [number for number in range(last) if inbox.known.meet(attempt(number), last + number, 0) is not None]
    assert again == list(range(last - len(again), last)), "the newest"
    assert min(outcomes_max, last) <= len(again) < outcomes_max + max(sizes)


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=6) | st.sampled_from(["1:WORK:", ":", "3:a:b"])
ATTEMPTS = st.builds(AttemptId, TEXT, TEXT, st.integers(0, 99), st.sampled_from(["GATE", "WORK", "REGROUND"]))


@given(st.lists(ATTEMPTS, min_size=1, max_size=20))
def test_keys_of_many_are_those_of_each_and_no_two_attempts_share_one(attempts: list[AttemptId]) -> None:
    types = (pa.string(), pa.string(), pa.int32(), pa.string())
    columns = [pa.array(column, kind) for column, kind in zip(zip(*attempts, strict=True), types, strict=True)]
    assert keys_of(task_texts(*columns[:2]), *columns[2:]) == [each.key for each in attempts]
    assert len({each.key for each in attempts}) == len(set(attempts))
