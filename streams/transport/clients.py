"""Settings and quiet logging of every librdkafka client that this project opens.

I/O: none.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

import confluent_kafka as ck

from schemas.access import READER_GROUP
from schemas.codes import ErrorCode
from schemas.errors import ConfigurationError, PointsmanError
from streams.transport.coordinator import STATISTICS_MS, Coordination

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Role = Literal["consumer", "producer", "admin"]
Reset = Literal["error", "earliest", "latest"]
Fetch = Literal["prompt", "bulk", "back"]
Scalar = str | int | float | bool
Client = TypeVar("Client")

log = logging.getLogger("pointsman.kafka")


class TransportError(PointsmanError):
    """A client cannot go on: the process must end, and recover from its last cut."""

    error_code = ErrorCode.CLIENT_GAVE_UP


class CommitRejectedError(TransportError):
    """Another member owns the partitions now: give them up, commit nothing."""

    error_code = ErrorCode.COMMIT_REJECTED


class CommitUnavailableError(TransportError):
    """The coordinator does not answer: nothing is known to be committed; try again later."""

    error_code = ErrorCode.COMMIT_UNAVAILABLE


class HangingTransactionError(TransportError):
    """Records are neither committed nor aborted for longer than a transaction may take: nobody will end it."""

    error_code = ErrorCode.TRANSACTION_HANGS


class StrandedError(TransportError):
    """A member finds no coordinator of its group, though brokers answer: a new process may."""

    error_code = ErrorCode.NO_COORDINATOR


class NotYetError(TransportError):
    """The broker has no answer yet: ask again."""


class BrokerSettings(Protocol):
    """The part of `schemas.settings.Settings` that clients need."""

    @property
    def broker(self) -> str: ...

    @property
    def kafka(self) -> Mapping[str, str]: ...


class ClientSettings(Protocol):
    """The part of `schemas.topology.Topology` that clients need."""

    @property
    def kafka(self) -> Mapping[str, Scalar]: ...


_COMMON: dict[str, Scalar] = {
    "allow.auto.create.topics": False,
    # A broker that comes back is found within a second, not ten. Where none is there, librdkafka begins anew with
    # `bootstrap.servers` at each failure, which finds brokers that have moved, but its pauses never grow: with 50 ms
    # each client tried forty times a second, and a broker that starts beside them had no core to do it.
    "reconnect.backoff.ms": 500,
    "reconnect.backoff.max.ms": 1000,
    "topic.metadata.refresh.interval.ms": 60_000,
    "socket.keepalive.enable": True,
    "socket.timeout.ms": 15_000,
    "log.connection.close": False,
}
_BY_ROLE: dict[Role, dict[str, Scalar]] = {
    "consumer": {
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "isolation.level": "read_committed",
        "partition.assignment.strategy": "range",
        "session.timeout.ms": 6000,
        # Members hear of a rebalance by this alone: who comes back waits so long for those who are there.
        "heartbeat.interval.ms": 500,
        "max.poll.interval.ms": 60_000,
        "fetch.queue.backoff.ms": 1,
        "queued.min.messages": 100_000,
        "queued.max.messages.kbytes": 65_536,
    },
    "producer": {
        "enable.idempotence": True,
        "acks": "all",
        "compression.type": "lz4",
        "partitioner": "murmur2_random",
        "linger.ms": 5,
        # Longer than any outage that we promise to sit out.
        "message.timeout.ms": 120_000,
        "queue.buffering.max.messages": 500_000,
        "queue.buffering.max.kbytes": 262_144,
        "batch.num.messages": 20_000,
        "batch.size": 1_000_000,
    },
    "admin": {},
}
# Of a member that has a place of its own: whoever starts in it again is that member, and nobody has to wait until the
# former one's session is over. So it can be long, and a broker that is away for so long costs nobody its partitions.
_STATIC: dict[str, Scalar] = {"session.timeout.ms": 30_000}
_OURS = (
    *("group.id", "group.instance.id", "enable.auto.commit", "enable.auto.offset.store", "auto.offset.reset"),
    "isolation.level",
)
# When the broker answers a fetch. Its cost is per request. What a turn wrote comes whole, so worker and host need not
# wait for more of it; the store, which nobody waits for, reads much at a time. Who reads back to an end, and asks where
# the next end is, waits for the answer to a fetch that nothing will come of: a connection answers one after the other.
_FETCH: dict[Fetch, dict[str, Scalar]] = {
    "prompt": {"fetch.min.bytes": 1, "fetch.wait.max.ms": 500},
    "bulk": {"fetch.min.bytes": 1_000_000, "fetch.wait.max.ms": 500},
    "back": {"fetch.min.bytes": 1, "fetch.wait.max.ms": 10},
}
# librdkafka warns about a property of the other client type: what a shared properties file may name for both is sorted
# here, so that one file serves consumers and producers.
_CONSUMER_ONLY = (
    *("group.", "session.", "heartbeat.", "max.poll.", "fetch.", "queued.", "isolation.", "auto.offset."),
    *("partition.assignment.", "check.crcs", "consume.", "enable.auto.", "enable.partition.eof"),
)
_PRODUCER_ONLY = (
    *("acks", "compression.", "partitioner", "linger.", "message.timeout", "delivery.timeout", "queue.buffering."),
    *("batch.", "enable.idempotence", "enable.gapless", "transaction", "retries", "message.send.max", "sticky."),
    *("dr_", "delivery.report"),
)


def client_config(
    settings: BrokerSettings,
    topology: ClientSettings | None,
    role: Role,
    *,
    group: str | None = None,
    instance: str | None = None,
    reset: Reset = "earliest",
    fetch: Fetch = "prompt",
    name: str | None = None,
) -> dict[str, Any]:
    """librdkafka settings of a client: ours, then the topology's, then the operator's (SASL and TLS among them).

    `group` is the consumer group (None for a consumer that assigns itself), `instance` the member's place in it, from
    `streams.transport.slots`, `reset` what happens where no position is committed or the committed one is gone, `fetch`
    whether records come at once (`prompt`: idle it costs nothing) or in few large loads (`bulk`), `name` the client id.
    Passed-through properties of the other role are left out.
    """
    own: dict[str, Any] = {**_COMMON, **_BY_ROLE[role], "client.id": name or f"pointsman-{role}"}
    if role == "consumer":
        own |= {"auto.offset.reset": reset, **_FETCH[fetch]}
        # librdkafka wants a group id even from a consumer that never joins one.
        own["group.id"] = group or READER_GROUP
        if group is not None:
            own["statistics.interval.ms"] = STATISTICS_MS
        if instance is not None:
            own |= {**_STATIC, "group.instance.id": instance}
    given = {**(topology.kafka if topology else {}), **settings.kafka}
    foreign = {"consumer": _PRODUCER_ONLY, "producer": _CONSUMER_ONLY, "admin": _CONSUMER_ONLY + _PRODUCER_ONLY}[role]
    passed = {key: value for key, value in given.items() if not key.startswith(foreign)}
    if role == "consumer":
        # Groups, the commit rule and isolation are ours: an operator who changes them loses or repeats records.
        for ours in _OURS:
            passed.pop(ours, None)
    return {**own, **passed, "bootstrap.servers": settings.broker}


def properties_of(role: Role) -> frozenset[str]:
    """What `client_config` gives a client of its own accord; of a consumer without group, fetch and reset."""
    return frozenset({*_COMMON, *_BY_ROLE[role], "client.id", "bootstrap.servers"})


class ConnectionWatch:
    """One log line when all brokers are lost and one when they are back, however often librdkafka reports it."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.is_down = False
        self.fatal: ck.KafkaError | None = None
        self.refusal: str | None = None
        self.stranded: str | None = None
        """Why a member of a group has to end, where it does."""
        self._coordination = Coordination()

    def error(self, error: ck.KafkaError) -> None:
        """librdkafka's `error_cb`: informational except where it says fatal."""
        if error.fatal():
            self.fatal = error
            log.error("%s: fatal: %s", self._name, error.str())
        elif error.code() in _REFUSED:
            self.refusal = error.str()
            log.debug("%s: %s", self._name, self.refusal)
        elif error.code() in _LOST:
            self.down()
        else:
            log.debug("%s: %s", self._name, error.str())

    def statistics(self, told: str) -> None:
        """librdkafka's `stats_cb`, of a member of a group."""
        self.stranded = self.stranded or self._coordination.look(told)

    def down(self, why: str = "") -> None:
        """Called when no broker answers."""
        if not self.is_down:
            self.is_down = True
            log.warning("%s: no broker can be reached; it keeps trying%s", self._name, why and f" ({why})")

    def up(self) -> None:
        """Called when the broker has answered."""
        if self.is_down:
            self.is_down = False
            log.warning("%s: the broker is back", self._name)


