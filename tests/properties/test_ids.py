"""Ids made for many facts at once are those that are made one by one."""

from __future__ import annotations

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from schemas.ids import fact_id, fact_ids, joined, task_fact_ids, task_texts

TEXT = st.text(st.characters(), max_size=5)  # halves of surrogate pairs among it


@given(st.lists(st.tuples(st.sampled_from(["default", "", "acmé"]) | TEXT, TEXT, TEXT, st.integers())))
def test_many_ids_are_those_of_each_fact(facts: list[tuple[str, str, str, int]]) -> None:
    tenants, task_ids, agents, numbers = zip(*facts, strict=True) if facts else ((), (), (), ())
    rests = map(joined, agents, numbers)
    assert task_fact_ids(tenants, task_ids, rests) == [fact_id(*each) for each in facts]


PLAIN = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)


@given(st.lists(st.tuples(PLAIN, PLAIN, PLAIN, st.integers())))
def test_and_so_are_those_that_are_made_of_columns(facts: list[tuple[str, str, str, int]]) -> None:
    tenants, task_ids, agents, numbers = zip(*facts, strict=True) if facts else ((), (), (), ())
    tasks = task_texts(*(pa.array(each, pa.string()) for each in (tenants, task_ids))).to_pylist()
    rests = [joined(*each).encode() for each in zip(agents, numbers, strict=True)]
    assert fact_ids(tasks, rests) == [fact_id(*each) for each in facts]
