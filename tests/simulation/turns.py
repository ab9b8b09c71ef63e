"""The product's own producer of turns, parcels and sender and all, on virtual connections to the in-memory broker.

Here the broker is three nodes over one log: each topic-partition has a leader among them, which moves. Requests and
answers are delayed, lost and cut; what was cut off may arrive all the same, behind what was sent again. I/O: none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.record.default_records import DefaultRecordBatch
from confluent_kafka import KafkaError

from schemas.errors import DeliveryError
from streams.transport.batch import TopicPartition
from streams.transport.producer import IN_FLIGHT_S
from streams.transport.turn_producer import TurnProducer
from tests.simulation.broker import BrokerError
from tests.simulation.log import Headers, ProducerId, Record
from tests.simulation.wire import Cluster
from tests.simulation.world import Process, current

ROWS_MAX = 8
"""Of a parcel: few, so that a turn's output is several of them."""

ANSWER_S = 0.6
"""How long an answer is waited for; the real 15 s would only make the runs long."""

CUT_LATE_S = 2.0
"""How late what was cut off may still arrive: while it is sent again, or after it has been given up."""

ARRIVES_SHARE = 0.7
"""How much of what was cut off arrives."""

NODES = (1, 2, 3)
TAG = "handed over"

Tp = tuple[str, int]


class Handed:
    """What was handed over in one call. `purged_at`: since when its sender gives up what is not delivered."""

    __slots__ = ("is_given_up", "is_zombie", "purged_at")

    def __init__(self, is_zombie: bool) -> None:
        self.is_zombie, self.is_given_up = is_zombie, False
        self.purged_at: float | None = None

    def is_one_too_many(self, now: float) -> bool:
        """As `Pending.copy` of tests.simulation.producer."""
        waited_in_vain = self.purged_at is not None and now - self.purged_at > IN_FLIGHT_S
        return self.is_zombie or (self.is_given_up and waited_in_vain)


class Nodes:
    """Who leads what, in one cluster; and what producers have handed over, by the number that is in its headers."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.handed: list[Handed] = []
        self._leaders: dict[Tp, int] = {}

    def leader(self, tp: Tp) -> int:
        return self._leaders.get(tp, NODES[(sum(tp[0].encode()) + tp[1]) % len(NODES)])

    def may_move(self, tp: Tp) -> None:
        weather, rng = self.cluster.weather, self.cluster.world.rng
        if weather.moves_share and rng.random() < weather.moves_share:
            self._leaders[tp] = rng.choice(NODES)

    def produced(self, process: Process, node: int, tp: Tp, data: bytes) -> int:
        """What the node says of one record batch: an error code of Kafka's."""
        self.may_move(tp)
        if self.leader(tp) != node:
            return int(KafkaError.NOT_LEADER_FOR_PARTITION)
        batch, cluster = DefaultRecordBatch(data), self.cluster
        records = [self._record(process, each) for each in batch]
        cluster.written(process, tp, records)
        producer = ProducerId(batch.producer_id, batch.producer_epoch)
        try:
            cluster.broker.append(tp, records, producer, batch.base_sequence)
        except BrokerError as error:
            return error.code
        process.told("appended")
        return 0

    def _record(self, process: Process, read: Any) -> Record:
        headers: Headers = [each for each in read.headers if each[0] != TAG]
        (number,) = (int(value) for name, value in read.headers if name == TAG)
        is_zombie = self.handed[number].is_one_too_many(self.cluster.world.now)
        return Record(-1, -1, read.key, read.value, headers, writer=process.name, is_zombie=is_zombie)


def _settle(answer: asyncio.Future[Any], found: Any) -> None:
    if not answer.done():
        answer.set_result(found)


class Serving:
    """A request on its way to a node: called when it comes. Its answer may be lost."""

    def __init__(
        self, nodes: Nodes, process: Process, node: int, request: Any, answered: Callable[[Any], None]
    ) -> None:
        self._nodes, self._cluster, self._process = nodes, nodes.cluster, process
        self._node, self._request, self._answered = node, request, answered
        self._said: list[tuple[str, list[tuple[int, int]]]] = []

    def __call__(self) -> None:
        broker = self._cluster.broker
        if not broker.is_up:
            return
        if isinstance(self._request, ProduceRequest):
            self._produce([(topic, *each) for topic, those in self._request._topics for each in those])
        elif isinstance(self._request, MetadataRequest):
            tps = [(name, number) for name, each in broker.topics.items() for number in range(len(each))]
            self._answer({tp: self._nodes.leader(tp) for tp in tps})
        else:
            made = broker.new_producer()
            self._answer(SimpleNamespace(error_code=0, producer_id=made.number, producer_epoch=made.epoch))

    def _produce(self, parts: Sequence[tuple[str, int, bytes]]) -> None:
        """Each part by itself: some may have to wait. The answer is for all of them."""

        def append(topic: str, number: int, data: bytes) -> None:
            if not self._cluster.broker.is_up:
                return
            code = self._nodes.produced(self._process, self._node, (topic, number), data)
            self._said.append((topic, [(number, code)]))
            if len(self._said) == len(parts):
                self._answer(SimpleNamespace(topics=self._said))

        for part in parts:
            late_s = self._cluster.late_s(part[:2])
            if late_s:
                self._cluster.world.at(late_s, lambda part=part: append(*part))  # type: ignore[misc]
            else:
                append(*part)

    def _answer(self, found: Any) -> None:
        if not self._cluster.loses_answer():
            self._process.later(self._cluster.delay_s(), lambda: self._answered(found))


