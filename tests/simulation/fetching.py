"""The product's own fetches, on virtual connections to the in-memory broker's three nodes (tests.simulation.turns).

A connection answers one request after the other, and a fetch that finds too little waits at its node, as in Kafka's
purgatory. Connections are cut, or hang until nobody waits any more. I/O: none.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from confluent_kafka import KafkaError

from streams.transport.batch import Batch
from streams.transport.fetch_wire import Answer, Fetch
from streams.transport.fetches import Fetches
from streams.transport.packed import Pack
from streams.transport.packed_consumer import GatheringConsumer
from tests.simulation.broker import BrokerError
from tests.simulation.record_batches import RecordBatches
from tests.simulation.turns import Nodes, Serving, Wires
from tests.simulation.wire import Cluster, Message
from tests.simulation.world import current

PATIENCE_S = 1.2
"""How long an answer is waited for, a fetch's own wait in it; the real 15 s would only make the runs long."""

CUT_MAX_S = 0.3
"""How soon a connection is cut on which a request goes: on its way, while it waits at its node, or when it is over."""

REPLICA_ANY = -1


class Room(NamedTuple):
    """Bytes that an answer has room for, by the names that the limits have in streams.transport.fetches."""

    FETCH_BYTES_MAX: int
    PARTITION_BYTES_MAX: int


class Disk:
    """The record batches of a cluster's logs."""

    def __init__(self, cluster: Cluster) -> None:
        self._broker = cluster.broker
        self._logs: dict[tuple[str, int], RecordBatches] = {}

    def log(self, topic: str, number: int) -> RecordBatches:
        found, partition = self._logs.get((topic, number)), self._broker.partition(topic, number)
        if found is None or found.partition is not partition:
            has_append_time = self._broker.configs[topic].get("message.timestamp.type") == "LogAppendTime"
            found = self._logs[topic, number] = RecordBatches(partition, has_append_time=has_append_time)
        return found


class Line:
    """One connection: its node takes what comes on it one by one."""

    def __init__(self) -> None:
        self.is_over = False
        self.there_at = 0.0
        self.answers: list[asyncio.Future[Any]] = []
        self._queue: deque[Callable[[], None]] = deque()

    def take(self, serve: Callable[[], None]) -> None:
        if not self.is_over:
            self._queue.append(serve)
            if len(self._queue) == 1:
                serve()

    def answered(self) -> None:
        self._queue.popleft()
        if self._queue and not self.is_over:
            self._queue[0]()


class Asked(Serving):
    """A request at its node. An answer that is lost leaves the connection hanging."""

    def __init__(self, disk: Disk, line: Line, may_lose: Callable[[], bool], *given: Any) -> None:
        super().__init__(*given)
        self._disk, self._line, self._may_lose = disk, line, may_lose
        self._until, self._is_done = 0.0, False

    def __call__(self) -> None:
        if not isinstance(self._request, Fetch):
            super().__call__()
        elif self._cluster.broker.is_up:
            world, tps = self._cluster.world, [(t, number) for t, own in self._request._topics for number, *_ in own]
            self._nodes.may_move(world.rng.choice(tps))
            wait_s = self._request._max_wait_ms / 1000
            self._until = world.now + wait_s
            self._look()
            if not self._is_done:
                world.at(wait_s, self._look)

    def _look(self) -> None:
        """Answers, where there is enough, or something is wrong, or the time is over; else more may come."""
        if self._is_done or self._line.is_over or not self._cluster.broker.is_up:
            return
        found, size, has_error = self._found()
        if has_error or size >= self._request._min_bytes or self._cluster.world.now >= self._until:
            self._is_done = True
            self._answer(Answer(found))
            return
        for topic, partitions in self._request._topics:
            for number, *_ in partitions:
                waiting = self._cluster.broker.partition(topic, number).waiting
                if self._look not in waiting:
                    waiting.append(self._look)

    def _found(self) -> tuple[list[tuple[str, list[tuple[Any, ...]]]], int, bool]:
        """What there is, how many bytes of record batches that is, and whether something is wrong."""
        found, size, has_error = [], 0, False
        for topic, partitions in self._request._topics:
            parts = []
            for number, position, bytes_max in partitions:
                left = self._request._max_bytes - size
                part = self._part(topic, number, position, min(bytes_max, left), is_first=not size)
                parts.append(part)
                size, has_error = size + len(part[-1]), has_error or bool(part[1])
            found.append((topic, parts))
        return found, size, has_error

    def _part(self, topic: str, number: int, position: int, bytes_max: int, *, is_first: bool) -> tuple[Any, ...]:
        code, nothing = 0, (-1, -1, -1, (), REPLICA_ANY, b"")
        if self._nodes.leader((topic, number)) != self._node:
            return number, int(KafkaError.NOT_LEADER_FOR_PARTITION), *nothing
        try:
            partition = self._cluster.broker.partition(topic, number)
        except BrokerError as error:
            return number, error.code, *nothing
        if not partition.start <= position <= partition.end:
            return number, int(KafkaError.OFFSET_OUT_OF_RANGE), *nothing
        stable, log = partition.stable_end, self._disk.log(topic, number)
        data = log.read(position, stable, bytes_max, at_least_one=is_first)
        ends = partition.end, stable, partition.start
        return number, code, *ends, log.aborted(position, stable), REPLICA_ANY, data

    def _answer(self, found: Any) -> None:
        if self._line.is_over or self._may_lose():
            return
        self._process.later(self._cluster.delay_s(), partial(self._answered, found))
        self._line.answered()


