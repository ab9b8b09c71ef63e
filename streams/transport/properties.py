"""Which properties librdkafka takes, told without a broker and without repeating a value.

I/O: none; librdkafka makes a client for each question, which connects to nobody.
"""

from __future__ import annotations

from collections.abc import Mapping

import confluent_kafka as ck
from confluent_kafka.admin import AdminClient

from schemas.nearest import nearest
from streams.transport.clients import ConnectionWatch, Scalar, quiet

NOWHERE = {"bootstrap.servers": "127.0.0.1:1"}
UNKNOWN = "No such configuration property"
# What a misspelt name most likely stands for: librdkafka has some 200, and no list that can be asked for.
COMMON = (
    *("security.protocol", "sasl.mechanisms", "sasl.username", "sasl.kerberos.service.name", "sasl.oauthbearer.method"),
    *("ssl.ca.location", "ssl.certificate.location", "ssl.key.location", "ssl.endpoint.identification.algorithm"),
    *("enable.ssl.certificate.verification", "broker.address.family", "broker.address.ttl", "client.rack", "client.id"),
    *("socket.timeout.ms", "socket.keepalive.enable", "socket.nagle.disable", "socket.connection.setup.timeout.ms"),
    *("connections.max.idle.ms", "metadata.max.age.ms", "topic.metadata.refresh.interval.ms", "message.max.bytes"),
    *("reconnect.backoff.ms", "reconnect.backoff.max.ms", "retry.backoff.ms", "request.timeout.ms", "acks"),
    *("linger.ms", "compression.type", "batch.size", "batch.num.messages", "message.timeout.ms", "delivery.timeout.ms"),
    *("queue.buffering.max.messages", "queue.buffering.max.kbytes", "fetch.min.bytes", "fetch.wait.max.ms"),
    *("session.timeout.ms", "heartbeat.interval.ms", "max.poll.interval.ms", "partition.assignment.strategy"),
    *("queued.min.messages", "queued.max.messages.kbytes", "fetch.message.max.bytes", "isolation.level", "debug"),
)


def property_faults(properties: Mapping[str, Scalar]) -> dict[str, str]:
    """By name, what is wrong with each property that librdkafka does not take by itself."""
    if not properties or _refusal(properties) is None:
        return {}
    refusals = {name: _refusal({name: value}) for name, value in properties.items()}
    return {name: _said(name, refusal) for name, refusal in refusals.items() if refusal is not None}


def _refusal(properties: Mapping[str, Scalar]) -> str | None:
    try:
        AdminClient(quiet({**NOWHERE, **properties}, ConnectionWatch("check")))
    except ck.KafkaException as raised:
        return str(raised.args[0].str())
    return None


def _said(name: str, refusal: str) -> str:
    if not refusal.startswith(UNKNOWN):
        return "librdkafka does not take this value"
    found = nearest(name, COMMON)
    return f"is no property of librdkafka{f'; did you mean {found}?' if found else ''}"
