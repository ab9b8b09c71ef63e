"""Before a write the host asks the broker whether it still has its inboxes: once for all who ask at a time."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agents import ownership, trial
from agents.ownership import Ownership
from agents.registry import resolve
from tests.support.agents_bench import make_topology
from tests.support.agents_sample import CALLS


class Broker:
    """Answers in the order of the requests, when it is told to."""

    def __init__(self, *answers: bool) -> None:
        self.answers, self.asked = list(answers), 0
        self.go_on = asyncio.Event()

    async def ask(self) -> bool:
        self.asked += 1
        await self.go_on.wait()
        return self.answers.pop(0)


async def turns(n: int = 10) -> None:
    for _ in range(n):
        await asyncio.sleep(0)


async def test_those_who_ask_before_a_request_is_made_share_it_and_who_comes_later_has_the_next() -> None:
    broker = Broker(True, True)
    owned = Ownership(broker.ask)
    first = [asyncio.create_task(owned.confirmed()) for _ in range(3)]
    await turns()
    assert broker.asked == 1
    later = [asyncio.create_task(owned.confirmed()) for _ in range(2)]
    await turns()
    assert broker.asked == 1, "one request at a time"
    broker.go_on.set()
    await asyncio.gather(*first, *later)
    assert broker.asked == 2


async def test_a_no_is_asked_again_and_never_taken_for_a_yes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ownership, "AGAIN_S", 0.001)
    broker = Broker(False, False, True)
    broker.go_on.set()
    await asyncio.wait_for(Ownership(broker.ask).confirmed(), 5)
    assert (broker.asked, broker.answers) == (3, [])


async def test_who_is_cancelled_while_asking_takes_nobody_along() -> None:
    broker = Broker(True)
    owned = Ownership(broker.ask)
    one, other = (asyncio.create_task(owned.confirmed()) for _ in range(2))
    await turns()
    one.cancel()
    await turns()
    broker.go_on.set()
    await asyncio.wait_for(other, 5)


@pytest.mark.parametrize(("effect", "waits"), [("write", True), ("read", False), ("idempotent", False)])
async def test_a_write_is_begun_only_when_it_is_known_whose_it_is(
    effect: str, waits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    granted, asked, log = asyncio.Event(), list[bool](), f"ownership-{effect}"

    async def owns() -> None:
        asked.append(True)
        await granted.wait()

    monkeypatch.setattr(trial, "_nobody_else", owns)
    agent: dict[str, Any] = {"run": "tests.support.agents_sample:slow", "options": {"log": log}, "effect": effect}
    topology = make_topology("", {"writer": {**agent, "costly": True}})
    target = resolve(topology)["writer"]
    tasks = {"task_id": "t", "text": "hello"}
    trying = asyncio.create_task(trial.try_agent(topology, "writer", target, tasks, 1, "all"))
    async with asyncio.timeout(30):
        while not (asked or CALLS[log]):  # noqa: ASYNC110  a list tells nobody
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)  # and what else there may be
    assert (asked, CALLS[log]) == (([True], []) if waits else ([], ["t"]))
    granted.set()
    tried = await asyncio.wait_for(trying, 10)
    assert tried.events.column("kind").to_pylist() == ["STARTED", "COMPLETED"]
    assert CALLS[log] == ["t"]
