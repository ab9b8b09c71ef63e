"""Summaries are made beside a store, not instead of what it is there for."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import pytest

from console.memory import summaries
from console.memory.summaries import BEHIND_S, Maker, keep_making
from streams.history.lag import Lag
from tests.support.waiting import until


class Counted:
    """Stands in for a maker; it fails each time."""

    def __init__(self) -> None:
        self.steps = 0

    def step(self) -> int:
        self.steps += 1
        raise OSError("a test says so")


@contextmanager
def making(lag: Lag) -> Iterator[Counted]:
    made, stop = Counted(), threading.Event()
    thread = keep_making(cast("Maker", cast("Any", made)), stop, lag)
    yield made
    stop.set()
    thread.join(4)
    assert not thread.is_alive()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(summaries, "EVERY_S", 0.01)


def test_they_wait_while_the_history_is_behind_and_are_made_once_it_is_not() -> None:
    lag = Lag(BEHIND_S + 1)
    with making(lag) as made:
        time.sleep(0.2)
        assert made.steps == 0
        lag.seconds = BEHIND_S
        until(lambda: made.steps >= 2, 10)


def test_a_history_that_is_never_up_to_date_gets_them_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(summaries, "BEHIND_MAX_S", 0.1)
    began = time.monotonic()
    with making(Lag(3_600)) as made:
        until(lambda: made.steps >= 2, 10)
        assert time.monotonic() - began >= 0.2
