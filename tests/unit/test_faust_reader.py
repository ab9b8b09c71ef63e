"""What the driver says of the broker while its reader's thread hangs, or asks nobody."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from streams.transport import faust_reader
from streams.transport.faust_options import DriverOptions
from streams.transport.faust_tenure import REVOKE_TIMEOUT_S, Driver
from tests.support.waiting import PATIENCE, deadline_in

DOWN_S = 600.0


class Consumer:
    """librdkafka's, of which nothing comes."""

    def consume(self, _count: int, timeout_s: float) -> list[Any]:
        time.sleep(timeout_s)
        return []

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return lambda *_, **__: []


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    monkeypatch.setattr(faust_reader, "opened", lambda *_: Consumer())
    hooks: Any = None
    options = DriverOptions({}, "tasks", (), lambda topic: topic, 10, 1 << 20, 0.01, 0.6, hooks)
    return Driver(options)


async def until(holds: Callable[[], bool]) -> None:
    deadline = deadline_in(PATIENCE)
    while not holds():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


async def test_a_reader_that_hangs_in_a_request_counts_as_one_that_reaches_nobody(driver: Driver) -> None:
    driver.open()
    flow: Any = None
    driver.start(flow, frozenset({"tasks"}))
    assert not driver.is_down
    answered = threading.Event()
    asked = asyncio.create_task(driver._ask(lambda _: answered.wait(DOWN_S)))
    await until(lambda: driver.is_down)
    answered.set()
    await asked
    await until(lambda: not driver.is_down)
    await driver.leave(clean=False, timeout_s=PATIENCE)


async def test_a_broker_is_back_when_it_has_answered_and_not_when_nobody_was_asked(driver: Driver) -> None:
    driver.open()
    flow: Any = None
    driver.start(flow, frozenset({"tasks"}))
    watch = driver._started().watch
    watch.is_down, driver._started()._probe_at = True, time.monotonic() + DOWN_S
    assert await driver.lag() == {}
    assert driver.is_down
    await driver.committed([])
    assert not driver.is_down
    await driver.leave(clean=False, timeout_s=PATIENCE)


async def test_who_leaves_has_less_and_less_time_to_give_partitions_up(driver: Driver) -> None:
    driver.open()
    flow: Any = None
    driver.start(flow, frozenset({"tasks"}))
    assert driver.revoke_s == REVOKE_TIMEOUT_S
    await driver.leave(clean=False, timeout_s=0.5)
    assert 0 <= driver.revoke_s < 0.5
