"""Records as plain data, on the wire by fastavro, and registries of a test's own."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from copy import deepcopy
from io import BytesIO
from typing import Any

import confluent_kafka as ck
import fastavro
import pyarrow as pa
from hypothesis import strategies as st

from schemas.codec import Codec
from schemas.definitions import Definition, compact
from schemas.errors import UnknownSchemaError
from schemas.records import RECORDS, record
from schemas.registry import NOT_REGISTERED, FileRegistry, Schema
from tests.support.waiting import leaving

RECORD_BYTES_MAX = 262_144
ON_THE_WIRE = sorted(set(RECORDS) - NOT_REGISTERED)


class MemoryRegistry:
    """A registry of a test's own: the file's schemas, and others under the ids that the test gives them."""

    def __init__(self, others: Mapping[int, Definition | str]) -> None:
        self.file = FileRegistry.load()
        self.others = {i: each if isinstance(each, str) else compact(each) for i, each in others.items()}

    def get_schema(self, schema_id: int, _subject_name: str | None = None, /) -> Schema:
        if schema_id in self.others:
            return Schema(self.others[schema_id])
        return self.file.get_schema(schema_id)

    def register_schema(self, subject_name: str, schema: Any, /) -> int:
        return self.file.register_schema(subject_name, schema)


class EmptyRegistry(MemoryRegistry):
    """Knows the test's schemas only."""

    def get_schema(self, schema_id: int, _subject_name: str | None = None, /) -> Schema:
        if schema_id not in self.others:
            raise UnknownSchemaError(schema_id)
        return Schema(self.others[schema_id])


def new_codec(others: Mapping[int, Definition | str] | None = None, record_bytes_max: int = RECORD_BYTES_MAX) -> Codec:
    return Codec(MemoryRegistry(others or {}), record_bytes_max)


def definition(record_name: str) -> Definition:
    """The schema as its file has it, free to be changed."""
    return deepcopy(json.loads(record(record_name).avro))


def with_field(schema: Definition, field: Mapping[str, Any], at: int | None = None) -> Definition:
    fields = list(schema["fields"])
    fields.insert(len(fields) if at is None else at, field)
    return schema | {"fields": fields}


def without_field(schema: Definition, name: str) -> Definition:
    assert any(field["name"] == name for field in schema["fields"]), name
    return schema | {"fields": [field for field in schema["fields"] if field["name"] != name]}


def frame(schema_id: int) -> bytes:
    return struct.pack(">BI", 0, schema_id)


def encode(schema: Definition, value: Mapping[str, Any]) -> bytes:
    """The datum that fastavro writes."""
    out = BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(deepcopy(schema)), value)
    return out.getvalue()


def decode(writer: Definition, datum: bytes, reader: Definition | None = None) -> dict[str, Any]:
    """What fastavro reads; bytes after the datum are left alone."""
    wanted = None if reader is None else fastavro.parse_schema(deepcopy(reader))
    value = fastavro.schemaless_reader(BytesIO(datum), fastavro.parse_schema(deepcopy(writer)), wanted)
    assert isinstance(value, dict)
    return value


def long(number: int) -> bytes:
    """Avro's variable-length zigzag form of a 64-bit integer."""
    bits = ((number << 1) ^ (number >> 63)) & (2**64 - 1)
    out = bytearray()
    while bits > 0x7F:
        out.append(bits & 0x7F | 0x80)
        bits >>= 7
    return bytes([*out, bits])


def rows(batch: pa.RecordBatch, schema: Definition) -> list[dict[str, Any]]:
    """The batch as fastavro would say it: maps as dicts."""
    return [plain(schema, row) for row in batch.to_pylist()]


def plain(schema: Definition, value: Any) -> Any:
    """A value out of Arrow as fastavro would say it; `schema` is expanded."""
    match schema:
        case list():
            return None if value is None else plain(next(branch for branch in schema if branch != "null"), value)
        case {"type": "record", "fields": fields}:
            return {field["name"]: plain(field["type"], value[field["name"]]) for field in fields}
        case {"type": "array", "items": items}:
            return [plain(items, item) for item in value]
        case {"type": "map", "values": values}:
            return {key: plain(values, item) for key, item in value}
    return value


def to_batch(record_name: str, values: Sequence[Mapping[str, Any]]) -> pa.RecordBatch:
    kind = record(record_name)
    return pa.RecordBatch.from_pylist([_arrow(kind.definition, value) for value in values], schema=kind.arrow)


def _arrow(schema: Definition, value: Any) -> Any:
    match schema:
        case list():
            return None if value is None else _arrow(next(branch for branch in schema if branch != "null"), value)
        case {"type": "record", "fields": fields}:
            return {field["name"]: _arrow(field["type"], value[field["name"]]) for field in fields}
        case {"type": "array", "items": items}:
            return [_arrow(items, item) for item in value]
        case {"type": "map", "values": values}:
            return [(key, _arrow(values, item)) for key, item in value.items()]
    return value


PRIMITIVE_VALUES: dict[str, st.SearchStrategy[Any]] = {
    "null": st.none(),
    "boolean": st.booleans(),
    "int": st.integers(-(2**31), 2**31 - 1),
    "long": st.integers(-(2**63), 2**63 - 1),
    "float": st.floats(allow_nan=False, width=32),
    "double": st.floats(allow_nan=False),
    "string": st.text(max_size=12),
}


def values_of(schema: Definition) -> st.SearchStrategy[Any]:
    """Any value of an expanded schema, the absurd ones included; NaN is left out, as it equals nothing."""
    match schema:
        case str():
            return PRIMITIVE_VALUES[schema]
        case list():
            return st.one_of(*map(values_of, schema))
        case {"type": "enum", "symbols": symbols}:
            return st.sampled_from(symbols)
        case {"type": "array", "items": items}:
            return st.lists(values_of(items), max_size=3)
        case {"type": "map", "values": values}:
            return st.dictionaries(st.text(max_size=5), values_of(values), max_size=3)
        case {"type": "record", "fields": fields}:
            return st.fixed_dictionaries({field["name"]: values_of(field["type"]) for field in fields})
    raise AssertionError(schema)


def records_of(record_name: str, max_size: int = 6) -> st.SearchStrategy[list[dict[str, Any]]]:
    return st.lists(values_of(record(record_name).definition), max_size=max_size)


def task(**fields: Any) -> dict[str, Any]:
    """A TaskSubmitted in full."""
    kind = record("TaskSubmitted")
    stated = {"task_id": "t1", "text": "What was the revenue?", "submitted_at": 1_700_000_000_000_000}
    return {name: {**kind.defaults, **stated, **fields}[name] for name in kind.arrow.names}


def read_topic(broker: str, topic: str) -> list[ck.Message]:
    """What a foreign client finds in all partitions of the topic."""
    consumer = ck.Consumer({"bootstrap.servers": broker, "group.id": "test", "enable.partition.eof": True})
    with leaving(consumer):
        partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
        consumer.assign([ck.TopicPartition(topic, number, ck.OFFSET_BEGINNING) for number in partitions])
        found: list[ck.Message] = []
        ended: set[int] = set()
        while len(ended) < len(partitions):
            message = consumer.poll(10)
            assert message is not None
            error = message.error()
            if error is None:
                found.append(message)
            elif error.code() == ck.KafkaError._PARTITION_EOF:
                ended.add(message.partition())  # reported once more where records came behind the end
            else:
                assert error.retriable(), error
        return found
