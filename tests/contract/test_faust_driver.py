"""The Faust driver against the real broker: nothing skipped, nothing twice, nothing silent."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Self

import pytest

from schemas.topics import TopicSpec
from streams.transport import faust_sources
from streams.transport.admin import ensure_topics
from streams.transport.batch import Batch, TopicPartition
from streams.transport.clients import CommitRejectedError, TransportError, client_config
from streams.transport.consumer import BatchConsumer
from streams.transport.faust_driver import BatchSchema, Driver, DriverOptions, driver_of, make_app, run_app
from streams.transport.producer import Producer
from streams.transport.requests import NO_OFFSET
from tests.support.waiting import PATIENCE, deadline_in

pytestmark = pytest.mark.broker

PARTITIONS = 2
ROWS = 600
HANG_S = 600.0


@pytest.fixture(params=["packs", "messages"], autouse=True)
def source(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where records come from: fetched by ourselves, or librdkafka's, for who wants of it what only it does."""
    if request.param == "messages":
        monkeypatch.setattr(faust_sources, "can_fetch", lambda *_: False)
    return str(request.param)


@dataclass(frozen=True)
class Settings:
    broker: str
    kafka: dict[str, str] = field(default_factory=dict)


class Deployment:
    """Three topics, two of one channel, and a producer to them. Each value is its record's number in its partition."""

    def __init__(self, broker: str, prefix: str) -> None:
        self.settings, self.prefix = Settings(broker), prefix
        self.anchor, *mirrors = (f"{prefix}{name}" for name in ("tasks", "votes-a", "votes-b"))
        self.mirrors = tuple(mirrors)
        ensure_topics(self.settings, [TopicSpec(t, None, PARTITIONS, "delete", 3_600_000) for t in self.topics])
        self.producer = Producer(client_config(self.settings, None, "producer"))
        self.sent = 0
        self.running: list[Member] = []

    @property
    def topics(self) -> tuple[str, ...]:
        return (self.anchor, *self.mirrors)

    @property
    def tps(self) -> list[TopicPartition]:
        return [TopicPartition(topic, p) for topic in self.topics for p in range(PARTITIONS)]

    @property
    def rows(self) -> int:
        return self.sent * len(self.tps)

    @property
    def everything(self) -> dict[TopicPartition, list[int]]:
        return {tp: list(range(self.sent)) for tp in self.tps}

    def send(self, rows: int = ROWS) -> None:
        for topic, partition in self.tps:
            self.producer.send(topic, partition, [str(i).encode() for i in range(self.sent, self.sent + rows)])
        self.producer.flush(20)
        self.sent += rows


def rows_of(batch: Batch) -> Iterator[tuple[str, int, int]]:
    for topic, partition, value in zip(batch.topics, batch.partitions.tolist(), batch.values, strict=True):
        assert value is not None
        yield topic, partition, int(value)


