"""The driver's ticks: each goes when it is over, and holds the times at which its tasks were meant to be sent."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from loadtest import driver
from loadtest.driver import TICK_S, Driver
from loadtest.schedule import Schedule, Stage
from loadtest.workload import Workload
from schemas.settings import Settings
from schemas.topology import load_topology
from tests.support.wire import new_codec

TASKS, RATE = 60, 400


class Producer:
    """`calls`: what it was asked, in order; `values`: what it was given."""

    def __init__(self, *_: Any) -> None:
        self.calls: list[str] = []
        self.values: list[bytes | None] = []
        self.pause_s = 0.0

    def send(self, topic: str, partition: int, values: Sequence[bytes | None], keys: Sequence[bytes | None]) -> None:
        self.calls.append("send")
        self.values += values

    def poll(self) -> None:
        self.calls.append("poll")
        time.sleep(self.pause_s)

    def flush(self, timeout_s: float) -> None:
        self.calls.append("flush")


@pytest.fixture
def producer(monkeypatch: pytest.MonkeyPatch) -> Producer:
    producer = Producer()
    monkeypatch.setattr(driver, "check_topics", lambda *_: None)
    monkeypatch.setattr(driver, "producer_for", lambda *_: producer)
    return producer


def driving() -> Driver:
    topology = load_topology(Path(__file__).resolve().parents[2] / "topology.yaml")
    workload = Workload(topology, new_codec(), seed=1)
    return Driver(Settings(broker="127.0.0.1:1"), topology, workload, Schedule([Stage(TASKS / RATE, RATE)]))


def test_a_tick_says_that_it_is_over_before_the_driver_sleeps(producer: Producer) -> None:
    to = driving()
    began_us = time.time_ns() // 1000
    sent = to.drive(began_us)
    assert sent.tasks == len(producer.values) == TASKS
    ticks = " ".join(producer.calls).split("poll")
    assert len(ticks) > 3
    assert all("send" in tick for tick in ticks[:-1]), producer.calls
    assert ticks[-1].split() == ["flush"]


def test_tasks_hold_the_time_at_which_they_were_meant_to_be_sent_however_late_they_go(producer: Producer) -> None:
    producer.pause_s = 5 * TICK_S
    to = driving()
    began_us = time.time_ns() // 1000
    sent = to.drive(began_us)
    times = sorted(new_codec().decode(producer.values, "TaskSubmitted").batch.column("submitted_at").to_pylist())
    assert times == [began_us + number * 1_000_000 // RATE for number in range(TASKS)]
    assert max(sent.behind_s) > 2 * TICK_S  # and that it went late is lateness
