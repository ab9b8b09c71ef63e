"""Connections to a cluster's brokers, and which of them leads what, for requests that librdkafka does not make.

I/O: Kafka, through aiokafka's connections; TLS, SASL and the wire format are theirs.
"""

from __future__ import annotations

import asyncio
import logging
import random
from typing import TYPE_CHECKING, Any, Final

from aiokafka.cluster import ClusterMetadata
from aiokafka.conn import collect_hosts, create_conn
from aiokafka.errors import KafkaError
from aiokafka.protocol.metadata import MetadataRequest

from streams.transport.securing import refusal_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from streams.transport.batch import TopicPartition

IDLE_MAX_MS = 540_000
UNREACHABLE: Final = (OSError, KafkaError, asyncio.TimeoutError)
"""What a request raises whose broker cannot be asked; asking again, of another one perhaps, may help."""

# A line at each attempt: whoever uses a connection says once that nobody answers.
logging.getLogger("aiokafka").setLevel(logging.CRITICAL)


class Brokers:
    """`config` are librdkafka properties, and `security` what `security_of` made of them. Used on the event loop that
    it was made on."""

    def __init__(self, config: Mapping[str, Any], security: Mapping[str, Any], request_timeout_s: float) -> None:
        self._seeds = collect_hosts(str(config["bootstrap.servers"]))
        self._options = {
            "client_id": str(config["client.id"]),
            "request_timeout_ms": int(request_timeout_s * 1000),
            "max_idle_ms": IDLE_MAX_MS,
            **security,
        }
        self._timeout_s = request_timeout_s
        self._cluster = ClusterMetadata()
        self._open: dict[int, Any] = {}
        self._opening: dict[int, asyncio.Lock] = {}

    def leader(self, tp: TopicPartition) -> int | None:
        """The broker that leads this topic-partition, by what was last heard."""
        node = self._cluster.leader_for_partition(tp)
        return None if node is None or node < 0 else node

    @property
    def forbidden(self) -> frozenset[str]:
        """Topics that this user may not see, by what was last heard."""
        return frozenset(self._cluster.unauthorized_topics)

    def any(self) -> int:
        """A broker. `refresh` has to have been answered before."""
        return int(random.choice(list(self._cluster.brokers())).nodeId)  # noqa: S311 - nobody has to be surprised

    async def refresh(self, topics: Collection[str]) -> None:
        """Ask who leads these topics' partitions; topics that are missing are not created. Raises UNREACHABLE."""
        request = MetadataRequest(sorted(topics), allow_auto_topic_creation=False)
        known = list(self._cluster.brokers())
        random.shuffle(known)
        error: Exception | None = None
        for broker in known:
            try:
                self._cluster.update_metadata(await self.send(broker.nodeId, request))
            except UNREACHABLE as raised:
                error = raised
            else:
                return
        for host, port, _ in self._seeds:
            try:
                connection = await self._connect(host, port)
                try:
                    self._cluster.update_metadata(await connection.send(request))
                finally:
                    connection.close()
            except UNREACHABLE as raised:
                error = raised
            else:
                return
        raise error or OSError("no broker is named")

    async def send(self, node: int, request: Any) -> Any:
        """The broker's answer. Raises UNREACHABLE; then it is not known whether it had the request."""
        # Records and a question may want to go at once: with a connection each, one of them would be left open.
        async with self._opening.setdefault(node, asyncio.Lock()):
            connection = self._open.get(node)
            if connection is None or not connection.connected():
                broker = self._cluster.broker_metadata(node)
                if broker is None:
                    raise OSError(f"broker {node} is not known")
                connection = self._open[node] = await self._connect(broker.host, broker.port)
        try:
            return await connection.send(request)
        except TimeoutError:
            connection.close()  # what comes late must not be taken for another's answer
            raise

    async def _connect(self, host: str, port: int) -> Any:
        """Raises OSError, which says what is the matter."""
        try:
            return await asyncio.wait_for(create_conn(host, port, **self._options), self._timeout_s)
        except UNREACHABLE as error:
            raise OSError(f"{host}:{port}: {refusal_of(error, self._options)}") from error

    def hang_up(self, node: int) -> None:
        """Nobody waits for what this broker has been asked; whoever asks again has another connection."""
        if (connection := self._open.pop(node, None)) is not None:
            connection.close()

    def close(self) -> None:
        for connection in self._open.values():
            connection.close()
        self._open.clear()
