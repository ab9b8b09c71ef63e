"""The registry's door, as Confluent's own client, its serializers and plain HTTP see it."""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import fastavro
import pytest
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.schema_registry.error import SchemaRegistryError
from confluent_kafka.serialization import MessageField, SerializationContext

from schemas.errors import ConfigurationError
from schemas.registry import FileRegistry
from schemas.topics import Topics
from streams.registry.door import BODY_BYTES_MAX, CONTENT_TYPE, RegistryDoor
from tests.support.waiting import PATIENCE
from tests.support.wire import definition, frame, new_codec, task

TOPICS = Topics(agents=("revenue_agent",), partitions=4)
SUBMITTED = "tasks.submitted.v1-value"


@pytest.fixture(scope="module")
def door() -> Iterator[RegistryDoor]:
    door = RegistryDoor(FileRegistry.load(), TOPICS, 0)
    yield door
    door.close()


@pytest.fixture
def client(door: RegistryDoor) -> Iterator[SchemaRegistryClient]:
    with SchemaRegistryClient({"url": door.url}) as client:
        yield client


@pytest.fixture
def connection(door: RegistryDoor) -> Iterator[http.client.HTTPConnection]:
    connection = http.client.HTTPConnection("127.0.0.1", door.port, timeout=PATIENCE * 20)
    yield connection
    connection.close()


def ask(connection: http.client.HTTPConnection, method: str, path: str, *args: Any, **more: Any) -> tuple[int, bytes]:
    connection.request(method, path, *args, **more)
    answer = connection.getresponse()
    assert answer.headers["Content-Type"] == CONTENT_TYPE
    return answer.status, answer.read()


def test_confluents_client_reads_everything(client: SchemaRegistryClient) -> None:
    assert SUBMITTED in client.get_subjects()
    assert client.get_versions(SUBMITTED) == [1]
    latest = client.get_latest_version(SUBMITTED)
    assert (latest.subject, latest.version, latest.schema_id) == (SUBMITTED, 1, 11)
    assert client.get_version(SUBMITTED, 1).schema == latest.schema == client.get_schema(11)
    assert SUBMITTED in client.get_subjects_by_schema_id(11)
    assert SUBMITTED in [each.subject for each in client.get_schema_versions(11)]
    assert client.get_schema_types() == ["AVRO"]
    assert client.get_contexts() == ["."]
    assert client.get_compatibility() == client.get_compatibility(SUBMITTED) == "BACKWARD_TRANSITIVE"
    assert client.get_mode(SUBMITTED) == client.get_global_mode() == "READONLY"
    assert client.test_compatibility(SUBMITTED, Schema(json.dumps(definition("TaskSubmitted")), "AVRO"))
    assert not client.test_compatibility_all_versions(SUBMITTED, Schema(json.dumps(definition("TaskResult")), "AVRO"))


def test_confluents_client_hears_why_nothing_is_changed(client: SchemaRegistryClient) -> None:
    with pytest.raises(SchemaRegistryError, match="read-only mode") as refused:
        client.register_schema("mine-value", Schema('"string"', "AVRO"))
    assert (refused.value.http_status_code, refused.value.error_code) == (422, 42205)
    with pytest.raises(SchemaRegistryError, match="read-only mode"):
        client.delete_subject(SUBMITTED)
    with pytest.raises(SchemaRegistryError, match="not found") as unknown:
        client.get_schema(99)
    assert (unknown.value.http_status_code, unknown.value.error_code) == (404, 40403)


@pytest.mark.parametrize("how", ["registers", "looks up", "takes the latest"])
def test_what_confluents_serializer_writes_the_codec_reads(
    client: SchemaRegistryClient, repository: Path, how: str
) -> None:
    """The schema is the file of the repository, docs and all, as a producer would copy it."""
    text = (repository / "schemas/avro/TaskSubmitted.avsc").read_text("utf-8")
    settings = {"auto.register.schemas": how == "registers", "use.latest.version": how == "takes the latest"}
    serialize = AvroSerializer(client, text, conf=settings)
    value = serialize({"task_id": "t1", "text": "hi"}, SerializationContext("tasks.submitted.v1", MessageField.VALUE))
    assert value is not None
    assert value.startswith(frame(11))
    decoded = new_codec().decode([value], "TaskSubmitted")
    assert decoded.faults == []
    assert decoded.batch.column("task_id").to_pylist() == ["t1"]


