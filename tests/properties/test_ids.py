"""Ids made for many facts at once are those that are made one by one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from schemas.ids import fact_id, joined, task_fact_ids

TEXT = st.text(st.characters(), max_size=5)  # halves of surrogate pairs among it


@given(st.lists(st.tuples(st.sampled_from(["default", "", "acmé"]) | TEXT, TEXT, TEXT, st.integers())))
def test_many_ids_are_those_of_each_fact(facts: list[tuple[str, str, str, int]]) -> None:
    tenants, task_ids, agents, numbers = zip(*facts, strict=True) if facts else ((), (), (), ())
    rests = map(joined, agents, numbers)
    assert task_fact_ids(tenants, task_ids, rests) == [fact_id(*each) for each in facts]