# What is worth more than that nobody answered: somebody did, and said no.
_REFUSED = frozenset({ck.KafkaError._AUTHENTICATION, ck.KafkaError._SSL, ck.KafkaError._RESOLVE})  # noqa: SLF001
_LOST = frozenset({ck.KafkaError._ALL_BROKERS_DOWN})  # noqa: SLF001


class _WithoutConnectionNoise(logging.Filter):
    """librdkafka writes a line at each attempt to reconnect; `ConnectionWatch` says it once."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith(("FAIL", "ERROR"))


def quiet(config: Mapping[str, Any], watch: ConnectionWatch) -> dict[str, Any]:
    """The same settings with librdkafka's own lines sent to our log, less the connection noise."""
    return {"error_cb": watch.error, "stats_cb": watch.statistics, "logger": _librdkafka_log(), **config}


def opened(kind: Callable[[dict[str, Any]], Client], config: Mapping[str, Any], watch: ConnectionWatch) -> Client:
    """A quiet client of librdkafka. Raises ConfigurationError for a property that librdkafka refuses."""
    try:
        return kind(quiet(config, watch))
    except ck.KafkaException as raised:
        why = raised.args[0].str()
        text = (
            f"Kafka's client library refuses its settings: {why}. They come from the file that POINTSMAN_KAFKA_CONFIG "
            "names, and from `kafka` in the topology."
        )
        raise ConfigurationError(text, code=ErrorCode.KAFKA_CONFIG) from raised


def _librdkafka_log() -> logging.Logger:
    logger = logging.getLogger("pointsman.kafka.librdkafka")
    if not logger.filters:
        logger.addFilter(_WithoutConnectionNoise())
    return logger