class Wires:
    """In the place of `streams.transport.brokers.Brokers`."""

    def __init__(self, nodes: Nodes, *_: Any) -> None:
        self._nodes, self._cluster, self._process = nodes, nodes.cluster, current() or nodes.cluster.outside
        self._known: dict[Tp, int] = {}
        self.forbidden: frozenset[str] = frozenset()

    def leader(self, tp: TopicPartition) -> int | None:
        return self._known.get((tp.topic, tp.partition))

    def any(self) -> int:
        return self._cluster.world.rng.choice(NODES)

    async def refresh(self, topics: Collection[str]) -> None:
        """Some of what is heard is of before the last move: nodes hear of it one after the other."""
        leaders = await self.send(self.any(), MetadataRequest(sorted(topics)))
        self._known = {tp: node for tp, node in leaders.items() if tp[0] in topics}

    async def send(self, node: int, request: Any) -> Any:
        """Raises OSError where the connection is cut, TimeoutError where no answer comes."""
        cluster, rng = self._cluster, self._cluster.world.rng
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Any] = loop.create_future()

        def answered(found: Any) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(_settle, answer, found)

        if not cluster.broker.is_up:
            await asyncio.sleep(cluster.delay_s())
            raise OSError("connection refused")
        serve = Serving(self._nodes, self._process, node, request, answered)
        if cluster.weather.cut_share and rng.random() < cluster.weather.cut_share:
            if rng.random() < ARRIVES_SHARE:
                cluster.world.at(rng.uniform(0.0, CUT_LATE_S), serve)
            await asyncio.sleep(cluster.delay_s())
            raise OSError("connection reset")
        stuck_s = cluster.stuck_s() if isinstance(request, ProduceRequest) else 0.0
        cluster.world.at(stuck_s + cluster.delay_s(), serve)
        return await asyncio.wait_for(answer, ANSWER_S)

    def close(self) -> None:
        """There is nothing to close."""


class Turns(TurnProducer):
    """The real one. Around its calls a process may be killed or stopped, and what is handed over is noted."""

    def __init__(
        self,
        nodes: Nodes,
        config: Mapping[str, Any],
        on_error: Callable[[DeliveryError], None] | None = None,
        **given: Any,
    ) -> None:
        self._nodes, self._process = nodes, current() or nodes.cluster.outside
        self._outstanding: list[Handed] = []
        super().__init__({**config, "batch.num.messages": ROWS_MAX}, on_error, **given)

    def _add(
        self,
        topic: str,
        partition: int,
        values: Sequence[bytes | None],
        keys: Sequence[bytes | None] | None,
        headers: Headers | None,
    ) -> None:
        if not values:
            return
        self._process.point("produce")
        # As the stand-in for librdkafka's: what the agent's own name is the key of is a claim of its log.
        first = ((keys or [None])[0] or b"").decode(errors="replace")
        self._process.point(f"{'claim' if first and f'.{first}.' in topic else 'produce'} {topic}")
        probe = Record(-1, -1, None, None, [])
        self._nodes.cluster.handed_over(self._process, (topic, partition), probe)
        if not len(self):
            self._outstanding.clear()
        self._outstanding.append(Handed(probe.is_zombie))
        number = len(self._nodes.handed)
        self._nodes.handed.append(self._outstanding[-1])
        super()._add(topic, partition, values, keys, [*(headers or []), (TAG, str(number).encode())])
        self._process.point("produced")

    def poll(self) -> None:
        self._process.point("produce-poll")
        super().poll()

    def drained(self, timeout_s: float = 0.0) -> bool:
        self._process.point("produce-poll")
        is_empty = super().drained(timeout_s)
        if is_empty:
            self._process.told("acknowledged")
        return is_empty

    def abandon(self) -> None:
        self._begin_to_give_up()
        super().abandon()

    def withdraw(self, timeout_s: float = IN_FLIGHT_S) -> int:
        self._begin_to_give_up()
        dropped = super().withdraw(timeout_s)
        for each in self._outstanding:
            each.is_given_up = True
        return dropped

    def _begin_to_give_up(self) -> None:
        for each in self._outstanding:
            if each.purged_at is None:
                each.purged_at = self._nodes.cluster.world.now
