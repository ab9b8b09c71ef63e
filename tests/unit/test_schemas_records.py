"""Record types, schema documents as data, and the columns that `table` makes."""

from __future__ import annotations

import json
from typing import Any

import fastavro
import pyarrow as pa
import pytest

from schemas.definitions import UnsupportedSchemaError, collapse, compact, expand, parse
from schemas.records import RECORDS, record, table
from tests.support.wire import definition

EVERY_RECORD = pytest.mark.parametrize("name", sorted(RECORDS))


@EVERY_RECORD
def test_expanding_and_collapsing_give_the_schema_back(name: str) -> None:
    document = definition(name)
    assert expand(collapse(expand(document))) == expand(document)
    canonical = fastavro.schema.to_parsing_canonical_form
    assert canonical(collapse(expand(document))) == canonical(document)


@EVERY_RECORD
def test_a_record_knows_its_subject_enums_and_defaults(name: str) -> None:
    kind = record(name)
    fields = {field["name"]: field for field in json.loads(kind.avro)["fields"]}
    assert kind.subject == f"pointsman.{name}"
    assert kind.arrow.names == list(fields)
    assert dict(kind.defaults) == {key: field["default"] for key, field in fields.items() if "default" in field}
    assert all(symbols[0] == "UNKNOWN" for symbols in kind.enums.values())
    assert '"doc"' not in kind.avro


def test_nested_enums_go_by_their_dotted_path() -> None:
    assert record("TaskDispatched").enums["task.value_tier"] == ("UNKNOWN", "LOW", "MEDIUM", "HIGH")


def test_an_unknown_record_is_answered_with_those_there_are() -> None:
    with pytest.raises(KeyError, match=r"no record 'Task'; there are AgentCard, .*TaskSubmitted"):
        record("Task")


def test_a_doc_within_a_default_is_data() -> None:
    field = {"name": "m", "type": {"type": "map", "values": "string"}, "default": {"doc": "x"}, "doc": "gone"}
    text = compact({"type": "record", "name": "R", "doc": "gone", "fields": [field]})
    assert json.loads(text)["fields"][0] == {"name": "m", "type": field["type"], "default": {"doc": "x"}}


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("bytes", "type bytes is not supported"),
        ("Elsewhere", "type Elsewhere is not supported"),
        ({"type": "fixed", "name": "F", "size": 4}, "is not supported"),
        ({"type": "bytes"}, "is not supported"),
        ({"type": "long", "logicalType": "timestamp-micros"}, "logical type timestamp-micros is not supported"),
        ({"type": "record", "name": "R", "fields": [{"name": "r", "type": ["null", "R"]}]}, "R contains itself"),
        ({"type": "array", "items": "null"}, "an array of items that take no bytes"),
        ({"type": "record", "name": "R", "fields": [{"type": "int"}]}, "no Avro schema"),
        ({"type": "record", "name": "R", "fields": ["x"]}, "no Avro schema"),
        ({"type": "record", "name": "R"}, "is not supported"),
        ({}, "is not supported"),
        (7, "is not supported"),
    ],
)
def test_a_schema_that_this_codec_does_not_carry_is_refused(document: Any, message: str) -> None:
    with pytest.raises(UnsupportedSchemaError, match=message):
        expand(document)
    with pytest.raises(UnsupportedSchemaError, match=message):
        parse(json.dumps(document))


def test_one_name_for_two_types_cannot_be_said() -> None:
    def enum(*symbols: str) -> dict[str, Any]:
        return {"type": "enum", "name": "E", "symbols": list(symbols)}

    fields = [{"name": "a", "type": enum("X")}, {"name": "b", "type": enum("Y")}]
    with pytest.raises(UnsupportedSchemaError, match="E stands for two different types"):
        collapse({"type": "record", "name": "R", "fields": fields})


TASK: dict[str, Any] = {"task_id": ["a", "b"], "text": "same"}


def test_a_table_takes_columns_and_constants_and_fills_in_defaults() -> None:
    batch = table("TaskSubmitted", {**TASK, "labels": {"k": "v"}, "confidence": [0.5, None], "depth": pa.scalar(3)}, 2)
    assert batch.schema == record("TaskSubmitted").arrow
    first, second = batch.to_pylist()
    assert (first["task_id"], first["text"], first["tenant"], first["value_tier"]) == (
        "a",
        "same",
        "default",
        "UNKNOWN",
    )
    assert (first["confidence"], second["confidence"]) == (0.5, None)
    assert (second["labels"], second["depth"], second["traceparent"]) == ([("k", "v")], 3, None)


def test_a_table_of_no_rows_has_all_columns() -> None:
    batch = table("TaskSubmitted", {"task_id": [], "text": "x"}, 0)
    assert (batch.num_rows, batch.schema) == (0, record("TaskSubmitted").arrow)


def test_columns_of_neighbouring_types_are_cast() -> None:
    columns = {
        "task_id": pa.array(["a", "b"]).dictionary_encode(),
        "text": pa.chunked_array([["x"], ["y"]], pa.large_string()),
        "submitted_at": pa.array([1, 2], pa.int32()),
        "depth": pa.array([1, 2], pa.int64()),
    }
    batch = table("TaskSubmitted", columns, 2)
    assert batch.schema == record("TaskSubmitted").arrow
    assert batch.select(["task_id", "text", "submitted_at", "depth"]).to_pylist() == [
        {"task_id": "a", "text": "x", "submitted_at": 1, "depth": 1},
        {"task_id": "b", "text": "y", "submitted_at": 2, "depth": 2},
    ]


def test_a_nested_record_is_a_mapping_of_columns_or_a_struct() -> None:
    event = {"event_id": ["e"], "kind": "COMPLETED"}
    slip = {"agent_id": "a", "attempt": 1, "intent": "i", "confidence": 0.5, "reason": "r", "route_version": "v"}
    slip |= {"attempts": 1, "timeout_ms": 1, "deadline_default_ms": 1, "routed_at": 1}
    identity = {"task_id": "t", "tenant": "x", "submitted_at": 1, "deadline_ms": 2}
    made = table("AgentEvent", {**event, "slip": slip, "task": identity}, 1)
    again = table("AgentEvent", {**event, "slip": made.column("slip"), "task": made.column("task")}, 1)
    assert again.equals(made)
    [row] = made.to_pylist()
    assert (row["slip"]["stage"], row["slip"]["panel"], row["task"]["labels"]) == ("WORK", [], [])


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"task_id": ["a", "b"]}, "TaskSubmitted.text is missing and has no default"),
        ({**TASK, "colour": "red"}, "TaskSubmitted has no field colour"),
        ({**TASK, "tenant": ["x"]}, "TaskSubmitted.tenant has 1 rows, not 2"),
        ({**TASK, "tenant": None}, "TaskSubmitted.tenant takes no null, but has 2"),
        ({**TASK, "tenant": ["x", None]}, "TaskSubmitted.tenant takes no null, but has 1"),
        ({**TASK, "depth": pa.array([2**31, 0])}, "TaskSubmitted.depth: int64 is no int32"),
        ({**TASK, "submitted_at": pa.array(["x", "y"])}, "TaskSubmitted.submitted_at: string is no int64"),
    ],
)
def test_a_table_that_would_be_no_record_is_refused(columns: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        table("TaskSubmitted", columns, 2)
