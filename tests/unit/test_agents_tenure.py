"""What a host keeps when its group deals the inboxes out anew, and what it asks of nobody meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from agents.inbox import Inbox
from agents.positions import Positions
from agents.readback import Recovered
from agents.tenure import Tenure
from streams.transport.batch import TopicPartition

FIRST, SECOND, THIRD = (TopicPartition("agents.one.inbox.v1", number) for number in range(3))


class Group:
    """A consumer whose group deals when it is told to, and what was committed through it."""

    def __init__(self) -> None:
        self.number = 0
        self.commits: list[Mapping[TopicPartition, tuple[int, str]]] = []

    def subscribe(self, _topics: Any, **callbacks: Any) -> None:
        self.assigned, self.revoked, self.lost = (callbacks[f"on_{each}"] for each in ("assign", "revoke", "lost"))

    def generation(self) -> int:
        return self.number

    def committed(self, tps: Any) -> dict[TopicPartition, tuple[int, str]]:
        return dict.fromkeys(tps, (5, ""))

    def watermarks(self, _tps: Any) -> dict[TopicPartition, tuple[int, int]]:
        return {}

    def commit(self, positions: Mapping[TopicPartition, tuple[int, str]]) -> None:
        if positions:
            self.commits.append(positions)

    async def deals(self, *tps: TopicPartition, generations: int = 1) -> dict[TopicPartition, int]:
        self.number += generations
        return dict(await asyncio.to_thread(self.assigned, list(tps)))


class Logs:
    """Reads nothing back, and keeps of which inboxes that was asked."""

    def __init__(self) -> None:
        self.read_back: list[list[TopicPartition]] = []

    def read(self, committed: Mapping[TopicPartition, Any], _claim: Any) -> Recovered:
        self.read_back.append(sorted(committed))
        return Recovered([Inbox("one", tp.topic, tp.partition) for tp in committed])


class Host:
    """What a tenure asks of the rest of its host; all of it has nothing to do."""

    contexts = None

    def hold(self, held: bool) -> None: ...

    async def settle(self, _timeout_s: float) -> bool:
        return True

    def own(self, _inbox: Inbox) -> None: ...

    def give_up(self, _agent_id: str, _partition: int) -> None: ...

    def answer(self) -> None: ...


class Bench:
    def __init__(self) -> None:
        self.group, self.logs, host = Group(), Logs(), Host()
        consumer: Any = self.group
        self.inboxes: dict[TopicPartition, Inbox] = {}
        self.positions = Positions(consumer, self.inboxes)
        others: Any = host
        read_back: Any = self.logs
        self.tenure = Tenure(
            consumer,
            read_back,
            self.positions,
            others,
            others,
            others,
            {},
            None,
            self.inboxes,
            lambda _tp: None,
        )
        self.tenure.begin([])

    async def revoked(self, *tps: TopicPartition) -> None:
        await asyncio.to_thread(self.group.revoked, list(tps))


async def test_what_comes_back_at_once_is_as_it_was_and_is_read_on_where_it_was_left() -> None:
    bench = Bench()
    assert await bench.group.deals(FIRST, SECOND) == {}
    kept = bench.inboxes[SECOND]
    kept.tracker.take([5, 6, 7], appended_ms=1)
    await bench.revoked(FIRST, SECOND)
    assert kept is bench.inboxes[SECOND]
    assert await bench.group.deals(SECOND, THIRD) == {SECOND: 8}
    assert bench.inboxes[SECOND] is kept
    assert set(bench.inboxes) == {SECOND, THIRD}
    assert bench.logs.read_back == [[FIRST, SECOND], [THIRD]]
    assert not kept.lost


async def test_of_what_may_have_been_anothers_the_logs_are_read() -> None:
    bench = Bench()
    await bench.group.deals(FIRST)
    before = bench.inboxes[FIRST]
    await bench.revoked(FIRST)
    await bench.group.deals(FIRST, generations=2)
    assert before.lost
    assert bench.inboxes[FIRST] is not before
    assert bench.logs.read_back == [[FIRST], [FIRST]]


async def test_what_was_lost_is_not_kept_though_it_comes_back_in_the_next_generation() -> None:
    bench = Bench()
    await bench.group.deals(FIRST)
    before = bench.inboxes[FIRST]
    await asyncio.to_thread(bench.group.lost, [FIRST])
    await bench.group.deals(FIRST)
    assert bench.inboxes[FIRST] is not before
    assert bench.logs.read_back == [[FIRST], [FIRST]]


async def test_what_is_at_stake_is_nobodys_and_no_position_of_it_is_committed() -> None:
    """The client may be of the new generation already, in which an inbox that was at stake is another's."""
    bench = Bench()
    await bench.group.deals(FIRST)
    assert bench.positions.are_ours()
    await bench.revoked(FIRST)
    bench.group.commits.clear()
    assert not bench.positions.are_ours()
    bench.positions.commit({FIRST: (6, "")})
    assert bench.group.commits == []
    await bench.group.deals(FIRST)
    assert bench.positions.are_ours()
    bench.positions.commit({FIRST: (6, "")})
    assert bench.group.commits[-1] == {FIRST: (6, "")}


@pytest.mark.parametrize("tps", [(), (FIRST,)])
async def test_what_went_is_written_for_no_more(tps: tuple[TopicPartition, ...]) -> None:
    bench = Bench()
    await bench.group.deals(FIRST, SECOND)
    gone = bench.inboxes[SECOND]
    await bench.revoked(FIRST, SECOND)
    assert not gone.lost
    await bench.group.deals(*tps)
    assert gone.lost
    assert set(bench.inboxes) == set(tps)
