"""What a host keeps when its group deals the inboxes out anew, and what it asks of nobody meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import pytest

from agents.inbox import Inbox
from agents.positions import Positions
from agents.readback import Recovered
from agents.regulation import Regulation
from agents.tenure import Tenure
from streams.transport.batch import TopicPartition
from streams.transport.requests import FROM_THE_FIRST, NO_OFFSET

FIRST, SECOND, THIRD = (TopicPartition("agents.one.inbox.v1", number) for number in range(3))


class Group:
    """A consumer whose group deals when it is told to, and what was committed through it."""

    def __init__(self) -> None:
        self.number, self.offset = 0, 5
        self.paused: set[TopicPartition] = set()
        self.commits: list[Mapping[TopicPartition, tuple[int, str]]] = []

    def subscribe(self, _topics: Any, **callbacks: Any) -> None:
        self.assigned, self.revoked, self.lost = (callbacks[f"on_{each}"] for each in ("assign", "revoke", "lost"))

    def generation(self) -> int:
        return self.number

    def committed(self, tps: Any) -> dict[TopicPartition, tuple[int, str]]:
        return dict.fromkeys(tps, (self.offset, ""))

    def pause(self, tps: Any) -> None:
        self.paused |= set(tps)

    def resume(self, tps: Any) -> None:
        self.paused -= set(tps)

    def watermarks(self, _tps: Any) -> dict[TopicPartition, tuple[int, int]]:
        return {}

    def commit(self, positions: Mapping[TopicPartition, tuple[int, str]]) -> None:
        if positions:
            self.commits.append(positions)

    async def deals(self, *tps: TopicPartition, generations: int = 1) -> dict[TopicPartition, int]:
        """Gives where reading goes on; `paused` are those that are not to be read yet."""
        self.number += generations
        begin = await asyncio.to_thread(self.assigned, list(tps))
        self.paused = set(begin.paused)
        return dict(begin.offsets)


class Logs:
    """Reads nothing back, and keeps of which inboxes that was asked."""

    def __init__(self) -> None:
        self.read_back: list[list[TopicPartition]] = []

    def read(self, committed: Mapping[TopicPartition, Any], _claim: Any) -> Recovered:
        self.read_back.append(sorted(committed))
        return Recovered([Inbox("one", tp.topic, tp.partition) for tp in committed])


class Memories:
    """Snapshots of which one is given after the other, when it is told to; of this agent alone."""

    def __init__(self, agent: str = "one") -> None:
        self.with_memory, self.asked = {agent}, list[TopicPartition]()
        self._next = asyncio.Semaphore(0)
        self.error: Exception | None = None

    async def take_over(self, inboxes: Sequence[Inbox]) -> AsyncIterator[tuple[Inbox, list[Any]]]:
        for inbox in inboxes:
            self.asked.append(TopicPartition(inbox.topic, inbox.partition))
            await self._next.acquire()
            if self.error is not None:
                raise self.error
            yield inbox, [(f"of {inbox.partition}", "a state")]

    async def give(self) -> None:
        self._next.release()
        for _ in range(5):
            await asyncio.sleep(0)


class Host:
    """What a tenure asks of the rest of its host; all of it has nothing to do."""

    def __init__(self) -> None:
        self.contexts, self.adopted = self, list[Any]()

    def adopt(self, conversation: Any, state: Any) -> None:
        self.adopted.append((conversation, state))

    taken = 0  # of a room

    def __len__(self) -> int:
        return 0

    async def run(self, call: Any, *arguments: Any) -> Any:
        return call(*arguments)

    def hold(self, held: bool) -> None: ...

    async def settle(self, _timeout_s: float) -> bool:
        return True

    def own(self, _inbox: Inbox) -> None: ...

    def give_up(self, _agent_id: str, _partition: int) -> None: ...

    def answer(self) -> None: ...


class Bench:
    def __init__(self, memories: Memories | None = None) -> None:
        self.group, self.logs, self.host = Group(), Logs(), Host()
        consumer: Any = self.group
        self.inboxes: dict[TopicPartition, Inbox] = {}
        others: Any = self.host
        self.regulation = Regulation(consumer, others, self.inboxes, {"one": others}, others, others, None, 100)
        self.failures: list[Exception] = []
        self.positions = Positions(consumer, self.inboxes)
        snapshots: Any = memories
        read_back: Any = self.logs
        self.tenure = Tenure(
            consumer,
            read_back,
            self.positions,
            others,
            others,
            others,
            {},
            snapshots,
            self.inboxes,
            self.regulation,
            self.failures.append,
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


async def test_an_inbox_is_read_once_what_its_agent_remembers_is_at_hand_and_no_other_waits_for_it() -> None:
    memories = Memories()
    bench = Bench(memories)
    await bench.group.deals(FIRST, SECOND)
    assert bench.tenure.is_assigned
    assert bench.group.paused == bench.regulation.arriving == {FIRST, SECOND}
    await memories.give()
    assert bench.regulation.arriving == {SECOND}
    assert bench.host.adopted == [("of 0", "a state")]
    await bench.revoked(FIRST, SECOND)
    await bench.group.deals(FIRST, SECOND, THIRD)
    assert bench.group.paused == {SECOND, THIRD}, "what comes back is as it was: one of them is still on its way"
    await memories.give()
    await memories.give()
    assert bench.regulation.arriving == set()
    assert memories.asked == [FIRST, SECOND, THIRD]
    assert bench.failures == []


async def test_what_is_remembered_before_its_pause_has_begun_is_read_all_the_same() -> None:
    """The callback is told what to pause in one thread while the memory comes to hand in another."""
    memories = Memories()
    bench = Bench(memories)
    await bench.group.deals(FIRST)
    await memories.give()
    assert (bench.group.paused, bench.regulation.arriving) == ({FIRST}, set())
    await bench.regulation.regulate()
    assert bench.group.paused == set()


@pytest.mark.parametrize(("committed", "begins"), [(5, 5), (NO_OFFSET, FROM_THE_FIRST)])
async def test_of_what_is_paused_at_first_the_client_is_told_where_it_begins(committed: int, begins: int) -> None:
    """Paused while it asks for that, librdkafka may never know."""
    bench = Bench(Memories())
    bench.group.offset = committed
    assert await bench.group.deals(FIRST) == {FIRST: begins}
    assert bench.group.paused == {FIRST}
    bench.tenure.close()


async def test_inboxes_of_agents_that_remember_nothing_are_read_at_once() -> None:
    bench = Bench(Memories("another"))
    await bench.group.deals(FIRST)
    assert bench.group.paused == bench.regulation.arriving == set()


async def test_nothing_is_remembered_of_an_inbox_that_went_meanwhile() -> None:
    memories = Memories()
    bench = Bench(memories)
    await bench.group.deals(FIRST)
    await bench.revoked(FIRST)
    await bench.group.deals(SECOND)
    assert bench.regulation.arriving == {SECOND}
    await memories.give()
    assert bench.host.adopted == []
    await bench.revoked(SECOND)
    await bench.group.deals(FIRST)
    assert bench.group.paused == {FIRST}, "as another tenure of it, which has to read anew"
    bench.tenure.close()


async def test_what_cannot_be_remembered_ends_the_host() -> None:
    memories = Memories()
    memories.error = RuntimeError("no broker")
    bench = Bench(memories)
    await bench.group.deals(FIRST)
    await memories.give()
    assert bench.failures == [memories.error]
    assert bench.regulation.arriving == {FIRST}