class Lines(Wires):
    """In the place of `streams.transport.brokers.Brokers`, where what is fetched is asked for."""

    def __init__(self, nodes: Nodes, disk: Disk, *given: Any) -> None:
        super().__init__(nodes, *given)
        self._disk = disk
        self._lines: dict[int, Line] = {}
        self._loop: asyncio.AbstractEventLoop
        self._has_lost = False
        self._cluster.broker.on_change.append(self._changed)

    async def send(self, node: int, request: Any) -> Any:
        """As `Wires.send`."""
        cluster, world = self._cluster, self._cluster.world
        self._loop = asyncio.get_running_loop()
        if not cluster.broker.is_up:
            await asyncio.sleep(cluster.delay_s())
            raise OSError("connection refused")
        line = self._lines.setdefault(node, Line())
        answer = self._loop.create_future()
        line.answers = [*(each for each in line.answers if not each.done()), answer]
        told = partial(self._tell, answer)
        serve = Asked(self._disk, line, self._may_lose, self._nodes, self._process, node, request, told)
        line.there_at = max(world.now + cluster.delay_s(), line.there_at)
        world.at(line.there_at - world.now, partial(line.take, serve))
        if cluster.weather.cut_share and world.rng.random() < cluster.weather.cut_share:
            self._process.later(world.rng.uniform(0.0, CUT_MAX_S), partial(self._cut, line))
        try:
            return await asyncio.wait_for(answer, PATIENCE_S)
        except TimeoutError:
            line.is_over = True
            raise
        finally:
            if line.is_over and self._lines.get(node) is line:
                del self._lines[node]

    def hang_up(self, node: int) -> None:
        if (line := self._lines.pop(node, None)) is not None:
            line.is_over = True

    def close(self) -> None:
        for node in list(self._lines):
            self.hang_up(node)
        self._cluster.broker.on_change.remove(self._changed)

    def _changed(self) -> None:
        if not self._cluster.broker.is_up:
            for line in self._lines.values():
                self._process.later(self._cluster.delay_s(), partial(self._cut, line))

    def _cut(self, line: Line) -> None:
        if not line.is_over:
            line.is_over = True
            self._lines = {node: each for node, each in self._lines.items() if each is not line}
            for answer in line.answers:
                self._tell(answer, OSError("connection reset"))

    def _tell(self, answer: asyncio.Future[Any], found: Any) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(_settle, answer, found)

    def _may_lose(self) -> bool:
        """Never two in a row: else nothing could be said of how soon what stands in the log is read."""
        self._has_lost = not self._has_lost and self._cluster.loses_answer()
        return self._has_lost


def _settle(answer: asyncio.Future[Any], found: Any) -> None:
    if answer.done():
        return
    if isinstance(found, OSError):
        answer.set_exception(found)
    else:
        answer.set_result(found)


class Fetched(Fetches):
    """The real ones. Around their waits a process may be killed or stopped."""

    def __init__(self, cluster: Cluster, *given: Any, **named: Any) -> None:
        self._process = current() or cluster.outside
        super().__init__(*given, **named)

    def wait(self, timeout_s: float, *, at_once: bool = False) -> list[Pack]:
        self._process.point("poll")
        found = super().wait(timeout_s, at_once=at_once)
        self._process.point("polled")
        return found


class Member(GatheringConsumer):
    """The real one. What it gives its process is noted."""

    def __init__(self, cluster: Cluster, *given: Any) -> None:
        self._cluster, self._process = cluster, current() or cluster.outside
        super().__init__(*given)

    def poll(self) -> list[Batch]:
        found = super().poll()
        if found and self._cluster.on_read is not None:
            self._cluster.on_read(self._process, _messages(found))
        return found


def _messages(batches: Sequence[Batch]) -> list[Message]:
    return [
        Message(topic, number, offset)
        for batch in batches
        for topic, number, offset in zip(batch.topics, batch.partitions.tolist(), batch.offsets.tolist(), strict=True)
    ]


def places(nodes: Nodes) -> list[tuple[str, Any]]:
    """What stands in where record batches are fetched."""
    cluster = nodes.cluster
    fetched: Mapping[str, Any] = {
        "streams.transport.fetches.Brokers": partial(Lines, nodes, Disk(cluster)),
        "streams.transport.faust_sources.Fetches": partial(Fetched, cluster),
        "streams.transport.packed_consumer.Fetches": partial(Fetched, cluster),
        "agents.process.GatheringConsumer": partial(Member, cluster),
    }
    return list(fetched.items())
