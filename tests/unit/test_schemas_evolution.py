"""Versions of a record: each stored one reads as today's and the other way round, and every step equals fastavro's."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.codec import Codec, DecodeFault
from schemas.definitions import Definition, UnsupportedSchemaError, compact, expand
from schemas.evolution import project_fields
from schemas.reasons import DeadReason
from schemas.records import RecordType, record
from schemas.registry import Entry, FileRegistry
from tests.support.examples import examples
from tests.support.wire import decode, definition, encode, frame, new_codec, rows, task, values_of, with_field

STORED = FileRegistry.load().entries
EVERY_VERSION = pytest.mark.parametrize("entry", STORED, ids=lambda entry: f"{entry.subject}-{entry.version}")
FEW = examples(15)


def name_of(entry: Entry) -> str:
    return entry.subject.rpartition(".")[2]


@EVERY_VERSION
@FEW
@given(data=st.data())
def test_each_stored_version_is_readable_by_todays_reader(entry: Entry, data: st.DataObject) -> None:
    today = definition(name_of(entry))
    datums = [encode(entry.definition, value) for value in data.draw(st.lists(values_of(expand(entry.definition))))]
    decoded = new_codec().decode([frame(entry.id) + datum for datum in datums], name_of(entry))
    assert decoded.faults == []
    expected = [decode(entry.definition, datum, today) for datum in datums]
    assert rows(decoded.batch, record(name_of(entry)).definition) == expected


@EVERY_VERSION
@FEW
@given(data=st.data())
def test_todays_records_are_readable_by_each_stored_version(entry: Entry, data: st.DataObject) -> None:
    today = record(name_of(entry))
    datums = [encode(definition(name_of(entry)), value) for value in data.draw(st.lists(values_of(today.definition)))]
    expected = [decode(definition(name_of(entry)), datum, entry.definition) for datum in datums]
    assert read(definition(name_of(entry)), entry.definition, datums) == expected


@cache
def resolving_codec(writer: str) -> Codec:
    return new_codec({1001: writer})


def read(writer: Definition, reader: Definition, datums: list[bytes]) -> list[dict[str, Any]]:
    """The datums through the codec's own path, by a reader that need not be today's."""
    kind = RecordType.of(expand(reader)["name"].rpartition(".")[2], reader)
    found = resolving_codec(compact(writer))._new_reader(1001, compact(writer), kind)
    if isinstance(found, DecodeFault):
        raise UnsupportedSchemaError(found.detail)
    return rows(found.read(datums), kind.definition) if datums else []


def shape(*fields: Any) -> Definition:
    """A record of these fields, each a type or a whole field; two of one position share their name."""
    named = [
        f if isinstance(f, dict) and "name" in f and "symbols" not in f and "fields" not in f else {"type": f}
        for f in fields
    ]
    return {
        "type": "record",
        "name": "Shape",
        "namespace": "pointsman",
        "fields": [{"name": f"f{i}", **field} for i, field in enumerate(named)],
    }


def enum(*symbols: str, default: str | None = "UNKNOWN") -> Definition:
    return {"type": "enum", "name": "E", "symbols": list(symbols), **({"default": default} if default else {})}


def inner(*fields: dict[str, Any]) -> Definition:
    return {"type": "record", "name": "Inner", "fields": list(fields)}


A, B = {"name": "a", "type": "int"}, {"name": "b", "type": "string", "default": "none"}
C = {"name": "c", "type": ["null", "long"], "default": None}
OLD, NEW = enum("UNKNOWN", "X", "Y"), enum("UNKNOWN", "Z", "Y", "X")

STEPS: dict[str, tuple[Definition, Definition]] = {
    "int to long": (shape("int"), shape("long")),
    "int to double": (shape("int"), shape("double")),
    "long to double": (shape("long"), shape("double")),
    "float to double": (shape("float"), shape("double")),
    "value to optional": (shape("string"), shape(["null", "string"])),
    "optional int to optional long": (shape(["null", "int"]), shape(["null", "long"])),
    "optional the other way round": (shape(["null", "string"]), shape(["string", "null"])),
    "enum loses symbols": (shape(NEW), shape(OLD)),
    "enum gains symbols": (shape(OLD), shape(NEW)),
    "optional enum loses symbols": (shape(["null", NEW]), shape(["null", OLD])),
    "enum becomes optional": (shape(NEW), shape(["null", OLD])),
    "enum in a list": (shape({"type": "array", "items": NEW}), shape({"type": "array", "items": OLD})),
    "enum in a map": (shape({"type": "map", "values": NEW}), shape({"type": "map", "values": OLD})),
    "field with a default": (shape(inner(A)), shape(inner(A, B))),
    "field dropped": (shape(inner(A, B)), shape(inner(A))),
    "fields swapped": (shape(inner(A, B)), shape(inner(B, A))),
    "optional record grows": (shape(["null", inner(A)]), shape(["null", inner(A, B, C)])),
    "record in a list grows": (
        shape({"type": "array", "items": inner(A)}),
        shape({"type": "array", "items": inner(B, A)}),
    ),
    "record in a map grows": (
        shape({"type": "map", "values": inner(A)}),
        shape({"type": "map", "values": inner(C, A)}),
    ),
    "list of optional numbers": (
        shape({"type": "array", "items": ["null", "int"]}),
        shape({"type": "array", "items": ["null", "double"]}),
    ),
    "optional list": (
        shape(["null", {"type": "array", "items": "int"}]),
        shape(["null", {"type": "array", "items": "long"}]),
    ),
    "optional map": (
        shape(["null", {"type": "map", "values": "int"}]),
        shape(["null", {"type": "map", "values": "long"}]),
    ),
    "defaults of every kind": (
        shape("string"),
        shape(
            "string",
            {"type": {"type": "map", "values": "long"}, "name": "m", "default": {"x": 1}},
            {"type": {"type": "array", "items": "string"}, "name": "l", "default": ["y"]},
            {"type": ["null", "string"], "name": "n", "default": None},
            {"type": OLD, "name": "e", "default": "Y"},
            {"type": "boolean", "name": "t", "default": True},
            {"type": "double", "name": "d", "default": 0.5},
        ),
    ),
}


@pytest.mark.parametrize(("writer", "reader"), STEPS.values(), ids=STEPS.keys())
@FEW
@given(data=st.data())
def test_columns_resolve_as_fastavro_resolves_records(
    writer: Definition, reader: Definition, data: st.DataObject
) -> None:
    datums = [encode(writer, value) for value in data.draw(st.lists(values_of(expand(writer)), max_size=6))]
    assert read(writer, reader, datums) == [decode(writer, datum, reader) for datum in datums]


def test_an_equal_schema_needs_no_step() -> None:
    kind = record("AgentEvent")
    assert project_fields(kind.definition, kind.definition, list(kind.arrow), "AgentEvent") is None


INCOMPATIBLE: dict[str, tuple[Definition, Definition, str]] = {
    "double to long": (shape("double"), shape("long"), "Shape.f0: double cannot be read as long"),
    "text to number": (shape("string"), shape("long"), "Shape.f0: string cannot be read as long"),
    "optional to value": (
        shape(["null", "string"]),
        shape("string"),
        "Shape.f0: [null, string] cannot be read as string",
    ),
    "optional to a union without null": (
        shape(["null", "string"]),
        shape(["string"]),
        "Shape.f0: [null, string] cannot be read as [string]",
    ),
    "optional to optional of another": (
        shape(["null", "string"]),
        shape(["null", "long"]),
        "Shape.f0: string cannot be read as long",
    ),
    "union of several": (
        shape(["null", "string", "long"]),
        shape(["null", "string"]),
        "Shape.f0: [null, string, long] cannot be read as [null, string]",
    ),
    "list to map": (
        shape({"type": "array", "items": "int"}),
        shape({"type": "map", "values": "int"}),
        "Shape.f0: array cannot be read as map",
    ),
    "record to text": (shape(inner(A)), shape("string"), "Shape.f0: pointsman.Inner cannot be read as string"),
    "enum without default": (
        shape(NEW),
        shape(enum("UNKNOWN", "X", default=None)),
        "Shape.f0: pointsman.E has no default for symbols it does not know",
    ),
    "field without default": (
        shape(inner(A)),
        shape(inner(A, {"name": "b", "type": "string"})),
        "Shape.f0.b is missing, and has no default",
    ),
    "deep in a list": (
        shape({"type": "array", "items": inner({"name": "a", "type": "string"})}),
        shape({"type": "array", "items": inner(A)}),
        "Shape.f0[].a: string cannot be read as int",
    ),
    "bytes": (shape("bytes"), shape("string"), "type bytes is not supported"),
    "logical type": (
        shape({"type": "long", "logicalType": "date"}),
        shape("long"),
        "logical type date is not supported",
    ),
}


@pytest.mark.parametrize(("writer", "reader", "message"), INCOMPATIBLE.values(), ids=INCOMPATIBLE.keys())
def test_what_cannot_be_read_is_refused_by_name(writer: Definition, reader: Definition, message: str) -> None:
    with pytest.raises(UnsupportedSchemaError) as raised:
        read(writer, reader, [b""])
    assert str(raised.value) == f"schema id 1001: {message}"


def test_a_writer_that_cannot_be_read_costs_its_own_records_only() -> None:
    today = definition("TaskSubmitted")
    said = {"name": "submitted_at", "type": "string"}
    fields = [said if f["name"] == "submitted_at" else f for f in today["fields"]]
    codec = new_codec({1001: today | {"fields": fields}})
    strange = frame(1001) + encode(today | {"fields": fields}, task(submitted_at="yesterday"))
    plain = codec.frame("TaskSubmitted") + encode(today, task())
    decoded = codec.decode([plain, strange, plain], "TaskSubmitted")
    assert [(fault.row, fault.reason) for fault in decoded.faults] == [(1, DeadReason.WRONG_SCHEMA)]
    assert "TaskSubmitted.submitted_at: string cannot be read as long" in decoded.faults[0].detail
    assert decoded.rows.tolist() == [0, 2]


def test_a_symbol_that_is_newer_than_this_reader_reads_as_unknown() -> None:
    today = definition("TaskSubmitted")
    [tier] = [field["type"] for field in today["fields"] if field["name"] == "value_tier"]
    grown = tier | {"symbols": [*tier["symbols"], "UTMOST"]}
    newer = today | {"fields": [f | ({"type": grown} if f["name"] == "value_tier" else {}) for f in today["fields"]]}
    newer = with_field(newer, {"name": "mood", "type": ["null", "string"], "default": None})
    codec = new_codec({1001: newer})
    values = [frame(1001) + encode(newer, {**task(value_tier=tier), "mood": "x"}) for tier in ("UTMOST", "HIGH")]
    decoded = codec.decode(values, "TaskSubmitted")
    assert decoded.batch.column("value_tier").to_pylist() == ["UNKNOWN", "HIGH"]


@pytest.mark.parametrize("name", sorted({name_of(entry) for entry in STORED}))
def test_every_enum_of_todays_records_has_unknown_as_its_default(name: str) -> None:
    def enums(schema: Definition) -> list[Definition]:
        match schema:
            case list():
                return [each for branch in schema for each in enums(branch)]
            case {"type": "enum"}:
                return [schema]
            case {"type": "record", "fields": fields}:
                return [each for field in fields for each in enums(field["type"])]
            case {"type": "array", "items": items} | {"type": "map", "values": items}:
                return enums(items)
        return []

    for each in enums(record(name).definition):
        assert each["default"] == "UNKNOWN"
        assert each["symbols"][0] == "UNKNOWN"
