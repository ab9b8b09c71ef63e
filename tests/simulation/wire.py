"""The network between clients and the in-memory broker, and what all of its clients share.

The clients take the place of librdkafka's: same names, same errors, as far as the transport uses them. I/O: none.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import confluent_kafka as ck

from tests.simulation.broker import Broker, BrokerError
from tests.simulation.log import Headers, Record
from tests.simulation.world import Process, Signal, World, current

RETRY_S = 0.3
"""When a request without an answer is made again."""


@dataclass
class Weather:
    """How the network is. Delays are in seconds, each way; the rest are shares."""

    delay_min_s: float = 0.0005
    delay_max_s: float = 0.005
    slow_share: float = 0.0
    slow_max_s: float = 0.5
    lost_answers_share: float = 0.0
    dealt_late_share: float = 0.0
    dealt_late_max_s: float = 2.5
    stuck_share: float = 0.0
    """How often a partition takes a write only after up to `stuck_max_s`: its leader has moved, or its disk is busy."""
    stuck_max_s: float = 4.0
    late_share: float = 0.0
    """How often a partition begins to keep what has come to it for up to `late_max_s`: nobody can call it back."""
    late_max_s: float = 0.9
    cut_share: float = 0.0
    """How often the connection is cut on which a turn's request goes; of librdkafka's it is not told."""
    moves_share: float = 0.0
    """How often a topic-partition has another leader when a turn comes to it."""
    full_share: float = 0.0
    """How often a producer's queue takes only a part of what it is given."""
    preempted_share: float = 0.0
    """How often a thread loses the processor in the midst of a client call, for up to `slow_max_s`."""


class Cluster:
    """A broker, and the wire to it. Clients that no simulated process opens belong to `outside`."""

    def __init__(self, world: World, broker: Broker | None = None) -> None:
        self.world = world
        self.broker = broker or Broker(world)
        self.weather = Weather()
        self.outside = Process(world, "outside")
        self.on_hand_over: Callable[[Process, tuple[str, int], Record], None] | None = None
        self._late_until: dict[tuple[str, int], float] = {}
        self.on_read: Callable[[Process, Sequence[Message]], None] | None = None
        """Told of what a consumer gives its process."""
        self.on_write: Callable[[Process, tuple[str, int], list[Record]], None] | None = None

    def handed_over(self, process: Process, tp: tuple[str, int], record: Record) -> None:
        """A process has given its client a record to send."""
        if self.on_hand_over is not None:
            self.on_hand_over(process, tp, record)

    def written(self, process: Process, tp: tuple[str, int], records: list[Record]) -> None:
        """A process's records have come to the broker."""
        if self.on_write is not None:
            self.on_write(process, tp, records)

    def delay_s(self) -> float:
        weather, rng = self.weather, self.world.rng
        if weather.slow_share and rng.random() < weather.slow_share:
            return rng.uniform(weather.delay_max_s, weather.slow_max_s)
        # As `uniform`, of what is asked for most.
        return weather.delay_min_s + (weather.delay_max_s - weather.delay_min_s) * rng.random()

    def dealt_late_s(self) -> float:
        """For how long who has joined a group does not hear what it got."""
        weather, rng = self.weather, self.world.rng
        if weather.dealt_late_share and rng.random() < weather.dealt_late_share:
            return rng.uniform(0.0, weather.dealt_late_max_s)
        return 0.0

    def stuck_s(self) -> float:
        """What a write waits beyond what any request does."""
        weather, rng = self.weather, self.world.rng
        if weather.stuck_share and rng.random() < weather.stuck_share:
            return rng.uniform(0.0, weather.stuck_max_s)
        return 0.0

    def late_s(self, tp: tuple[str, int]) -> float:
        """What a write that has come to its partition waits there, behind what waits there already."""
        weather, rng, now = self.weather, self.world.rng, self.world.now
        until = self._late_until.get(tp, 0.0)
        if until <= now and weather.late_share and rng.random() < weather.late_share:
            until = self._late_until[tp] = now + rng.uniform(0.0, weather.late_max_s)
        return max(until - now, 0.0)

    def loses_answer(self) -> bool:
        share = self.weather.lost_answers_share
        return bool(share) and self.world.rng.random() < share


class Parked(Exception):  # noqa: N818  nothing is wrong
    """The broker will answer later, by `Connection.reply`."""


class Connection:
    """One client's: what it carries keeps its order, each way. What is on its way arrives, whoever sent it is dead."""

    def __init__(self, cluster: Cluster, process: Process) -> None:
        self._cluster, self._process = cluster, process
        self._there, self._back = 0.0, 0.0

    def send(self, request: Callable[[], Any], answer: Callable[[Any], None], *, loses: bool = True) -> None:
        """`request` is made at the broker and `answer` is told what came of it: a value, or the BrokerError that it
        raised; nothing, where the broker is gone, or the answer is lost."""
        world = self._cluster.world
        self._there = max(world.now + self._cluster.delay_s(), self._there)
        world.at(self._there - world.now, partial(self._arrive, request, answer, loses))

    def _arrive(self, request: Callable[[], Any], answer: Callable[[Any], None], loses: bool) -> None:
        if not self._cluster.broker.is_up:
            return
        try:
            found = request()
        except Parked:
            return
        except BrokerError as error:
            found = error
        if not (loses and self._cluster.loses_answer()):
            self.reply(answer, found)

    def reply(self, answer: Callable[[Any], None], found: Any) -> None:
        """The broker speaks."""
        world = self._cluster.world
        self._back = max(world.now + self._cluster.delay_s(), self._back)
        self._process.later(self._back - world.now, partial(answer, found))