class Member:
    """A program on the driver, its own hooks: remembers what it read, and commits it when partitions go."""

    def __init__(self, deployment: Deployment, name: str = "one", **options: Any) -> None:
        self.deployment, self.name = deployment, name
        config = client_config(deployment.settings, None, "consumer", group=f"{deployment.prefix}group", reset="error")
        self.read: dict[TopicPartition, list[int]] = {}
        self.cut: dict[tuple[str, int], int] = {}
        self.batches: list[Batch] = []
        self.calls: list[tuple[str, list[int]]] = []
        self.stop = asyncio.Event()
        self.app = make_app(
            f"{deployment.prefix}app",
            DriverOptions(
                config={**config, **options.pop("config", {})},
                anchor=deployment.anchor,
                mirrors=deployment.mirrors,
                channel_of=lambda topic: topic.removeprefix(deployment.prefix).split("-")[0],
                hooks=self,
                **{"rows_max": 500, "bytes_max": 1 << 20, "poll_s": 0.05, "turn_share": 0.6, **options},
            ),
        )
        for channel, topics in (("tasks", (deployment.anchor,)), ("votes", deployment.mirrors)):
            self.app.agent(self.app.topic(*topics, schema=BatchSchema()), name=channel)(self._process)
        self.running: asyncio.Task[None]

    @property
    def driver(self) -> Driver:
        return driver_of(self.app)

    @property
    def rows(self) -> int:
        return sum(map(len, self.read.values()))

    def start(self) -> Self:
        self.deployment.running.append(self)
        self.running = asyncio.create_task(run_app(self.app, self.stop))
        return self

    async def end(self) -> float:
        """Seconds that it took to stop."""
        began = time.monotonic()
        self.stop.set()
        await self.running
        return time.monotonic() - began

    async def failure(self) -> BaseException:
        await asyncio.wait({self.running}, timeout=PATIENCE * 15)
        error = self.running.exception()
        assert error is not None
        return error

    async def until(self, holds: Callable[[], bool], within_s: float = 15.0) -> None:
        deadline = deadline_in(within_s)
        while not holds():
            if self.running.done():
                self.running.result()
                raise AssertionError("it ended")
            assert time.monotonic() < deadline, f"{self.calls} {self.rows}"
            await asyncio.sleep(0.01)

    async def until_called(self, hook: str) -> None:
        await self.until(lambda: self.calls[-1:] != [] and self.calls[-1][0] == hook)

    async def on_assigned(self, partitions: list[int]) -> Mapping[tuple[str, int], int]:
        self.calls.append(("assigned", partitions))
        tps = [tp for tp in self.deployment.tps if tp.partition in partitions]
        self.cut = {tp: max(offset, 0) for tp, (offset, _) in (await self.driver.committed(tps)).items()}
        return dict(self.cut)

    async def on_revoked(self, partitions: list[int]) -> None:
        self.calls.append(("revoked", partitions))
        await self.commit()

    async def on_lost(self, partitions: list[int]) -> None:
        self.calls.append(("lost", partitions))

    async def commit(self) -> None:
        await self.driver.commit({tp: (position, "") for tp, position in self.cut.items()})

    async def _process(self, batches: Any) -> None:
        async for batch in batches:
            await self.take(batch)

    async def take(self, batch: Batch) -> None:
        self.batches.append(batch)
        self.cut.update({(topic, partition): end + 1 for (topic, partition), end in batch.ends.items()})
        for topic, partition, value in rows_of(batch):
            self.read.setdefault(TopicPartition(topic, partition), []).append(value)


@pytest.fixture
async def deployment(broker: str, prefix: str) -> AsyncIterator[Deployment]:
    deployment = Deployment(broker, prefix)
    yield deployment
    for member in deployment.running:
        member.stop.set()
        await asyncio.wait({member.running}, timeout=PATIENCE * 10)
    deployment.producer.close()


@pytest.mark.parametrize("rows_max", [ROWS - 100, 6 * ROWS])
async def test_every_record_comes_once_and_in_order(deployment: Deployment, rows_max: int) -> None:
    deployment.send()
    member = Member(deployment, rows_max=rows_max).start()
    await member.until(lambda: member.rows >= deployment.rows)
    deployment.send()
    await member.until(lambda: member.rows >= deployment.rows)
    await member.end()
    assert member.read == deployment.everything
    assert {b.channel for b in member.batches} == {"tasks", "votes"}
    assert any(len(set(b.topics)) == 2 for b in member.batches) or rows_max < ROWS
    assert max(map(len, member.batches)) <= rows_max
    assert member.calls == [("assigned", [0, 1]), ("revoked", [0, 1])]


async def test_it_reads_from_the_positions_it_is_given(deployment: Deployment) -> None:
    deployment.send()
    positions: dict[tuple[str, int], int] = {tp: (0, 17, ROWS)[i % 3] for i, tp in enumerate(deployment.tps)}

    class Placed(Member):
        async def on_assigned(self, partitions: list[int]) -> Mapping[tuple[str, int], int]:
            return {tp: at for tp, at in positions.items() if tp[1] in partitions}

    member = Placed(deployment).start()
    await member.until(lambda: member.rows >= deployment.rows - sum(positions.values()))
    deployment.send(5)
    await member.until(lambda: member.rows >= deployment.rows - sum(positions.values()))
    await member.end()
    assert member.read == {tp: list(range(at, ROWS + 5)) for tp, at in positions.items()}


