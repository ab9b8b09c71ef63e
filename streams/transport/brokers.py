"""Connections to a cluster's brokers, and which of them leads what, for requests that librdkafka does not make.

I/O: Kafka, through aiokafka's connections; TLS, SASL and the wire format are theirs.
"""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from aiokafka.cluster import ClusterMetadata
from aiokafka.conn import collect_hosts, create_conn
from aiokafka.errors import KafkaError
from aiokafka.protocol.metadata import MetadataRequest

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from streams.transport.batch import TopicPartition

IDLE_MAX_MS = 540_000
UNREACHABLE: Final = (OSError, KafkaError, asyncio.TimeoutError)
"""What a request raises whose broker cannot be asked; asking again, of another one perhaps, may help."""

# What can be said to aiokafka's connections of librdkafka's properties about security.
_PROTOCOLS = frozenset({"plaintext", "ssl", "sasl_plaintext", "sasl_ssl"})
_MECHANISMS = frozenset({"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"})
_TLS = frozenset({"ssl.ca.location", "ssl.certificate.location", "ssl.key.location", "ssl.key.password"})
_NAMES = frozenset({"sasl.mechanism", "sasl.mechanisms"})
_KNOWN = frozenset({"security.protocol", "sasl.username", "sasl.password", *_TLS, *_NAMES})

# A line at each attempt: whoever uses a connection says once that nobody answers.
logging.getLogger("aiokafka").setLevel(logging.CRITICAL)


def secures(name: str) -> bool:
    """Whether this librdkafka property is about security."""
    return name == "security.protocol" or name.startswith(("ssl.", "sasl.", "enable.ssl", "enable.sasl"))


def can_secure(config: Mapping[str, Any]) -> bool:
    """Whether connections can be made as these librdkafka properties want them secured."""
    named = {name for name in config if secures(name)}
    return (
        named <= _KNOWN
        and str(config.get("security.protocol", "plaintext")).lower() in _PROTOCOLS
        and all(str(config[name]).upper() in _MECHANISMS for name in named & _NAMES)
    )


def _security(config: Mapping[str, Any]) -> dict[str, Any]:
    protocol = str(config.get("security.protocol", "plaintext")).upper()
    found: dict[str, Any] = {"security_protocol": protocol}
    if protocol.endswith("SSL"):
        found["ssl_context"] = context = _trusting(config.get("ssl.ca.location"))
        if certificate := config.get("ssl.certificate.location"):
            context.load_cert_chain(certificate, config.get("ssl.key.location"), config.get("ssl.key.password"))
    if protocol.startswith("SASL"):
        mechanism = next((config[name] for name in sorted(_NAMES & set(config))), "PLAIN")
        found |= {
            "sasl_mechanism": str(mechanism).upper(),
            "sasl_plain_username": str(config.get("sasl.username", "")),
            "sasl_plain_password": str(config.get("sasl.password", "")),
        }
    return found


def _trusting(place: str | None) -> ssl.SSLContext:
    """Those whose certificates stand in this file or directory; without one, those whom the system trusts."""
    if place is not None and Path(place).is_dir():
        return ssl.create_default_context(capath=place)
    return ssl.create_default_context(cafile=place)


class Brokers:
    """`config` are librdkafka properties for which `can_secure`. Used on the event loop that it was made on."""

    def __init__(self, config: Mapping[str, Any], request_timeout_s: float) -> None:
        self._seeds = collect_hosts(str(config["bootstrap.servers"]))
        self._options = {
            "client_id": str(config["client.id"]),
            "request_timeout_ms": int(request_timeout_s * 1000),
            "max_idle_ms": IDLE_MAX_MS,
            **_security(config),
        }
        self._timeout_s = request_timeout_s
        self._cluster = ClusterMetadata()
        self._open: dict[int, Any] = {}

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
        return await asyncio.wait_for(create_conn(host, port, **self._options), self._timeout_s)

    def close(self) -> None:
        for connection in self._open.values():
            connection.close()
        self._open.clear()