class Client:
    """What consumers and producers share."""

    def __init__(self, cluster: Cluster, config: Mapping[str, Any]) -> None:
        self.cluster, self.config = cluster, dict(config)
        self.world, self.broker = cluster.world, cluster.broker
        self.process = current() or cluster.outside
        self.connection = Connection(cluster, self.process)
        self.came = Signal()
        self.is_closed = False
        self._error_cb: Callable[[ck.KafkaError], None] = config.get("error_cb", lambda _error: None)
        self._errors: deque[ck.KafkaError] = deque()
        self.broker.on_change.append(self._broker_changed)
        if not self.broker.is_up:
            self._broker_changed()

    def setting(self, name: str, default: float) -> float:
        return float(self.config.get(name, default))

    def seconds(self, name: str, default_ms: float) -> float:
        return self.setting(name, default_ms) / 1000

    def _broker_changed(self) -> None:
        if self.is_closed or not self.process.is_alive:
            return
        if not self.broker.is_up:
            self.process.later(self.cluster.delay_s(), self._disconnected)
        else:
            self.process.later(self.cluster.delay_s(), self.reconnected)

    def _disconnected(self) -> None:
        if not self.broker.is_up:
            self._errors.append(ck.KafkaError(ck.KafkaError._ALL_BROKERS_DOWN, "1/1 brokers are down"))
            self.came.set()

    def reconnected(self) -> None:
        """The broker is there again."""

    def forget(self) -> None:
        """It is closed: nothing reaches it any more."""
        self.is_closed = True
        self.broker.on_change.remove(self._broker_changed)

    def fail(self, code: int, reason: str = "") -> None:
        """The client will never work again, and says so."""
        self._errors.append(ck.KafkaError(code, reason or ck.KafkaError(code).str(), fatal=True))
        self.came.set()

    def serve_errors(self) -> None:
        while self._errors:
            self._error_cb(self._errors.popleft())

    def point(self, what: str) -> None:
        """A call of the client's: the process may die or be stopped here, or lose the processor for a while."""
        if self.is_closed:
            raise RuntimeError("the client is closed")
        self.process.point(what)
        weather = self.cluster.weather
        if weather.preempted_share and self.world.rng.random() < weather.preempted_share:
            self.sleep(self.world.rng.uniform(0.0, weather.slow_max_s))

    def sleep(self, seconds: float) -> None:
        until = self.world.now + seconds
        while self.world.now < until:
            self.world.block(Signal(), until - self.world.now)

    def call(self, request: Callable[[], Any], timeout_s: float) -> Any:
        """Waits for the answer, and asks again where none comes. Raises KafkaException."""
        until = self.world.now + timeout_s
        while True:
            answers: list[Any] = []
            came = Signal()

            def answered(answer: Any, answers: list[Any] = answers, came: Signal = came) -> None:
                answers.append(answer)
                came.set()

            self.connection.send(request, answered)
            again_at = min(until, self.world.now + RETRY_S)
            while not answers and self.world.now < again_at:
                self.world.block(came, again_at - self.world.now)
            if answers and not isinstance(answers[0], BrokerError):
                return answers[0]
            if answers and answers[0].code not in RETRIABLE:
                raise exception(answers[0].code)
            if self.world.now >= until:
                raise exception(ck.KafkaError._TIMED_OUT)
            if answers:
                self.sleep(0.02)


RETRIABLE = frozenset({ck.KafkaError.UNSTABLE_OFFSET_COMMIT})


def exception(code: int, reason: str | None = None) -> ck.KafkaException:
    return ck.KafkaException(ck.KafkaError(code, reason))


class Message:
    """Of confluent_kafka."""

    __slots__ = ("_error", "_headers", "_key", "_offset", "_partition", "_timestamp_ms", "_topic", "_value")

    def __init__(
        self,
        topic: str,
        partition: int,
        offset: int,
        key: bytes | None = None,
        value: bytes | None = None,
        headers: Headers | None = None,
        timestamp_ms: int = -1,
        error: ck.KafkaError | None = None,
    ) -> None:
        self._topic, self._partition, self._offset = topic, partition, offset
        self._key, self._value, self._headers = key, value, headers
        self._timestamp_ms, self._error = timestamp_ms, error

    def topic(self) -> str:
        return self._topic

    def partition(self) -> int:
        return self._partition

    def offset(self) -> int:
        return self._offset

    def key(self) -> bytes | None:
        return self._key

    def value(self) -> bytes | None:
        return self._value

    def headers(self) -> Headers | None:
        return self._headers or None

    def timestamp(self) -> tuple[int, int]:
        return (ck.TIMESTAMP_LOG_APPEND_TIME, self._timestamp_ms)

    def error(self) -> ck.KafkaError | None:
        return self._error

    def __len__(self) -> int:
        return len(self._value or b"")


class Place:
    """Of confluent_kafka: TopicPartition, as it comes back from a call."""

    __slots__ = ("error", "metadata", "offset", "partition", "topic")

    def __init__(
        self, topic: str, partition: int, offset: int = -1001, metadata: str | None = None, error: Any = None
    ) -> None:
        self.topic, self.partition, self.offset, self.metadata, self.error = topic, partition, offset, metadata, error


class Listing:
    """Of confluent_kafka: what `list_topics` gives, as far as it is used."""

    def __init__(self, broker: Broker) -> None:
        one = _Partition()
        self.topics = {name: _Topic(dict.fromkeys(range(len(each)), one)) for name, each in broker.topics.items()}
        self.brokers = {1: None}


@dataclass(frozen=True)
class _Partition:
    """One copy of each, on the only broker."""

    leader: int = 1
    replicas: tuple[int, ...] = (1,)
    isrs: tuple[int, ...] = (1,)


@dataclass
class _Topic:
    partitions: dict[int, _Partition]
