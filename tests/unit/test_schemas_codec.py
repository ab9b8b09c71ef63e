"""The codec's edges: frames, every reason to refuse a value, bombs, foreign registries, dispatches of two halves."""

from __future__ import annotations

import resource
from time import monotonic
from typing import Any

import pyarrow as pa
import pytest

from schemas.codec import CARRIED_MAX, Codec
from schemas.reasons import DeadReason
from schemas.records import record, table
from schemas.registry import Entry, FileRegistry, Schema, missing
from tests.support.wire import (
    ON_THE_WIRE,
    EmptyRegistry,
    decode,
    definition,
    encode,
    frame,
    long,
    new_codec,
    rows,
    task,
    with_field,
    without_field,
)

TASK = definition("TaskSubmitted")
CODEC = new_codec()
DATUM = encode(TASK, task())
FRAME = CODEC.frame("TaskSubmitted")
SECRET = "hunter2"


def reasons(codec: Codec, *values: bytes | None, record_name: str = "TaskSubmitted") -> list[DeadReason]:
    return [fault.reason for fault in codec.decode(values, record_name).faults]


def test_a_value_is_byte_0_the_id_as_4_bytes_big_endian_and_the_datum() -> None:
    [entry] = [each for each in FileRegistry.load().entries if each.subject == "pointsman.TaskSubmitted"][-1:]
    batch = CODEC.decode([FRAME + DATUM], "TaskSubmitted").batch
    assert CODEC.encode(batch, "TaskSubmitted") == [b"\x00" + entry.id.to_bytes(4, "big") + DATUM]
    assert CODEC.encode_datums(batch, "TaskSubmitted") == [DATUM]


@pytest.mark.parametrize("name", ON_THE_WIRE)
def test_nothing_decodes_to_no_rows_in_todays_columns_and_encodes_to_nothing(name: str) -> None:
    decoded = CODEC.decode([], name)
    assert (decoded.batch.num_rows, decoded.faults, decoded.rows.tolist()) == (0, [], [])
    assert decoded.batch.schema == record(name).arrow
    assert CODEC.encode(decoded.batch, name) == []
    only_bad = CODEC.decode([None], name)
    assert only_bad.batch.schema == record(name).arrow


def test_a_writers_fields_may_bear_any_names() -> None:
    """Also those by which the decoder is told of what stands before a datum."""
    others = [{"name": name, "type": "string", "default": ""} for name in ("magic", "schema_id", "magic_")]
    wide = TASK | {"fields": [*others, *TASK["fields"]]}
    codec = new_codec({1001: wide})
    value = frame(1001) + encode(wide, dict.fromkeys(("magic", "schema_id", "magic_"), "x") | task())
    batch = codec.decode([value, value], "TaskSubmitted").batch
    assert rows(batch, record("TaskSubmitted").definition) == [task(), task()]


def test_bytes_after_a_datum_are_ignored() -> None:
    decoded = CODEC.decode([FRAME + DATUM + b"and more"], "TaskSubmitted")
    assert rows(decoded.batch, record("TaskSubmitted").definition) == [task()]


def test_each_row_carries_the_schema_it_was_written_with() -> None:
    codec = new_codec({1001: without_field(TASK, "language")})
    older = frame(1001) + encode(without_field(TASK, "language"), task())
    decoded = codec.decode([older, FRAME + DATUM, None, older], "TaskSubmitted")
    today = int.from_bytes(FRAME[1:], "big")
    assert decoded.schema_ids.tolist() == [1001, today, 1001]
    assert codec.decode([older, older], "TaskSubmitted").schema_ids.tolist() == [1001, 1001]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, DeadReason.NULL_VALUE),
        (b"", DeadReason.EMPTY_VALUE),
        (b"\x00", DeadReason.UNFRAMED),
        (FRAME[:4], DeadReason.UNFRAMED),
        (b"hunter2 says hello", DeadReason.UNFRAMED),
        (b"\x02" + FRAME[1:] + DATUM, DeadReason.UNFRAMED),
        (frame(77_777) + DATUM, DeadReason.UNKNOWN_SCHEMA),
        (new_codec().frame("TaskResult") + DATUM, DeadReason.WRONG_SCHEMA),
        (FRAME, DeadReason.UNDECODABLE),
        (FRAME + DATUM[:-1], DeadReason.UNDECODABLE),
        (FRAME + encode(TASK, task(text=SECRET))[:-2], DeadReason.UNDECODABLE),
        (FRAME + encode(TASK, task(text=SECRET)).replace(b"hunter2", b"hunter\xff"), DeadReason.INVALID_UTF8),
        (FRAME + encode(TASK, task(labels={SECRET: "x"})).replace(b"hunter2", b"hunter\xc0"), DeadReason.INVALID_UTF8),
    ],
)
def test_a_value_that_is_no_record_has_one_reason_and_is_not_quoted(value: bytes | None, reason: DeadReason) -> None:
    alone = CODEC.decode([value], "TaskSubmitted")
    [fault] = alone.faults
    assert (fault.row, fault.reason, alone.batch.num_rows) == (0, reason, 0)
    assert fault.detail
    assert "hunter" not in fault.detail
    among = CODEC.decode([FRAME + DATUM, value, FRAME + DATUM], "TaskSubmitted")
    assert [(fault.row, fault.reason) for fault in among.faults] == [(1, reason)]
    assert among.rows.tolist() == [0, 2]


