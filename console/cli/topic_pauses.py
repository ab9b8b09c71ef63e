"""`pointsman topics pause` and `resume`: what the whole fleet stops to read, and reads again.

I/O: Kafka, the clock, stdout.
"""

from __future__ import annotations

import getpass
import socket
import time
from collections.abc import Container
from contextlib import closing
from datetime import UTC, datetime

from console.cli.deployment import Deployment
from console.cli.failures import ExitCode, NotFoundError
from console.cli.output import Format, Output
from schemas.codec import Codec
from schemas.codes import ErrorCode
from schemas.errors import DeliveryError
from schemas.nearest import suggest
from schemas.reasons import PauseReason
from schemas.registry import FileRegistry
from schemas.topics import Kind
from streams.transport.admin import check_topics
from streams.transport.clients import TransportError, client_config
from streams.transport.pauses import SCOPE, Pause, PauseView, event_of, publish
from streams.transport.producer import Producer

DELIVERED_S = 30.0
COLUMNS = ("topic", "paused", "reason", "at", "by")
# What workers and hosts read, and can therefore stop to read.
READ: frozenset[Kind] = frozenset({"submitted", "inbox", "events", "health"})


def paused_topics(deployment: Deployment, known: Container[str]) -> frozenset[str] | None:
    """Topics that rest; None where the topic that says so is not there, or may not be read by this user."""
    if deployment.topology.topics().pauses not in known:
        return None
    try:
        shown = _shown(deployment)
    except TransportError:
        return None
    return frozenset(pause.topic for pause in shown.values() if pause.paused)


def change(deployment: Deployment, name: str, *, paused: bool, form: Format, out: Output) -> ExitCode:
    """Says it to the fleet and to the history, unless it stands so already.

    Raises NotFoundError for a topic that nobody could stop reading, UnreachableError, DeliveryError.
    """
    topics = deployment.topology.topics()
    readable = [spec.name for spec in topics.specs() if spec.kind in READ]
    topic = next((each for each in (name, f"{topics.prefix}{name}") if each in readable), None)
    if topic is None:
        text = f"{name} is no topic that workers or hosts read{suggest(name, readable)}"
        raise NotFoundError(text, code=ErrorCode.NO_TOPIC)
    check_topics(deployment.settings, [topics.pauses, topics.orchestrator], deployment.topology)
    before = _shown(deployment).get(SCOPE + topic)
    if before is not None and before.paused == paused:
        now = before
        out.note(f"{topic} {'is paused' if paused else 'goes on'} already.")
    else:
        reason = PauseReason.PAUSED_BY_HAND if paused else PauseReason.RESUMED_BY_HAND
        at = max(time.time_ns() // 1_000, before.at + 1 if before else 0)
        now = Pause(topic, paused, reason, at, f"{getpass.getuser()}@{socket.gethostname()}")
        _say(deployment, now)
    row = {**now._asdict(), "reason": str(now.reason), "at": datetime.fromtimestamp(now.at / 1e6, UTC)}
    if form is Format.TABLE:
        out.records([row], COLUMNS, form)
    else:
        out.json(row) if form is Format.JSON else out.json_line(row)
    return ExitCode.OK


def _shown(deployment: Deployment) -> dict[str, Pause]:
    with closing(PauseView(deployment.settings, deployment.topology, _codec(deployment))) as view:
        view.read_once()
        return dict(view.snapshot())


def _say(deployment: Deployment, pause: Pause) -> None:
    topology, codec = deployment.topology, _codec(deployment)
    producer = Producer(client_config(deployment.settings, topology, "producer", name="pointsman-topics"))
    with closing(producer):
        publish(producer, codec, topology.topics().pauses, [pause])
        event = event_of(codec, pause, topology.version, {})
        producer.send(topology.topics().orchestrator, 0, [event], [pause.topic.encode()])
        if not producer.drained(DELIVERED_S):
            raise DeliveryError(topology.topics().pauses, len(producer), "the broker did not answer in time")


def _codec(deployment: Deployment) -> Codec:
    return Codec(FileRegistry.load(), deployment.topology.limits.record_bytes_max)
