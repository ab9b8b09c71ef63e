"""What the judge of a simulated run makes of its rows, where a run seldom comes to it. I/O: none."""

from __future__ import annotations

from tests.simulation.evidence import Given, Row
from tests.simulation.judge import begins_ms, lives_ms


def submitted(task_id: str, offset: int, number: int = 0) -> tuple[int, Row]:
    fields = {"tenant": "acme", "task_id": task_id}
    return number, Row(offset, 1_000 + offset, is_zombie=False, writer="submitter", fields=fields)


def test_a_task_can_be_read_once_there_is_room_for_it() -> None:
    rows = [submitted(name, offset) for offset, name in enumerate("abcdad")] + [submitted("e", 0, number=1)]
    ended_ms = {("acme", "a"): 9_000, ("acme", "b"): 5_000, ("acme", "c"): 7_000}
    begin = {task_id: at for (_, task_id), at in begins_ms(rows, ended_ms, 2.7).items()}
    # Another is read while two are in flight: the third waits for nobody, each after it until one more is over.
    assert begin == {"a": 1_000, "b": 1_001, "c": 1_002, "d": 5_000, "e": 1_000}


def test_a_task_that_nobody_began_waits_until_its_partition_is_read_back() -> None:
    rows = [submitted(name, offset) for offset, name in enumerate("abcd")]
    begun_ms = {("acme", "a"): 2_000, ("acme", "b"): 7_000, ("acme", "c"): 4_500}
    given = {0: [Given(0, 500), Given(3_000, 6_000), Given(4_000), Given(8_000, 9_000)]}
    live = {task_id: at for (_, task_id), at in lives_ms(rows, begun_ms, given).items()}
    # The first was begun before its partition moved, the second after that; by whom the third was, is not judged here;
    # and what is lost waits for nobody.
    assert live == {"a": 1_000, "b": 6_000, "c": 6_000, "d": 1_003}