async def test_commits_carry_metadata_and_are_refused_where_nothing_is_owned(deployment: Deployment) -> None:
    class Asking(Member):
        committed: Mapping[TopicPartition, tuple[int, str]] | None = None

        async def on_assigned(self, partitions: list[int]) -> Mapping[tuple[str, int], int]:
            self.committed = await self.driver.committed(deployment.tps)
            return await super().on_assigned(partitions)

        async def on_revoked(self, partitions: list[int]) -> None:
            await self.driver.commit({(deployment.anchor, max(partitions)): (9, "last")})

    deployment.send()
    first = Asking(deployment).start()
    await first.until(lambda: first.committed is not None)
    assert first.committed == dict.fromkeys(deployment.tps, (NO_OFFSET, ""))
    await first.driver.commit({(deployment.anchor, 0): (7, '{"low": 1}')})
    await first.driver.commit({(deployment.anchor, 0): (7, '{"low": 2}')})
    for foreign in ((deployment.anchor, PARTITIONS), ("another", 0)):
        with pytest.raises(CommitRejectedError):
            await first.driver.commit({(deployment.anchor, 0): (8, ""), foreign: (1, "")})
    await first.end()
    with pytest.raises(TransportError):
        await first.driver.commit({(deployment.anchor, 0): (10, "")})
    second = Asking(deployment).start()
    await second.until(lambda: second.committed is not None)
    assert second.committed is not None
    assert second.committed[TopicPartition(deployment.anchor, 0)] == (7, '{"low": 2}')
    assert second.committed[TopicPartition(deployment.anchor, 1)] == (9, "last")
    await second.end()


async def test_what_is_paused_waits_and_stays_paused_through_an_assignment(deployment: Deployment) -> None:
    deployment.send()
    kept = [TopicPartition(deployment.anchor, 0), TopicPartition(deployment.mirrors[0], 1)]

    class Pausing(Member):
        async def on_assigned(self, partitions: list[int]) -> Mapping[tuple[str, int], int]:
            if not self.calls:
                self.driver.pause(kept)
            return await super().on_assigned(partitions)

    member = Pausing(deployment).start()
    await member.until(lambda: member.rows >= deployment.rows - 2 * ROWS)
    guest = Member(deployment, "guest").start()
    await guest.until_called("assigned")
    await guest.end()
    await member.until(lambda: member.calls[-1] == ("assigned", [0, 1]) and len(member.calls) > 3)
    deployment.send()
    flowing = [tp for tp in deployment.tps if tp not in kept]
    await member.until(lambda: all(len(member.read[tp]) + len(guest.read.get(tp, ())) >= 2 * ROWS for tp in flowing))
    assert not member.read.keys() & set(kept)
    member.driver.resume(kept[:1])
    await member.until(lambda: len(member.read.get(kept[0], ())) + len(guest.read.get(kept[0], ())) >= 2 * ROWS)
    member.driver.pause(kept[:1])
    await member.driver.committed(kept)  # the poll that was under way is over by then
    deployment.send()
    await member.until(lambda: all(member.read[tp][-1] == 3 * ROWS - 1 for tp in flowing))
    assert member.read[kept[0]][-1] == 2 * ROWS - 1
    member.driver.resume(kept)
    await member.until(lambda: member.rows + guest.rows >= deployment.rows)
    await member.end()
    joined = {tp: sorted(member.read.get(tp, []) + guest.read.get(tp, [])) for tp in deployment.tps}
    assert joined == deployment.everything


class Gated(Member):
    """Its processors take nothing while the gate is shut."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.gate = asyncio.Event()
        self.taken = 0

    async def take(self, batch: Batch) -> None:
        self.taken += 1
        await self.gate.wait()
        await super().take(batch)


def _early(member: Member) -> int:
    """What librdkafka's messages brought while there was no room; of record batches none is asked for then."""
    return len(getattr(member.driver._started()._source, "_early", ()))


async def test_a_stuck_processor_holds_reading_back_and_nothing_is_lost(deployment: Deployment) -> None:
    deployment.send(3000)
    # Far beyond the poll interval: who did not poll would be thrown out of the group.
    timing = {"max.poll.interval.ms": 2000, "session.timeout.ms": 2000, "heartbeat.interval.ms": 300}
    member = Gated(deployment, rows_max=50, config=timing).start()
    await member.until(lambda: member.taken > 0)
    await asyncio.sleep(3)
    assert member.taken <= 2
    assert member.calls == [("assigned", [0, 1])]
    assert _early(member) < 50
    # Per channel one at work and a few before it; and those of the hand-over.
    behind = sum(agent.channel_iterator.queue.qsize() for agent in member.app.agents.values())
    assert behind + len(member.driver._started().handover) < 12
    member.gate.set()
    await member.until(lambda: member.rows >= deployment.rows)
    await member.end()
    assert member.read == deployment.everything
    assert member.calls == [("assigned", [0, 1]), ("revoked", [0, 1])]