def test_an_enum_index_beyond_its_symbols_is_undecodable() -> None:
    tiers = {"type": "enum", "name": "ValueTier", "symbols": ["UNKNOWN", "LOW", "MEDIUM", "HIGH", "HUGE"]}
    fields = [f | ({"type": tiers} if f["name"] == "value_tier" else {}) for f in TASK["fields"]]
    beyond = encode(TASK | {"fields": fields}, task(value_tier="HUGE"))
    assert reasons(CODEC, FRAME + beyond) == [DeadReason.UNDECODABLE]


def test_a_number_beyond_32_bits_in_an_int_is_refused_not_wrapped() -> None:
    wide = [f | ({"type": "long"} if f["name"] == "depth" else {}) for f in TASK["fields"]]
    values = [FRAME + encode(TASK | {"fields": wide}, task(depth=depth)) for depth in (2**31, -(2**31) - 1, 2**31 - 1)]
    decoded = CODEC.decode(values, "TaskSubmitted")
    assert [fault.reason for fault in decoded.faults] == [DeadReason.UNDECODABLE] * 2
    assert decoded.batch.column("depth").to_pylist() == [2**31 - 1]


@pytest.mark.parametrize(("room", "faults"), [(0, []), (-1, [DeadReason.OVERSIZED])])
def test_the_size_limit_counts_the_whole_value(room: int, faults: list[DeadReason]) -> None:
    codec = new_codec(record_bytes_max=len(FRAME + DATUM) + room)
    assert reasons(codec, FRAME + DATUM) == faults
    assert reasons(codec, FRAME + DATUM, b"") == [*faults, DeadReason.EMPTY_VALUE]


def test_a_dispatch_may_be_larger_than_the_task_in_it() -> None:
    codec = new_codec(record_bytes_max=len(FRAME + DATUM))
    dispatch = codec.frame("TaskDispatched") + slip_datum() + DATUM
    assert reasons(codec, dispatch, record_name="TaskDispatched") == []
    padding = bytes(CARRIED_MAX * codec.record_bytes_max)
    assert reasons(codec, dispatch + padding, record_name="TaskDispatched") == [DeadReason.OVERSIZED]


STRINGS = {"type": "array", "items": "string"}
BOMBS = {
    "list of 2^40 items": ("citations", long(2**40)),
    "list of 2^63-1 items": ("citations", long(2**63 - 1)),
    "list of -2^63 items": ("citations", long(-(2**63)) + long(1)),
    "list of -2^40 items in 2^40 bytes": ("citations", long(-(2**40)) + long(2**40)),
    "list of 2^40 items, some there": ("citations", long(2**40) + long(1) + b"x"),
    "list that never ends": ("citations", (long(1) + long(0)) * 100_000),
    "map of 2^40 entries": ("labels", long(2**40)),
    "map of -2^63 entries": ("labels", long(-(2**63)) + long(1)),
    "text of 2^40 bytes": ("text", long(2**40)),
    "text of 2^63-1 bytes": ("text", long(2**63 - 1)),
    "text of -1 bytes": ("text", long(-1)),
    "text of -2^63 bytes": ("text", long(-(2**63))),
    "varint without end": ("text", b"\xff" * 1000),
}


@pytest.mark.parametrize(("field", "bomb"), BOMBS.values(), ids=BOMBS.keys())
def test_a_bomb_is_refused_without_taking_memory_or_time(field: str, bomb: bytes) -> None:
    name = "AgentEvent" if field == "citations" else "TaskSubmitted"
    value = CODEC.frame(name) + up_to(name, field) + bomb
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, monotonic()
    decoded = CODEC.decode([value] * 64, name)
    assert [fault.reason for fault in decoded.faults] == [DeadReason.UNDECODABLE] * 64
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 256 * 1024, "KiB"
    assert monotonic() - start < 10


def up_to(name: str, field: str) -> bytes:
    """The datum of a small record of this type as far as `field`, which comes next."""
    schema = definition(name)
    names = [each["name"] for each in schema["fields"]]
    before = schema | {"fields": schema["fields"][: names.index(field)]}
    event = {"event_id": "e", "kind": "COMPLETED", "slip": slip(), "task": identity(), "agent_version": "1", "epoch": 0}
    unset = {"answer": None, "vote_key": None, "payload": None, "confidence": None}
    return encode(before, {**task(), **event, **unset})


