"""Topics on the broker: as they are, made, and changed, each with its own failure.

I/O: Kafka.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import confluent_kafka as ck
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    OffsetSpec,
    ResourceType,
)

from schemas.codes import ErrorCode
from schemas.errors import ConfigurationError, UnreachableError
from schemas.topics import TopicSpec
from streams.transport.clients import BrokerSettings, ClientSettings, ConnectionWatch, client_config, opened
from streams.transport.requests import CONNECT_S
from streams.transport.topic_plan import Change, ClusterState, TopicState

CHECK_TIMEOUT_S = 3.0
REQUEST_TIMEOUT_S = 30.0
HEARD_TIMEOUT_S, HEARD_EVERY_S = 10.0, 0.05
OWNER_CHARS = 8  # of a member id, which is random: enough to tell members of one machine apart
# The broker's default: Apache Kafka takes -1 for it since 2.4.
DEFAULT_REPLICATION = -1
HINT = "Is it running? Name another with --broker HOST:PORT or POINTSMAN_BROKER, or start one with `pointsman dev`."

_Error = ck.KafkaError
DENIED = frozenset(
    {_Error.TOPIC_AUTHORIZATION_FAILED, _Error.CLUSTER_AUTHORIZATION_FAILED, _Error.GROUP_AUTHORIZATION_FAILED}
)


class TopicAdmin:
    """One admin client. Every method raises UnreachableError where no broker answers."""

    def __init__(self, settings: BrokerSettings, topology: ClientSettings | None = None) -> None:
        self._broker = settings.broker
        self._watch = ConnectionWatch("admin")
        self._client = admin_client(settings, topology, self._watch)

    def listed(self) -> dict[str, Any]:
        """Metadata of all topics that this user may see, by name."""
        return dict(self._metadata().topics)

    def cluster(self, names: Iterable[str]) -> ClusterState:
        """The brokers, and those of the named topics that exist.

        Raises ConfigurationError where this user may not see how a topic is configured.
        """
        metadata = self._metadata()
        found = {name: metadata.topics[name] for name in names if name in metadata.topics}
        configs = self._configs(found)
        topics = {
            name: TopicState(len(topic.partitions), copies(topic), configs[name]) for name, topic in found.items()
        }
        return ClusterState(len(metadata.brokers), self._default_replication(metadata.brokers), topics)

    def create(self, specs: Sequence[TopicSpec]) -> dict[str, str | None]:
        """Makes the topics; for each what went wrong, or None. One that is there already is no error."""
        if not specs:
            return {}
        futures = self._client.create_topics(
            [_new(spec) for spec in specs], operation_timeout=REQUEST_TIMEOUT_S, request_timeout=REQUEST_TIMEOUT_S
        )
        return {
            name: self._outcome(future, f"Create on topic {name}", harmless=_Error.TOPIC_ALREADY_EXISTS)
            for name, future in futures.items()
        }

    def change(self, changes: Mapping[str, Sequence[Change]]) -> dict[str, str | None]:
        """Sets properties of topics, and leaves all others as they are; for each what went wrong, or None."""
        if not changes:
            return {}
        resources = [
            ConfigResource(ResourceType.TOPIC, name, incremental_configs=[_set(change) for change in each])
            for name, each in changes.items()
        ]
        futures = self._client.incremental_alter_configs(resources, request_timeout=REQUEST_TIMEOUT_S)
        return {
            resource.name: self._outcome(future, f"AlterConfigs on topic {resource.name}")
            for resource, future in futures.items()
        }

    def await_changes(self, changes: Mapping[str, Sequence[Change]]) -> bool:
        """Whether a broker that is asked has heard of these changes, after HEARD_TIMEOUT_S at most.

        They are done when the controller has them; brokers hear of them from it, and say until then what was before.
        """
        until = time.monotonic() + HEARD_TIMEOUT_S
        while True:
            now = self._configs(changes)
            if all(now[name].get(each.key) == each.wanted for name, made in changes.items() for each in made):
                return True
            if time.monotonic() >= until:
                return False
            time.sleep(HEARD_EVERY_S)

    def delete(self, names: Sequence[str]) -> dict[str, str | None]:
        """Deletes topics; those that are not there are no error."""
        futures = self._client.delete_topics(list(names), operation_timeout=REQUEST_TIMEOUT_S)
        return {
            name: self._outcome(future, f"Delete on topic {name}", harmless=_Error.UNKNOWN_TOPIC_OR_PART)
            for name, future in futures.items()
        }

    def positions(self, group: str) -> dict[tuple[str, int], int]:
        """What a consumer group has committed; empty where this user may not see it, or there is no such group."""
        return {(each.topic, each.partition): each.offset for each in self._committed(group)}

    def notes(self, group: str) -> dict[tuple[str, int], str]:
        """What a consumer group has committed beside its positions; as `positions`."""
        return {(each.topic, each.partition): each.metadata or "" for each in self._committed(group)}

    def owners(self, group: str) -> dict[tuple[str, int], str]:
        """Which member of a consumer group, as client and address, has which partition; as `positions`."""
        (future,) = self._client.describe_consumer_groups([group], request_timeout=REQUEST_TIMEOUT_S).values()
        found = self._unless_denied(future)
        members = found.members if found is not None else []
        return {
            (each.topic, each.partition): f"{member.client_id}{member.host}#{member.member_id[-OWNER_CHARS:]}"
            for member in members
            for each in member.assignment.topic_partitions
        }

    def newest(self, tps: Iterable[tuple[str, int]]) -> dict[tuple[str, int], int]:
        """Append time (ms) of the newest record of each partition that holds one."""
        wanted = {ck.TopicPartition(*tp): OffsetSpec.max_timestamp() for tp in tps}
        futures = self._client.list_offsets(wanted, request_timeout=REQUEST_TIMEOUT_S) if wanted else {}
        found = {(tp.topic, tp.partition): self._unless_denied(future) for tp, future in futures.items()}
        return {tp: each.timestamp for tp, each in found.items() if each is not None and each.timestamp >= 0}

    def _committed(self, group: str) -> list[ck.TopicPartition]:
        request = [ck.ConsumerGroupTopicPartitions(group)]
        (future,) = self._client.list_consumer_group_offsets(request, request_timeout=REQUEST_TIMEOUT_S).values()
        found = self._unless_denied(future)
        return [] if found is None else [each for each in found.topic_partitions if each.offset >= 0]

    def _unless_denied(self, future: Any) -> Any:
        try:
            return future.result()
        except ck.KafkaException as raised:
            if raised.args[0].code() in (*DENIED, _Error.GROUP_ID_NOT_FOUND):
                return None
            raise self._unreachable(raised) from raised

    def _metadata(self) -> Any:
        try:
            return self._client.list_topics(timeout=CHECK_TIMEOUT_S)
        except ck.KafkaException as raised:
            raise self._unreachable(raised) from raised

    def _configs(self, names: Iterable[str]) -> dict[str, dict[str, str]]:
        resources = [ConfigResource(ResourceType.TOPIC, name) for name in names]
        futures = self._client.describe_configs(resources, request_timeout=REQUEST_TIMEOUT_S) if resources else {}
        found, denied = {}, []
        for resource, future in futures.items():
            try:
                found[resource.name] = {key: entry.value for key, entry in future.result().items()}
            except ck.KafkaException as raised:
                if raised.args[0].code() not in DENIED:
                    raise self._unreachable(raised) from raised
                denied.append(resource.name)
        if denied:
            raise ConfigurationError(
                f"This user may not see how {_few(denied)} is configured: it needs DescribeConfigs on the topic. "
                "`pointsman topics plan --form acl` prints all rights that each process needs.",
                code=ErrorCode.TOPIC_REQUEST,
            )
        return found

    def _default_replication(self, brokers: Mapping[int, Any]) -> int | None:
        resource = ConfigResource(ResourceType.BROKER, str(min(brokers, default=0)))
        (future,) = self._client.describe_configs([resource], request_timeout=REQUEST_TIMEOUT_S).values()
        try:
            return int(future.result()["default.replication.factor"].value)
        except (ck.KafkaException, KeyError, ValueError):
            return None  # a right of its own, which nothing else needs

    def _outcome(self, future: Any, right: str, harmless: int | None = None) -> str | None:
        try:
            future.result()
        except ck.KafkaException as raised:
            error = raised.args[0]
            if error.code() == harmless:
                return None
            if error.code() in DENIED:
                return f"this user lacks the right {right}"
            if error.retriable() or error.code() in (_Error._TIMED_OUT, _Error._TRANSPORT):  # noqa: SLF001  their only names
                raise self._unreachable(raised) from raised
            return str(error.str())
        return None

    def _unreachable(self, raised: ck.KafkaException) -> UnreachableError:
        self._watch.is_down = True  # which this error says, and no log has to
        self._client.poll(0)  # what the client's threads heard meanwhile is told from here
        why = self._watch.refusal or raised.args[0].str()
        return UnreachableError("the Kafka broker", self._broker, why, HINT, code=ErrorCode.NO_BROKER)


def admin_client(settings: BrokerSettings, topology: ClientSettings | None, watch: ConnectionWatch) -> AdminClient:
    """One that is connected, if that takes no longer than CONNECT_S. To list topics librdkafka does not connect: it
    waits a quarter of a second until it does for another reason (decision 45). The answer is waited for: with it the
    client gives up its first connection for one to the node itself, and what is asked over the first one meanwhile may
    never be answered. Whether anybody is there is told by what is asked next."""
    client = opened(AdminClient, client_config(settings, topology, "admin"), watch)
    asked = client.describe_cluster(request_timeout=CHECK_TIMEOUT_S)
    with suppress(ck.KafkaException, TimeoutError):
        asked.result(CONNECT_S)
    return client


def copies(topic: Any) -> int:
    """Of the partition with the fewest: so many copies all of them have."""
    return min((len(partition.replicas) for partition in topic.partitions.values()), default=0)


def _new(spec: TopicSpec) -> NewTopic:
    copies = DEFAULT_REPLICATION if spec.replication is None else spec.replication
    return NewTopic(spec.name, num_partitions=spec.partitions, replication_factor=copies, config=spec.config())


def _set(change: Change) -> ConfigEntry:
    return ConfigEntry(change.key, change.wanted, incremental_operation=AlterConfigOpType.SET)


def _few(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} (and {len(names) - 1} more)"