async def test_a_rebalance_is_served_while_a_processor_is_stuck_and_batches_that_waited_never_come(
    deployment: Deployment,
) -> None:
    class Opening(Gated):
        begun, done = 0, 0

        async def on_revoked(self, partitions: list[int]) -> None:
            if not self.gate.is_set():
                self.begun = self.taken
                self.gate.set()
                await asyncio.sleep(0.3)  # time for what was begun, and for what must not begin any more
                self.done = len(self.batches)  # not later: it soon reads again, with the guest
            await super().on_revoked(partitions)

    deployment.send(3000)
    member = Opening(deployment, rows_max=50).start()
    await member.until(lambda: member.taken > 0)
    guest = Member(deployment, "guest").start()
    await guest.until_called("assigned")
    assert member.calls[1] == ("revoked", [0, 1])
    assert member.begun > 0
    assert member.done == member.begun
    await member.until(lambda: member.rows + guest.rows >= deployment.rows)
    await guest.end()
    await member.end()
    joined = {tp: sorted(member.read.get(tp, []) + guest.read.get(tp, [])) for tp in deployment.tps}
    assert joined == deployment.everything


class Slow(Member):
    async def on_revoked(self, partitions: list[int]) -> None:
        self.calls.append(("revoking", partitions))
        await asyncio.sleep(1.0)
        await super().on_revoked(partitions)


async def test_the_group_waits_for_the_last_turn(deployment: Deployment) -> None:
    seen: list[list[str]] = []

    class Looking(Member):
        async def on_assigned(self, partitions: list[int]) -> Mapping[tuple[str, int], int]:
            seen.append([hook for hook, _ in first.calls])
            return await super().on_assigned(partitions)

    deployment.send()
    first = Slow(deployment).start()
    await first.until(lambda: first.rows >= deployment.rows)
    second = Looking(deployment, "second").start()
    await second.until_called("assigned")
    assert seen[0][:3] == ["assigned", "revoking", "revoked"]
    await first.until_called("assigned")
    await second.end()
    await first.end()
    assert second.read == {}  # the cut of the last turn was there when it asked
    assert first.read == deployment.everything


class OnItsOwn(threading.Thread):
    """A member on an event loop of its own; notes in the shared `log` what it takes, gives back and reads."""

    def __init__(self, deployment: Deployment, name: str, log: list[tuple[str, str, Any]]) -> None:
        super().__init__(name=name, daemon=True)
        self.deployment, self.log = deployment, log
        self.error: BaseException | None = None
        self.ready = threading.Event()
        self.start()
        assert self.ready.wait(PATIENCE * 20)

    def run(self) -> None:
        try:
            asyncio.run(self._run())
        except BaseException as error:  # noqa: BLE001 - shown by the test
            self.error = error

    async def _run(self) -> None:
        name, log, ready = self.name, self.log, self.ready

        class Noting(Member):
            async def on_assigned(self, partitions: list[int]) -> Mapping[tuple[str, int], int]:
                log.append((name, "takes", list(partitions)))
                positions = await super().on_assigned(partitions)
                ready.set()
                return positions

            async def on_revoked(self, partitions: list[int]) -> None:
                await super().on_revoked(partitions)
                log.append((name, "gives", list(partitions)))

            async def on_lost(self, partitions: list[int]) -> None:
                log.append((name, "gives", list(partitions)))

            async def take(self, batch: Batch) -> None:
                log.append((name, "reads", batch))
                await super().take(batch)

        self.loop = asyncio.get_running_loop()
        self.member = Noting(self.deployment, name, rows_max=200)
        await run_app(self.member.app, self.member.stop)

    def end(self) -> None:
        self.loop.call_soon_threadsafe(self.member.stop.set)
        self.join(10)
        assert not self.is_alive()
        if self.error is not None:
            raise self.error