def test_what_the_codec_writes_confluents_deserializer_reads(client: SchemaRegistryClient) -> None:
    datum = BytesIO()
    fastavro.schemaless_writer(datum, fastavro.parse_schema(definition("TaskSubmitted")), task(text="hi"))
    read = AvroDeserializer(client)(
        frame(11) + datum.getvalue(), SerializationContext("tasks.submitted.v1", MessageField.VALUE)
    )
    assert read == task(text="hi")


def test_a_connection_serves_many_requests(connection: http.client.HTTPConnection) -> None:
    assert ask(connection, "HEAD", "/") == (200, b"")
    assert ask(connection, "GET", "/") == (200, b"{}")
    body = json.dumps({"schema": "{}"})
    assert ask(connection, "POST", f"/subjects/{SUBMITTED}", body)[0] == 404
    assert ask(connection, "PUT", "/config", b'{"compatibility": "NONE"}')[0] == 422
    assert ask(connection, "DELETE", f"/subjects/{SUBMITTED}")[0] == 422
    assert ask(connection, "GET", "/subjects/tasks%2Esubmitted.v1-value/versions") == (200, b"[1]")


def test_a_body_without_length_or_bound_is_refused(connection: http.client.HTTPConnection) -> None:
    status, answer = ask(connection, "POST", f"/subjects/{SUBMITTED}", iter([b"{}"]), encode_chunked=True)
    assert (status, json.loads(answer)["error_code"]) == (411, 411)
    connection.close()
    head = {"Content-Length": str(BODY_BYTES_MAX + 1)}
    status, answer = ask(connection, "POST", f"/subjects/{SUBMITTED}", None, head)
    assert (status, json.loads(answer)["error_code"]) == (413, 413)


def test_who_still_sends_a_body_that_was_refused_can_read_why(door: RegistryDoor) -> None:
    with socket.create_connection(("127.0.0.1", door.port), timeout=PATIENCE * 20) as client:
        client.sendall(f"POST /subjects/{SUBMITTED} HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        assert client.recv(1 << 16).startswith(b"HTTP/1.1 411 ")
        for _ in range(20):
            client.sendall(b"400\r\n" + bytes(1024) + b"\r\n")
            time.sleep(0.01)  # a reset would have come back by the next
        client.shutdown(socket.SHUT_WR)
        assert client.recv(1) == b""


def test_topics_may_change_while_it_serves(connection: http.client.HTTPConnection) -> None:
    door = RegistryDoor(FileRegistry.load(), TOPICS, 0)
    try:
        connection = http.client.HTTPConnection("127.0.0.1", door.port, timeout=PATIENCE * 20)
        path = "/subjects/agents.weather_agent.inbox.v1-value/versions"
        assert ask(connection, "GET", path)[0] == 404
        door.serve(Topics(agents=("weather_agent",), partitions=4))
        assert ask(connection, "GET", path) == (200, b"[1]")
        connection.close()
    finally:
        door.close()


def test_a_port_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match=rf"cannot listen on 127\.0\.0\.1:{port} .*--listen HOST:PORT"):
            RegistryDoor(FileRegistry.load(), TOPICS, port)


def test_it_listens_where_it_is_told() -> None:
    door = RegistryDoor(FileRegistry.load(), TOPICS, 0, "::1")
    try:
        assert door.url == f"http://[::1]:{door.port}"
        connection = http.client.HTTPConnection("::1", door.port, timeout=PATIENCE * 20)
        assert ask(connection, "GET", "/") == (200, b"{}")
        connection.close()
    finally:
        door.close()