def identity() -> dict[str, Any]:
    return {"task_id": "t", "tenant": "x", "labels": {}, "submitted_at": 1, "deadline_ms": 2, "depth": 0}


def test_a_schema_that_lets_few_bytes_declare_items_without_end_is_refused() -> None:
    for number, items in enumerate(["null", {"type": "record", "name": "Nothing", "fields": []}]):
        writer = with_field(TASK, {"name": "void", "type": {"type": "array", "items": items}}, at=0)
        codec = new_codec({1001 + number: writer})
        assert reasons(codec, frame(1001 + number) + long(2**40) + long(0) + DATUM) == [DeadReason.WRONG_SCHEMA]


def test_0_is_a_valid_schema_id() -> None:
    codec = Codec(ForeignRegistry({0: Schema(str(record("TaskSubmitted").avro))}), 1000)
    decoded = codec.decode([frame(0) + DATUM, None], "TaskSubmitted")
    assert (decoded.rows.tolist(), decoded.schema_ids.tolist()) == ([0], [0])
    assert codec.frame("TaskSubmitted") == b"\x00\x00\x00\x00\x00"
    assert codec.encode(decoded.batch, "TaskSubmitted") == [frame(0) + DATUM]


class HttpError(Exception):
    """Stands for confluent_kafka's SchemaRegistryError."""

    def __init__(self, http_status_code: int) -> None:
        self.http_status_code = http_status_code
        super().__init__(f"HTTP {http_status_code}")


class ForeignRegistry:
    """Answers as confluent_kafka's SchemaRegistryClient does, optional parameters included."""

    def __init__(self, schemas: dict[int, Any], status: int = 404) -> None:
        self.schemas, self.status, self.asked = schemas, status, 0

    def get_schema(self, schema_id: int, *_subject_and_format: str | None) -> Any:
        self.asked += 1
        if schema_id not in self.schemas:
            raise HttpError(self.status)
        return self.schemas[schema_id]

    def register_schema(self, _subject_name: str, schema: Any, *_normalize: bool) -> int:
        wanted = schema.to_dict()["schema"]
        known = {each.schema_str: schema_id for schema_id, each in self.schemas.items()}
        if wanted not in known:
            self.schemas[len(self.schemas)] = Schema(wanted)
        return known.get(wanted, len(self.schemas) - 1)


def test_a_foreign_registry_gives_and_takes_schemas() -> None:
    registry = ForeignRegistry({7: Schema(record("TaskSubmitted").avro), 9: Schema(record("Feedback").avro)})
    codec = Codec(registry, 1000)
    assert codec.frame("TaskSubmitted") == frame(7)
    assert codec.frame("Feedback") == frame(9)
    assert codec.decode([frame(7) + DATUM] * 3, "TaskSubmitted").schema_ids.tolist() == [7, 7, 7]
    assert codec.dispatch_frame(7) == frame(2)
    dispatch = codec.decode([frame(2) + slip_datum() + DATUM], "TaskDispatched")
    assert dispatch.batch.column("task").field("task_id").to_pylist() == ["t1"]


def test_a_schema_is_asked_for_once() -> None:
    registry = ForeignRegistry({7: Schema(record("TaskSubmitted").avro)})
    codec = Codec(registry, 1000)
    for _ in range(5):
        codec.decode([frame(7) + DATUM], "TaskSubmitted")
    assert registry.asked == 1


def test_an_id_that_a_foreign_registry_does_not_find_is_unknown() -> None:
    assert reasons(Codec(ForeignRegistry({}), 1000), frame(5) + DATUM) == [DeadReason.UNKNOWN_SCHEMA]


def test_a_registry_that_fails_stops_the_batch_and_costs_no_record() -> None:
    with pytest.raises(HttpError, match="503"):
        Codec(ForeignRegistry({}, status=503), 1000).decode([frame(5) + DATUM], "TaskSubmitted")


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        'syntax = "proto3"; message Task {}',
        "null",
        '"string"',
        '["null", "string"]',
        "[" * 5000,
        '{"type": "record", "name": "TaskSubmitted", "namespace": "pointsman", "fields": [{"name": "x"}]}',
        '{"type": "record", "name": "TaskSubmitted", "namespace": "pointsman", "fields": []}',
        '{"type": "record", "name": "pointsman.TaskSubmitted", "fields": [{"name": "x", "type": "int"}]}',
        '{"type": "record", "name": "TaskSubmitted", "namespace": "elsewhere", "fields": []}',
    ],
)
def test_what_else_a_foreign_registry_holds_is_the_wrong_schema(text: str | None) -> None:
    class Held:
        schema_str = text

    assert reasons(Codec(ForeignRegistry({5: Held()}), 1000), frame(5) + DATUM) == [DeadReason.WRONG_SCHEMA]


