"""How long readers gather, and that what they gather is one assignment's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from streams.transport import consumer as consumer_module
from streams.transport import gathering as gathering_module
from streams.transport.consumer import BatchConsumer
from streams.transport.gathering import SHORTEST_S, Gathering

LONGEST_S, SHARE = 0.1, 0.6
LULL_S = 0.001


class Machine:
    """Takes the place of the module `time`: two clocks that go only where they are told to."""

    def __init__(self) -> None:
        self.now_s, self.spent_s = 100.0, 7.0

    def monotonic(self) -> float:
        return self.now_s

    def process_time(self) -> float:
        return self.spent_s


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine()
    monkeypatch.setattr(gathering_module, "time", machine)
    return machine


def after(
    machine: Machine,
    cost_s: float,
    late_s: float = 0.0,
    turns: int = 50,
    idle_s: float = LULL_S,
    share: float = SHARE,
) -> float:
    """What a reader waits whose turns cost so much CPU time, and who is woken so late from each wait."""
    gathering = Gathering(LONGEST_S, share)
    for _ in range(turns):
        machine.now_s += idle_s
        machine.now_s += gathering.begin() + late_s
        machine.spent_s += cost_s
        gathering.end()
    return gathering.wait_s


def test_who_has_read_nothing_hardly_waits(machine: Machine) -> None:
    assert after(machine, 0.0, turns=0) == SHORTEST_S


def test_cheap_turns_are_not_waited_for(machine: Machine) -> None:
    assert after(machine, SHORTEST_S * SHARE / 2) == SHORTEST_S


def test_who_has_less_of_a_core_for_turns_takes_fewer_of_them(machine: Machine) -> None:
    assert after(machine, 0.012, share=0.2) == pytest.approx(0.012 / 0.2, rel=0.01)
    assert after(machine, 0.024, share=0.2) == LONGEST_S


def test_the_dearer_a_turn_the_longer_the_wait_up_to_its_bound(machine: Machine) -> None:
    assert after(machine, 0.012) == pytest.approx(0.012 / SHARE, rel=0.01)
    assert after(machine, 0.024) == pytest.approx(0.024 / SHARE, rel=0.01)
    assert after(machine, 0.5) == LONGEST_S


def test_turns_take_no_more_than_their_share_of_a_core_where_a_longer_wait_spares_it(machine: Machine) -> None:
    fixed_s, of_a_core_by_rows = 0.007, 0.15
    gathering = Gathering(LONGEST_S, SHARE)
    for _ in range(200):
        machine.now_s += LULL_S
        waited_s = gathering.begin()
        machine.now_s += waited_s
        machine.spent_s += fixed_s + of_a_core_by_rows * (waited_s + LULL_S)
        gathering.end()
    assert (fixed_s / waited_s) + of_a_core_by_rows == pytest.approx(SHARE, rel=0.05)


def test_who_waits_for_a_core_waits_longer_for_company_too(machine: Machine) -> None:
    assert after(machine, 0.004, late_s=0.006) == pytest.approx(0.010 / SHARE, rel=0.01)
    assert after(machine, 0.004, late_s=0.2) == LONGEST_S


def test_what_an_idle_process_does_is_not_the_next_turns_cost(machine: Machine) -> None:
    """Two per cent of a core for ten seconds, then a record."""
    assert after(machine, 0.2, turns=5, idle_s=10.0) == SHORTEST_S


def test_the_wait_never_exceeds_what_was_allowed() -> None:
    assert Gathering(SHORTEST_S / 5, SHARE).wait_s == SHORTEST_S / 5


class Message:
    """Of topic t, partition 0."""

    def __init__(self, offset: int) -> None:
        self._offset = offset

    def topic(self) -> str:
        return "t"

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return self._offset

    def value(self) -> bytes:
        return b"value"

    def key(self) -> None:
        return None

    def timestamp(self) -> tuple[int, int]:
        return 1, 0

    def error(self) -> None:
        return None

    def __len__(self) -> int:
        return 5


class Client:
    """A librdkafka consumer that gives what it is told, call by call; a call may serve a rebalance first."""

    def __init__(self, calls: list[tuple[bool, list[int]]]) -> None:
        self._calls = iter(calls)
        self._on_revoke: Callable[[Any, list[Any]], None] | None = None

    def offsets_for_times(self, partitions: list[Any], timeout: float) -> list[Any]:
        del timeout
        return partitions

    def subscribe(self, topics: list[str], on_assign: Any, on_revoke: Any, on_lost: Any) -> None:
        del topics, on_assign, on_lost
        self._on_revoke = on_revoke

    def resume(self, partitions: list[Any]) -> None:
        del partitions

    def consume(self, count: int, timeout: float) -> list[Message]:
        del timeout
        rebalances, offsets = next(self._calls)
        if rebalances:
            assert self._on_revoke is not None
            self._on_revoke(self, [])
        assert len(offsets) <= count
        return list(map(Message, offsets))


def polled(monkeypatch: pytest.MonkeyPatch, calls: list[tuple[bool, list[int]]]) -> list[int]:
    client = Client(calls)
    monkeypatch.setattr(consumer_module, "opened", lambda *_: client)
    reader = BatchConsumer({}, str, rows_max=10, bytes_max=1000, poll_s=1.0, gathering=Gathering(LONGEST_S, SHARE))
    reader.subscribe(["t"])
    return [offset for batch in reader.poll() for offset in batch.offsets.tolist()]


def test_the_first_record_and_its_company_are_one_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    assert polled(monkeypatch, [(False, [7]), (False, [8, 9])]) == [7, 8, 9]


def test_nothing_is_gathered_where_nothing_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert polled(monkeypatch, [(False, [])]) == []


def test_what_was_read_before_a_rebalance_is_not_taken_for_what_comes_after(monkeypatch: pytest.MonkeyPatch) -> None:
    assert polled(monkeypatch, [(False, [7]), (True, [3, 4])]) == [3, 4]
