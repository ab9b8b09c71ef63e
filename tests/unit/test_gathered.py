"""How whole record batches are gathered: when brokers are asked, and what one read gives."""

from __future__ import annotations

from typing import Any

import pytest

from streams.transport import gathered as gathered_module
from streams.transport import gathering as gathering_module
from streams.transport.batch import TopicPartition
from streams.transport.gathered import Gathered
from streams.transport.gathering import SHORTEST_S, Gathering
from streams.transport.packed import Pack, packs_of
from tests.properties.test_packed import pack

LONGEST_S = 0.1
LONG_S = 10.0
ANSWER_S = 0.001
NOTHING_HELD = {TopicPartition("events", 0): 7}
TP, OTHER = TopicPartition("events", 0), TopicPartition("events", 1)


class Machine:
    """Takes the place of the module `time`: a clock that goes on where somebody sleeps."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def monotonic(self) -> float:
        return self.now_s

    def process_time(self) -> float:
        return 0.0

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


class Log:
    """Stands for `Fetches`, and for the log that they read: each batch of it is there from its time on."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self.paused: frozenset[TopicPartition] = frozenset()
        self.coming: list[tuple[float, Pack]] = []
        self.asked: list[tuple[float, bool]] = []
        self.are_asking = self.has_prompt = False
        self.is_silent = False

    def write(self, after_s: float, rows: int, tp: TopicPartition = TP, base: int = 0) -> None:
        (made,), _ = packs_of(tp, pack([b"v"] * rows, [b"k"] * rows, base), base, None)
        self.coming.append((self._machine.now_s + after_s, made))

    def lag(self) -> dict[TopicPartition, int]:
        return {TP: 7}

    def wait(self, timeout_s: float, *, at_once: bool = False) -> list[Pack]:
        if not self.are_asking:
            self.asked.append((round(self._machine.now_s - 100, 3), at_once))
        until = self._machine.now_s + timeout_s
        if self.is_silent:
            self._machine.now_s, self.are_asking, self.has_prompt = until, True, at_once
            return []
        if not at_once:
            self._machine.now_s = min([until, *(at for at, _ in self.coming if at > self._machine.now_s)])
        self._machine.now_s += ANSWER_S
        there = [made for at, made in self.coming if at <= self._machine.now_s]
        self.are_asking = not (there or at_once)
        self.has_prompt = False
        self.coming = [each for each in self.coming if each[1] not in there]
        return there


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine()
    for module in (gathered_module, gathering_module):
        monkeypatch.setattr(module, "time", machine)
    return machine


@pytest.fixture
def log(machine: Machine) -> Log:
    return Log(machine)


def reader(log: Any, rows_max: int = 100) -> Gathered:
    return Gathered(log, Gathering(LONGEST_S, 0.6), rows_max)


def offsets(packs: list[Pack]) -> list[int]:
    return [each.base for each in packs]


def test_what_is_there_after_a_rest_is_taken_in_one_answer(log: Log) -> None:
    read = reader(log)
    for base in range(3):
        log.write(0.0, 1, base=base)
    assert offsets(read.read(LONG_S)) == [0, 1, 2]
    log.write(0.0, 1, base=3)
    assert offsets(read.read(LONG_S)) == [3]
    assert log.asked == [(SHORTEST_S, True), (2 * SHORTEST_S + ANSWER_S, True)]


def test_where_nothing_is_there_the_first_record_is_waited_for_and_then_its_company(log: Log) -> None:
    read = reader(log)
    log.write(1.0, 1, base=0)
    log.write(1.0 + SHORTEST_S / 2, 1, base=1)
    log.write(1.0 + 5 * SHORTEST_S, 1, base=2)
    assert offsets(read.read(LONG_S)) == [0, 1]
    assert [at_once for _, at_once in log.asked] == [True, False, True]
    assert offsets(read.read(LONG_S)) == [2]


def test_a_read_lasts_no_longer_than_it_is_given_and_what_it_began_goes_on_in_the_next(
    log: Log, machine: Machine
) -> None:
    read = reader(log)
    log.write(0.2, 1)
    found: list[Pack] = []
    while not found:
        began = machine.now_s
        found = read.read(SHORTEST_S / 3)
        assert machine.now_s - began <= SHORTEST_S / 3 + 3 * ANSWER_S
    assert offsets(found) == [0]
    assert machine.now_s - 100 < 0.2 + 2 * SHORTEST_S
    assert len(log.asked) == 3  # at once, until something comes, and at once


def test_a_broker_that_does_not_answer_is_not_asked_again_and_what_came_first_does_not_wait_for_it(
    log: Log, machine: Machine
) -> None:
    read = reader(log)
    log.write(0.1, 1)
    while read.lag() == NOTHING_HELD:
        assert read.read(SHORTEST_S) == []
    log.is_silent = True
    assert offsets(read.read(10 * SHORTEST_S)) == [0]
    asked = len(log.asked)
    for _ in range(3):
        assert read.read(10 * SHORTEST_S) == []
    assert len(log.asked) == asked
    assert machine.now_s < 101


def test_one_read_gives_what_one_turn_takes_and_the_rest_comes_unasked(log: Log) -> None:
    read = reader(log, rows_max=10)
    for base, rows in ((0, 4), (4, 6), (10, 1), (11, 40), (51, 2)):
        log.write(0.0, rows, base=base)
    assert offsets(read.read(LONG_S)) == [0, 4]
    assert read.lag() == {TP: 7 + 43}
    assert offsets(read.read(0.0)) == [10]
    assert offsets(read.read(0.0)) == [11]  # one batch, however large
    assert offsets(read.read(0.0)) == [51]
    assert read.lag() == NOTHING_HELD
    assert len(log.asked) == 1


def test_what_rests_is_kept_and_holds_nothing_else_up(log: Log) -> None:
    read = reader(log, rows_max=2)
    for base in range(4):
        log.write(0.0, 2, base=2 * base)
    assert offsets(read.read(LONG_S)) == [0]
    log.paused = frozenset({TP})
    log.write(0.0, 1, OTHER)
    assert [each.tp for each in read.read(LONG_S)] == [OTHER]
    log.paused = frozenset()
    assert [offsets(read.read(0.0)) for _ in range(3)] == [[2], [4], [6]]


def test_nothing_of_an_assignment_that_is_over_is_given(log: Log) -> None:
    read = reader(log, rows_max=1)
    for base in range(2):
        log.write(0.0, 1, base=base)
    assert offsets(read.read(LONG_S)) == [0]
    log.write(0.1, 1, base=2)
    read.drop_all()
    while read.lag() == NOTHING_HELD:
        read.read(SHORTEST_S / 2)
    read.drop_all()
    assert read.lag() == NOTHING_HELD
    assert read.read(LONG_S) == []
