"""Topics as the deployment needs them, and whether the broker is there at all.

I/O: Kafka.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import confluent_kafka as ck
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType

from schemas.codes import ErrorCode
from schemas.errors import ConfigurationError, UnreachableError
from streams.transport.clients import ConnectionWatch, TransportError, client_config, quiet
from streams.transport.consumer import close, watermarks

if TYPE_CHECKING:
    from collections.abc import Iterable

    from schemas.topics import TopicSpec
    from streams.transport.clients import BrokerSettings, ClientSettings

CHECK_TIMEOUT_S = 3.0
CREATE_TIMEOUT_S = 30.0
CLOSE_TIMEOUT_S = 1.0
# The broker's default: Apache Kafka takes -1 for it since 2.4.
DEFAULT_REPLICATION = -1
HINT = "Is it running? Name another with --broker HOST:PORT or POINTSMAN_BROKER, or start one with `pointsman dev`."


def check_broker(settings: BrokerSettings, topology: ClientSettings | None = None) -> None:
    """Raises UnreachableError within about three seconds where no broker answers."""
    _listed(_client(settings, topology), settings)


def ensure_topics(
    settings: BrokerSettings, specs: Iterable[TopicSpec], topology: ClientSettings | None = None
) -> list[str]:
    """Create the missing topics and give their names.

    Raises ConfigurationError where an existing topic has another partition count or keeps its producers' timestamps
    (recovery looks positions up by append time), UnreachableError where no broker answers, or leads a partition.
    """
    client, wanted = _client(settings, topology), list(specs)
    existing = _listed(client, settings)
    _refuse_differences(client, wanted, existing)
    missing = [spec for spec in wanted if spec.name not in existing]
    if missing:
        _create(client, missing)
    # All of them: another process may have made some a moment ago.
    _await_leaders(settings, wanted, topology)
    return [spec.name for spec in missing]


def delete_topics(settings: BrokerSettings, names: Iterable[str], topology: ClientSettings | None = None) -> None:
    """Delete topics; those that are not there are no error."""
    client = _client(settings, topology)  # kept: its futures fail with it
    for future in client.delete_topics(list(names), operation_timeout=CREATE_TIMEOUT_S).values():
        try:
            future.result()
        except ck.KafkaException as raised:
            if raised.args[0].code() != ck.KafkaError.UNKNOWN_TOPIC_OR_PART:
                text = f"a topic could not be deleted: {raised.args[0].str()}"
                raise ConfigurationError(text, code=ErrorCode.TOPIC_REQUEST) from raised


def _client(settings: BrokerSettings, topology: ClientSettings | None) -> AdminClient:
    return AdminClient(quiet(client_config(settings, topology, "admin"), ConnectionWatch("admin")))


def _listed(client: AdminClient, settings: BrokerSettings) -> dict[str, int]:
    try:
        topics = client.list_topics(timeout=CHECK_TIMEOUT_S).topics
    except ck.KafkaException as raised:
        said = raised.args[0].str()
        raise UnreachableError("the Kafka broker", settings.broker, said, HINT, code=ErrorCode.NO_BROKER) from raised
    return {name: len(topic.partitions) for name, topic in topics.items()}


def _refuse_differences(client: AdminClient, wanted: list[TopicSpec], existing: dict[str, int]) -> None:
    known = [spec for spec in wanted if spec.name in existing]
    faults = [
        f"{spec.name} has {existing[spec.name]} partitions, topology says {spec.partitions}"
        for spec in known
        if existing[spec.name] != spec.partitions
    ]
    resources = [ConfigResource(ResourceType.TOPIC, spec.name) for spec in known]
    for resource, future in client.describe_configs(resources).items() if resources else ():
        try:
            kind = future.result(timeout=CREATE_TIMEOUT_S)["message.timestamp.type"].value
        except ck.KafkaException as raised:
            text = f"{resource.name} could not be described: {raised.args[0].str()}"
            raise ConfigurationError(text, code=ErrorCode.TOPIC_REQUEST) from raised
        if kind != "LogAppendTime":
            faults.append(f"{resource.name} has message.timestamp.type={kind}, it must be LogAppendTime")
    if faults:
        raise ConfigurationError(
            "\n".join(("The broker's topics do not fit this topology:", *(f"  {fault}" for fault in faults)))
            + "\nUse another prefix in the topology, or migrate as docs/ describes.",
            code=ErrorCode.TOPICS_DIFFER,
        )


def _create(client: AdminClient, specs: list[TopicSpec]) -> None:
    topics = [
        NewTopic(
            spec.name, num_partitions=spec.partitions, replication_factor=DEFAULT_REPLICATION, config=_config_of(spec)
        )
        for spec in specs
    ]
    futures = client.create_topics(topics, operation_timeout=CREATE_TIMEOUT_S, request_timeout=CREATE_TIMEOUT_S)
    for name, future in futures.items():
        try:
            future.result()
        except ck.KafkaException as raised:
            # Two processes of one deployment may start together.
            if raised.args[0].code() != ck.KafkaError.TOPIC_ALREADY_EXISTS:
                text = f"{name} could not be created: {raised.args[0].str()}"
                raise ConfigurationError(text, code=ErrorCode.TOPIC_REQUEST) from raised


def _await_leaders(settings: BrokerSettings, specs: Iterable[TopicSpec], topology: ClientSettings | None) -> None:
    """Returns once every partition's leader answers for it.

    The controller has made the topics; the brokers hear of it a moment later. librdkafka 2.16 was seen to report
    records delivered that were sent in that moment and are not in the log.
    """
    config = client_config(settings, topology, "consumer", name="pointsman-admin")
    # A consumer, for its requests are tried again while there is no leader; an admin client was seen to go on failing.
    consumer = ck.Consumer(quiet(config, ConnectionWatch("admin")))
    try:
        watermarks(consumer, [(spec.name, number) for spec in specs for number in range(spec.partitions)])
    except TransportError as error:
        raise UnreachableError(
            "the Kafka broker", settings.broker, str(error), HINT, code=ErrorCode.NO_BROKER
        ) from error
    finally:
        close(consumer, CLOSE_TIMEOUT_S)


def _config_of(spec: TopicSpec) -> dict[str, str]:
    kept = "delete.retention.ms" if spec.cleanup == "compact" else "retention.ms"
    return {
        "cleanup.policy": spec.cleanup,
        kept: str(spec.retention_ms),
        "message.timestamp.type": "LogAppendTime",
    }