def slip(**fields: Any) -> dict[str, Any]:
    kind = record("Slip")
    stated: dict[str, Any] = {
        "agent_id": "revenue_agent",
        "attempt": 1,
        "intent": "financial_query",
        "confidence": 0.9,
        "panel": ["a", "b"],
        "reason": "ROUTED",
        "route_version": "v",
        "attempts": 1,
        "timeout_ms": 5000,
        "deadline_default_ms": 1,
        "routed_at": 2,
    }
    return {name: {**kind.defaults, **stated, **fields}[name] for name in kind.arrow.names}


def slip_datum() -> bytes:
    [datum] = CODEC.encode_datums(table("Slip", slip(panel=[["a", "b"]], chain=[[]]), 1), "Slip")
    return datum


def test_a_dispatch_is_a_frame_a_slip_and_the_bytes_of_the_task() -> None:
    task_id = int.from_bytes(FRAME[1:], "big")
    dispatch_frame = CODEC.dispatch_frame(task_id)
    assert dispatch_frame == CODEC.frame("TaskDispatched")
    decoded = CODEC.decode([dispatch_frame + slip_datum() + DATUM], "TaskDispatched")
    assert decoded.faults == []
    assert rows(decoded.batch, record("TaskDispatched").definition) == [{"slip": slip(), "task": task()}]
    assert decode(definition("TaskDispatched"), slip_datum() + DATUM) == {"slip": slip(), "task": task()}


def grown_from(older: dict[str, Any]) -> FileRegistry:
    """A registry that knew this TaskSubmitted before today's."""
    entries = [Entry(1, "pointsman.TaskSubmitted", 1, older)]
    return FileRegistry([*entries, *missing(entries)])


@pytest.mark.parametrize(
    "older",
    [
        without_field(TASK, "traceparent"),
        without_field(without_field(TASK, "language"), "labels"),
        with_field(TASK, {"name": "mood", "type": "string", "default": ""}, at=0),
    ],
)
def test_a_task_of_another_version_keeps_its_bytes_in_a_dispatch(older: dict[str, Any]) -> None:
    registry = grown_from(older)
    codec = Codec(registry, 10_000)
    datum = encode(older, {"mood": "calm", **task(text="as it was")})
    head = codec.dispatch_frame(1)
    assert head not in {None, codec.frame("TaskDispatched")}
    today = int.from_bytes(codec.frame("TaskSubmitted")[1:], "big")
    assert codec.dispatch_frame(today) == codec.frame("TaskDispatched")
    decoded = codec.decode([head + slip_datum() + datum], "TaskDispatched")
    assert decoded.faults == []
    assert rows(decoded.batch, record("TaskDispatched").definition) == [
        {"slip": slip(), "task": task(text="as it was")}
    ]


def test_a_task_version_that_no_dispatch_can_carry_is_to_be_encoded_anew() -> None:
    tiers = {"type": "enum", "name": "ValueTier", "symbols": ["UNKNOWN", "LOW", "HIGH"], "default": "UNKNOWN"}
    fields = [f | ({"type": tiers} if f["name"] == "value_tier" else {}) for f in TASK["fields"]]
    older = TASK | {"fields": fields}
    # The slip names ValueTier too, and means another: Avro cannot say both in one schema.
    codec = Codec(grown_from(older), 10_000)
    assert codec.dispatch_frame(1) is None
    decoded = codec.decode([frame(1) + encode(older, task(value_tier="HIGH"))], "TaskSubmitted")
    assert rows(decoded.batch, record("TaskSubmitted").definition) == [task(value_tier="HIGH")]


def test_a_task_version_whose_dispatch_is_not_registered_is_to_be_encoded_anew() -> None:
    codec = new_codec({1001: without_field(TASK, "traceparent")})
    assert codec.dispatch_frame(1001) is None


def test_encoding_asks_for_exactly_the_columns_of_the_record() -> None:
    with pytest.raises((ValueError, pa.ArrowException)):
        CODEC.encode(pa.record_batch({"task_id": pa.array(["t"])}), "TaskSubmitted")


def test_a_registry_without_todays_schema_says_what_to_do() -> None:
    class Lacking(EmptyRegistry):
        def register_schema(self, subject_name: str, schema: Any, /) -> int:
            return FileRegistry([]).register_schema(subject_name, schema)

    with pytest.raises(Exception, match=r"python -m schemas\.registry add"):
        Codec(Lacking({}), 1000).frame("TaskSubmitted")
