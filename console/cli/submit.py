"""`pointsman submit`: tasks onto Kafka, and, where asked, their results back.

I/O: Kafka, stdout, stderr.
"""

from __future__ import annotations

import time
from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager

from console.cli.deployment import Deployment
from console.cli.failures import InvalidInputError
from console.cli.feed import COLUMNS, ResultFeed, Row, brief, no_topics
from console.cli.output import Format, Output
from console.cli.progress import Progress
from console.cli.tasks import Request, records
from schemas.codec import Codec
from schemas.codes import ErrorCode
from schemas.errors import PointsmanError
from schemas.registry import FileRegistry
from schemas.topology import Topology
from streams.transport.admin import check_broker
from streams.transport.clients import client_config
from streams.transport.producer import Producer
from streams.transport.topic_admin import TopicAdmin

FLUSH_TIMEOUT_S = 30.0

Key = tuple[str, str]  # tenant, task id


class NoResultError(PointsmanError):
    """Some results did not come in time."""

    error_code = ErrorCode.NO_RESULT

    def __init__(self, missing: Sequence[Key], asked: int, waited_s: float) -> None:
        which = ", ".join(task_id for _tenant, task_id in missing[:3]) + (", ..." if len(missing) > 3 else "")  # noqa: PLR2004  as many as fit a line
        super().__init__(
            f"{len(missing)} of {asked} results did not come within {waited_s:g} s: {which}. Are worker and host up, "
            "and was the task not answered before? `pointsman task show ID` tells where it is."
        )


def submit_tasks(
    deployment: Deployment, requests: Sequence[Request], *, wait_s: float | None, form: Format, out: Output
) -> None:
    """Produces the tasks; prints their ids, or waits at most `wait_s` and prints their results.

    Raises InvalidInputError (a task above the size limit, an unknown intent), UnreachableError, DeliveryError, and
    NoResultError after printing the results that came.
    """
    encode(deployment.topology, requests)  # what cannot be sent is told before anything is opened
    if wait_s is None:  # whoever only produces may have no right to read results
        _require_topic(deployment)
        with _producer(deployment) as producer:
            _produce(producer, deployment.topology, requests, out)
        _print_ids(requests, form, out)
        return
    check_broker(deployment.settings, deployment.topology)
    # The producer introduces itself to the broker while the feed takes the ends of the results topic.
    with _producer(deployment) as producer, ResultFeed(deployment) as feed:
        _produce(producer, deployment.topology, requests, out)
        feed.from_end()
        out.note(f"submitted {len(requests)}; waiting {wait_s:g} s at most")
        _print_results(feed, requests, wait_s, form, out)


def encode(topology: Topology, requests: Sequence[Request]) -> list[bytes]:
    """Record values of the tasks, submitted now. Raises InvalidInputError for those that would be refused."""
    values = Codec(FileRegistry.load(), topology.limits.record_bytes_max).encode(records(requests), "TaskSubmitted")
    faults = []
    for request, value in zip(requests, values, strict=True):
        if len(value) > topology.limits.record_bytes_max:
            faults.append(f"{request.task_id}: {len(value)} bytes, {topology.limits.record_bytes_max} are allowed")
        if request.intent is not None and request.intent not in topology.routes:
            faults.append(f"{request.task_id}: no route {request.intent!r}; there are {', '.join(topology.routes)}")
    if faults:
        raise InvalidInputError("\n".join(["Nothing was submitted.", *faults[:20]]), code=ErrorCode.TASK_REFUSED)
    return values


def _require_topic(deployment: Deployment) -> None:
    """Raises UnreachableError where no broker answers, or has no topic for tasks: a producer would try for minutes."""
    topic = deployment.topology.topics().submitted
    if topic not in TopicAdmin(deployment.settings, deployment.topology).listed():
        raise no_topics(deployment.settings.broker, f"topics are missing: {topic}")


@contextmanager
def _producer(deployment: Deployment) -> Iterator[Producer]:
    producer = Producer(client_config(deployment.settings, deployment.topology, "producer", name="pointsman-submit"))
    try:
        yield producer
    finally:
        producer.close(1.0)


def _produce(producer: Producer, topology: Topology, requests: Sequence[Request], out: Output) -> None:
    topic = topology.topics().submitted
    with Progress(out, "submitted", len(requests)) as progress:
        for number, (request, value) in enumerate(zip(requests, encode(topology, requests), strict=True)):
            producer.send_one(topic, value, request.key)
            progress.at(number)
        producer.flush(FLUSH_TIMEOUT_S)


def _print_ids(requests: Sequence[Request], form: Format, out: Output) -> None:
    if form is Format.TABLE:
        for request in requests:
            out.line(request.task_id)
        out.note(
            f"submitted {len(requests)}; `pointsman results --follow` shows results, `pointsman task show ID` a task"
        )
    else:
        out.records([{"tenant": each.tenant, "task_id": each.task_id} for each in requests], (), form)


def _print_results(feed: ResultFeed, requests: Sequence[Request], wait_s: float, form: Format, out: Output) -> None:
    awaited = dict.fromkeys((request.tenant, request.task_id) for request in requests)
    found: dict[Key, Row] = {}
    # Rows that come down the same screen are progress enough.
    with Progress(out, "results", len(awaited), shown=not (form is Format.JSONL and out.fancy)) as progress:
        deadline = time.monotonic() + wait_s
        while len(found) < len(awaited) and time.monotonic() < deadline:
            for key, row in _new_results(feed, awaited, found):
                found[key] = row
                if form is Format.JSONL:
                    out.json_line(row)
            progress.at(len(found))
    rows = [found[key] for key in awaited if key in found]
    if form is Format.JSON:
        out.json(rows)
    elif form is Format.TABLE and rows:
        out.records(map(brief, rows), COLUMNS, form)
    if missing := [key for key in awaited if key not in found]:
        raise NoResultError(missing, len(awaited), wait_s)


def _new_results(feed: ResultFeed, awaited: Container[Key], found: Container[Key]) -> Iterator[tuple[Key, Row]]:
    for row in feed.poll():
        key = (row["tenant"], row["task_id"])
        if key in awaited and key not in found:
            yield key, row
