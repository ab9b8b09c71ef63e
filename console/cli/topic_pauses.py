"""`pointsman topics pause` and `resume`: what the whole fleet stops to read, and reads again.

I/O: Kafka, stdout.
"""

from __future__ import annotations

from collections.abc import Container

from console.cli.deployment import Deployment
from console.cli.failures import ExitCode, NotFoundError
from console.cli.output import Format, Output
from console.cli.pausing import ready, say, show, standing
from schemas.codes import ErrorCode
from schemas.nearest import suggest
from schemas.reasons import PauseReason
from schemas.topics import Kind
from streams.transport.clients import TransportError
from streams.transport.pauses import SCOPE

# What workers and hosts read, and can therefore stop to read.
READ: frozenset[Kind] = frozenset({"submitted", "inbox", "events", "health"})


def paused_topics(deployment: Deployment, known: Container[str]) -> frozenset[str] | None:
    """Topics that rest; None where the topic that says so is not there, or may not be read by this user."""
    if deployment.topology.topics().pauses not in known:
        return None
    try:
        shown = standing(deployment)
    except TransportError:
        return None
    return frozenset(pause.name for scope, pause in shown.items() if scope.startswith(SCOPE) and pause.paused)


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
    ready(deployment)
    now = standing(deployment).get(SCOPE + topic)
    if now is not None and now.paused == paused:
        out.note(f"{topic} {'is paused' if paused else 'goes on'} already.")
    else:
        reason = PauseReason.PAUSED_BY_HAND if paused else PauseReason.RESUMED_BY_HAND
        now = say(deployment, SCOPE + topic, now, reason)
    show(now, {"topic": topic}, form, out)
    return ExitCode.OK
