"""What people pause and let go on: how it stands, and how it is said to the whole fleet and to the history.

I/O: Kafka, the clock.
"""

from __future__ import annotations

import getpass
import socket
import time
from collections.abc import Mapping
from contextlib import closing
from datetime import UTC, datetime

from console.cli.deployment import Deployment
from console.cli.output import Format, Output, Row
from schemas.codec import Codec
from schemas.errors import DeliveryError
from schemas.reasons import PauseReason
from schemas.registry import FileRegistry
from streams.transport.admin import check_topics
from streams.transport.clients import client_config
from streams.transport.pauses import Pause, PauseView, event_of, publish
from streams.transport.producer import Producer

DELIVERED_S = 30.0


def standing(deployment: Deployment) -> dict[str, Pause]:
    """By scope, what was paused or let go on last. Raises TransportError where the topic cannot be read."""
    with closing(PauseView(deployment.settings, deployment.topology, codec_of(deployment))) as view:
        view.read_once()
        return dict(view.snapshot())


def ready(deployment: Deployment) -> None:
    """Raises UnreachableError where the topics in which it would be said are not there."""
    topics = deployment.topology.topics()
    check_topics(deployment.settings, [topics.pauses, topics.orchestrator], deployment.topology)


def say(deployment: Deployment, scope: str, before: Pause | None, reason: PauseReason, note: str = "") -> Pause:
    """Says it to the fleet and to the history; gives what stands from now on. Raises DeliveryError."""
    topology, codec = deployment.topology, codec_of(deployment)
    at = max(time.time_ns() // 1_000, before.at + 1 if before else 0)  # clocks differ
    pause = Pause(scope, reason is not PauseReason.RESUMED_BY_HAND, reason, at, principal(), note)
    producer = Producer(client_config(deployment.settings, topology, "producer", name="pointsman-pauses"))
    with closing(producer):
        publish(producer, codec, topology.topics().pauses, [pause])
        event = event_of(codec, pause, topology.version, {})
        producer.send(topology.topics().orchestrator, 0, [event], [pause.name.encode()])
        if not producer.drained(DELIVERED_S):
            raise DeliveryError(topology.topics().pauses, len(producer), "the broker did not answer in time")
    return pause


def principal() -> str:
    """Who is sitting here, as far as this machine knows."""
    return f"{getpass.getuser()}@{socket.gethostname()}"


def show(pause: Pause | None, fields: Mapping[str, object], form: Format, out: Output) -> None:
    """Prints how it stands now: `fields`, and those that every pause has; null of what nothing was ever said of."""
    row: Row = {
        **fields,
        "paused": pause is not None and pause.paused,
        "reason": pause and str(pause.reason),
        "at": pause and datetime.fromtimestamp(pause.at / 1e6, UTC),
        "by": pause and pause.by,
    }
    if form is Format.TABLE:
        out.records([row], tuple(row), form)
    else:
        out.json(row) if form is Format.JSON else out.json_line(row)


def codec_of(deployment: Deployment) -> Codec:
    return Codec(FileRegistry.load(), deployment.topology.limits.record_bytes_max)
