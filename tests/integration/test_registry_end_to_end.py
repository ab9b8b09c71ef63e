"""A producer and a subscriber that know nothing of this project but a registry's URL: Confluent's own serializers."""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path
from typing import Any

import confluent_kafka as ck
import pytest
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

from schemas.registry import FileRegistry
from streams.registry.door import RegistryDoor
from tests.support.console import answering, topology_file
from tests.support.waiting import deadline_in, leaving

TIMEOUT_S = 60.0


def first_result(broker: str, topic: str, key: str, deserialize: AvroDeserializer) -> dict[str, Any]:
    consumer = ck.Consumer({"bootstrap.servers": broker, "group.id": key, "auto.offset.reset": "earliest"})
    deadline = deadline_in(TIMEOUT_S)
    with leaving(consumer):
        consumer.subscribe([topic])
        while time.monotonic() < deadline:
            message = consumer.poll(0.2)
            if message is not None and message.error() is None:
                result = deserialize(message.value(), SerializationContext(topic, MessageField.VALUE))
                assert isinstance(result, dict)
                if result["task_id"] == key:
                    return result
    raise AssertionError("no result")


@pytest.mark.broker
def test_confluents_serializer_submits_and_its_deserializer_reads_the_result(
    broker: str, prefix: str, tmp_path: Path, repository: Path
) -> None:
    with answering(broker, topology_file(repository, tmp_path, prefix)) as topology:
        topics = topology.topics()
        with (
            closing(RegistryDoor(FileRegistry.load(), topics, 0)) as door,
            SchemaRegistryClient({"url": door.url}) as client,
        ):
            text = client.get_latest_version(f"{topics.submitted}-value").schema.schema_str
            serialize = AvroSerializer(client, text)
            task = {"task_id": "t-1", "text": "hello", "conversation_id": "c-1", "labels": {"team": "ops"}}
            value = serialize(task, SerializationContext(topics.submitted, MessageField.VALUE))
            producer = ck.Producer({"bootstrap.servers": broker, "partitioner": "murmur2_random"})
            producer.produce(topics.submitted, value, key="c-1")
            assert producer.flush(TIMEOUT_S) == 0
            result = first_result(broker, topics.results, "t-1", AvroDeserializer(client))
    assert (result["status"], result["answer"], result["conversation_id"]) == ("COMPLETED", "echo: hello", "c-1")
    assert result["labels"] == {"team": "ops"}
