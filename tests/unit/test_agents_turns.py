"""The threads of batch agents: shared by short calls, and no agent waits for another's long one."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable

import pytest

from agents.runners import turns
from agents.runners.turns import CallThreads, Lane
from tests.support.waiting import PATIENCE


def _run(work: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        await asyncio.wait_for(work(), PATIENCE)

    asyncio.run(bounded())


def test_short_calls_share_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "PATIENCE_S", 60.0)

    async def work() -> None:
        threads = CallThreads()
        lanes = [Lane(1) for _ in range(12)]
        for _ in range(3):
            found = await asyncio.gather(*(threads.start(lane, threading.get_ident) for lane in lanes))
            assert len(set(found)) == 1, "and the next poll is served by the same one"

    _run(work)


def test_calls_that_are_short_share_a_thread_also_where_the_last_of_them_waits_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(turns, "PATIENCE_S", 0.2)

    def call() -> int:
        time.sleep(0.05)
        return threading.get_ident()

    async def work() -> None:
        threads = CallThreads()
        assert len(set(await asyncio.gather(*(threads.start(Lane(1), call) for _ in range(10))))) == 1

    _run(work)


def test_short_calls_without_end_get_another_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "PATIENCE_S", 0.05)
    monkeypatch.setattr(turns, "CROWDED", 3)

    def call() -> int:
        time.sleep(0.01)
        return threading.get_ident()

    async def work() -> None:
        threads = CallThreads()
        assert len(set(await asyncio.gather(*(threads.start(Lane(1), call) for _ in range(60))))) > 1

    _run(work)


def test_threads_that_a_stall_took_end_though_calls_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "IDLE_S", 0.2)

    gate = threading.Event()

    def stall() -> threading.Thread:
        gate.wait()
        return threading.current_thread()

    async def work() -> None:
        threads = CallThreads()
        current = [threads.start(Lane(1), stall) for _ in range(4)]
        await threads.start(Lane(1), str)  # there is a thread for each by now
        gate.set()
        awake = await asyncio.gather(*current)
        assert len(set(awake)) == 4
        while sum(each.is_alive() for each in awake) > 1:
            await threads.start(Lane(1), str)
            await asyncio.sleep(0.01)

    _run(work)


def test_it_is_calling_from_the_start_of_a_call_to_its_end() -> None:
    async def work() -> None:
        threads, gate = CallThreads(), threading.Event()
        assert not threads.is_calling
        call = threads.start(Lane(1), gate.wait)
        assert threads.is_calling
        gate.set()
        await call
        assert not threads.is_calling

    _run(work)


def test_a_call_that_hangs_keeps_no_other_agent_from_its_work() -> None:
    async def work() -> None:
        threads, gate = CallThreads(), threading.Event()
        hanging = [threads.start(Lane(1), gate.wait) for _ in range(3)]
        assert await asyncio.gather(*(threads.start(Lane(1), str, number) for number in range(3))) == ["0", "1", "2"]
        assert not any(each.done() for each in hanging)
        gate.set()
        assert await asyncio.gather(*hanging) == [True] * 3

    _run(work)


def test_an_agent_has_no_more_threads_than_it_may_even_if_its_calls_are_given_up() -> None:
    async def work() -> None:
        threads, gate, lane = CallThreads(), threading.Event(), Lane(2)
        given_up = [threads.start(lane, gate.wait) for _ in range(2)]
        await asyncio.sleep(5 * turns.PATIENCE_S)
        for each in given_up:
            each.cancel()
        ran: list[int] = []
        never, later = (threads.start(lane, ran.append, number) for number in (1, 2))
        await threads.start(Lane(1), str)
        assert not ran
        never.cancel()
        gate.set()
        await later
        assert ran == [2]
        await threads.start(lane, ran.append, 3)
        assert ran == [2, 3]

    _run(work)


def test_an_error_reaches_who_waits_and_the_thread_goes_on() -> None:
    async def work() -> None:
        threads, lane = CallThreads(), Lane(1)
        with pytest.raises(ZeroDivisionError):
            await threads.start(lane, lambda: 1 // 0)
        with pytest.raises(SystemExit):
            await threads.start(lane, lambda: (_ for _ in ()).throw(SystemExit(3)))
        with pytest.raises(RuntimeError, match="StopIteration"):
            await threads.start(lane, next, iter(()))
        assert await threads.start(lane, str, 5) == "5"

    _run(work)


def test_a_thread_that_has_nothing_to_do_ends_and_the_next_call_has_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "IDLE_S", 0.01)

    async def work() -> None:
        threads, lane = CallThreads(), Lane(1)
        first = await threads.start(lane, threading.current_thread)
        while first.is_alive():  # noqa: ASYNC110  it tells nobody
            await asyncio.sleep(0.01)
        assert await threads.start(lane, str, 5) == "5"

    _run(work)


def test_many_calls_of_any_length_each_come_to_their_end() -> None:
    def call(number: int) -> int:
        time.sleep(0.003 * (number % 7 == 0))
        return number

    async def work() -> None:
        threads, lanes = CallThreads(), [Lane(1 + number % 3) for number in range(5)]
        found = await asyncio.gather(*(threads.start(lanes[number % 5], call, number) for number in range(200)))
        assert found == list(range(200))
        assert not any(lane.running or lane.parked for lane in lanes)

    _run(work)