def test_partitions_have_one_owner_at_a_time_and_nothing_is_skipped(deployment: Deployment) -> None:
    log: list[tuple[str, str, Any]] = []
    done = threading.Event()

    def flow() -> None:
        while not done.wait(0.02):
            deployment.send(20)

    flowing = threading.Thread(target=flow)
    flowing.start()
    try:
        names = (f"m{i}" for i in count())
        first = OnItsOwn(deployment, next(names), log)
        for _ in range(2):
            second = OnItsOwn(deployment, next(names), log)
            time.sleep(0.5)
            first.end()
            first = OnItsOwn(deployment, next(names), log)
            time.sleep(0.5)
            second.end()
    finally:
        done.set()
        flowing.join()
    deadline = deadline_in(15)
    while sum(len(batch) for _, what, batch in log if what == "reads") < deployment.rows:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    first.end()

    owners: dict[int, str] = {}
    read: dict[TopicPartition, list[int]] = {tp: [] for tp in deployment.tps}
    for name, what, subject in log:
        if what == "takes":
            assert not owners.keys() & set(subject), f"{name} takes {subject} while {owners}"
            owners.update(dict.fromkeys(subject, name))
        elif what == "gives":
            assert {owners.pop(partition) for partition in subject} == {name}
        else:
            for topic, partition, value in zip(
                subject.topics, subject.partitions.tolist(), subject.values, strict=True
            ):
                assert owners[partition] == name
                read[TopicPartition(topic, partition)].append(int(value))
    assert read == deployment.everything
    assert len({name for name, what, _ in log if what == "reads"}) == 5


class Failing(Member):
    """Fails in the hook, or in the processor, that it is told to."""

    where = ""

    async def on_assigned(self, partitions: list[int]) -> Mapping[tuple[str, int], int]:
        positions = dict(await super().on_assigned(partitions))
        if self.where == "on_assigned":
            raise ZeroDivisionError(self.where)
        if self.where == "positions":
            positions.pop((self.deployment.mirrors[1], 1))
        if self.where == "offset":
            positions[self.deployment.anchor, 0] = 1_000_000
        return positions

    async def on_revoked(self, partitions: list[int]) -> None:
        if self.where == "on_revoked":
            raise ZeroDivisionError(self.where)
        await super().on_revoked(partitions)

    async def take(self, batch: Batch) -> None:
        if self.where == "processor":
            raise ZeroDivisionError(self.where)
        await super().take(batch)


@pytest.mark.parametrize("where", ["on_assigned", "processor"])
async def test_a_failure_ends_the_app_loudly_and_commits_nothing(deployment: Deployment, where: str) -> None:
    deployment.send(10)
    member = Failing(deployment)
    member.where = where
    error = await member.start().failure()
    assert isinstance(error, ZeroDivisionError)
    assert [hook for hook, _ in member.calls] == ["assigned"]


async def test_a_failing_last_turn_ends_the_app_at_a_rebalance_and_at_the_stop(deployment: Deployment) -> None:
    deployment.send()
    member = Failing(deployment)
    member.where = "on_revoked"
    member.start()
    await member.until(lambda: member.rows > 0)
    other = Failing(deployment, "other")
    other.where = "on_revoked"
    other.start()
    assert isinstance(await member.failure(), ZeroDivisionError)
    await other.until(lambda: other.rows > 0)
    other.stop.set()
    assert isinstance(await other.failure(), ZeroDivisionError)


async def test_positions_that_are_missing_or_gone_end_the_app(deployment: Deployment) -> None:
    for where, said in (("positions", "no position"), ("offset", "cannot go on")):
        member = Failing(deployment)
        member.where = where
        error = await member.start().failure()
        assert isinstance(error, TransportError)
        assert said in str(error)


async def test_topics_without_a_processor_end_the_app(deployment: Deployment) -> None:
    member = Member(deployment)
    del member.app.agents["votes"]
    error = await member.start().failure()
    assert isinstance(error, TransportError)
    assert deployment.mirrors[0] in str(error)


async def test_a_strategy_that_cannot_give_all_partitions_back_at_once_ends_the_app(deployment: Deployment) -> None:
    member = Member(deployment, config={"partition.assignment.strategy": "cooperative-sticky"}).start()
    error = await member.failure()
    assert isinstance(error, TransportError)


class Hanging(Member):
    """Hangs in the hook that it is told to; stubbornly: even when cancelled."""

    where, is_stubborn, is_hanging = "", False, False

    async def hang(self, hook: str) -> None:
        while self.where == hook:
            self.is_hanging = True
            try:
                await asyncio.sleep(HANG_S)
            except asyncio.CancelledError:
                self.calls.append(("cancelled", []))
                if not self.is_stubborn:
                    raise

    async def on_assigned(self, partitions: list[int]) -> Mapping[tuple[str, int], int]:
        positions = await super().on_assigned(partitions)
        await self.hang("on_assigned")
        return positions

    async def on_revoked(self, partitions: list[int]) -> None:
        await super().on_revoked(partitions)
        await self.hang("on_revoked")


@pytest.mark.parametrize("is_stubborn", [False, True])
@pytest.mark.parametrize("where", ["on_assigned", "on_revoked"])
async def test_a_stop_is_bounded_while_a_hook_hangs(deployment: Deployment, where: str, is_stubborn: bool) -> None:
    member = Hanging(deployment)
    member.where, member.is_stubborn = where, is_stubborn
    deployment.send()
    member.start()
    await member.until(lambda: member.is_hanging or member.rows > 0)
    began = time.monotonic()
    member.stop.set()
    await asyncio.wait({member.running}, timeout=PATIENCE * 10)
    assert time.monotonic() - began < PATIENCE * 4.5
    expected = [("assigned", [0, 1])] + ([("revoked", [0, 1])] if where == "on_revoked" else [])
    assert member.calls[: len(expected) + 1] == [*expected, ("cancelled", [])]
    if not is_stubborn:
        member.running.result()
        assert member.calls[len(expected) + 1 :] == ([("lost", [0, 1])] if where == "on_revoked" else [])
    else:
        member.running.exception()  # heard here, so that nobody complains after the last test
    member.where = ""
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()  # lets a stubborn one go


async def test_a_recovery_is_cancelled_when_its_partitions_go(deployment: Deployment) -> None:
    deployment.send()
    member = Hanging(deployment)
    member.where = "on_assigned"
    member.start()
    await member.until(lambda: member.is_hanging)
    member.where = ""  # the next recovery goes through
    other = Member(deployment, "other").start()
    await other.until_called("assigned")
    await member.until(lambda: len(member.calls) == 3)
    assert [hook for hook, _ in member.calls] == ["assigned", "cancelled", "assigned"]
    await member.until(lambda: member.rows + other.rows >= deployment.rows)
    await other.end()
    await member.end()
    assert {**member.read, **other.read} == deployment.everything


async def test_partitions_that_are_lost_are_told_apart_and_cannot_be_committed(deployment: Deployment) -> None:
    class Losing(Member):
        refused = False

        async def on_lost(self, partitions: list[int]) -> None:
            await super().on_lost(partitions)
            try:
                await self.commit()
            except CommitRejectedError:
                self.refused = True

    deployment.send()
    timing = {"max.poll.interval.ms": 2000, "session.timeout.ms": 2000, "heartbeat.interval.ms": 300}
    member = Losing(deployment, config=timing).start()
    await member.until(lambda: member.rows >= deployment.rows)
    await member.commit()
    member.driver._started().ask(lambda _: time.sleep(3))  # the reader cannot poll meanwhile
    await member.until(lambda: len(member.calls) == 3)
    assert [hook for hook, _ in member.calls] == ["assigned", "lost", "assigned"]
    assert member.refused
    deployment.send()
    await member.until(lambda: member.rows >= deployment.rows)
    await member.end()
    assert member.read == deployment.everything


async def test_more_members_than_partitions(deployment: Deployment) -> None:
    members = [Member(deployment, f"m{i}").start() for i in range(PARTITIONS + 1)]
    for member in members:
        await member.until(lambda: sorted(m.calls[-1][1] for m in members if m.calls) == [[], [0], [1]])
    deployment.send()
    await members[0].until(lambda: sum(m.rows for m in members) >= deployment.rows)
    for member in members:
        await member.end()
        assert ("revoked", []) not in member.calls
    assert sum(m.rows for m in members) == deployment.rows


async def test_faust_makes_nothing_of_its_own(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BROKER_URL", "kafka://127.0.0.1:1")
    monkeypatch.setenv("BROKER_CONSUMER_URL", "kafka://127.0.0.1:1")
    deployment.send()
    caplog.set_level(logging.WARNING)
    member = Member(deployment).start()
    await member.until(lambda: member.rows >= deployment.rows)
    assert await member.end() < 2
    assert [r.getMessage() for r in caplog.records if r.name.startswith(("faust", "mode", "streams"))] == []
    assert os.listdir() == []  # noqa: PTH208 - of the working directory
    config = client_config(deployment.settings, None, "consumer")
    asking = BatchConsumer(config, str, rows_max=1, bytes_max=1, poll_s=0)
    topics = asking._consumer.list_topics(timeout=PATIENCE * 10).topics
    asking.close()
    assert {name for name in topics if name.startswith(deployment.prefix)} == set(deployment.topics)
