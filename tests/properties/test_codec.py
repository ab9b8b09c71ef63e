"""The columnar codec against fastavro, one record at a time; and what bad records may not do to good ones."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import codec
from schemas.codec import Codec
from schemas.reasons import DeadReason
from schemas.records import record
from tests.support.examples import examples
from tests.support.wire import (
    ON_THE_WIRE,
    RECORD_BYTES_MAX,
    decode,
    definition,
    encode,
    frame,
    long,
    new_codec,
    records_of,
    rows,
    task,
    to_batch,
    values_of,
    with_field,
    without_field,
)

CODEC = new_codec()
EVERY_RECORD = pytest.mark.parametrize("name", ON_THE_WIRE)
PER_RECORD = examples(40)


@EVERY_RECORD
@PER_RECORD
@given(data=st.data())
def test_fastavro_reads_what_the_codec_writes(name: str, data: st.DataObject) -> None:
    values = data.draw(records_of(name))
    encoded = CODEC.encode(to_batch(name, values), name)
    assert {value[:5] for value in encoded} <= {CODEC.frame(name)}
    assert [decode(definition(name), value[5:]) for value in encoded] == values


@EVERY_RECORD
@PER_RECORD
@given(data=st.data())
def test_what_is_encoded_without_arrow_is_the_same(name: str, data: st.DataObject) -> None:
    values = data.draw(records_of(name))
    columns = {field: [value[field] for value in values] for field in record(name).arrow.names}
    expected = CODEC.encode(to_batch(name, values), name)
    for few in (0, len(values)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(codec, "FEW", few)
            assert CODEC.encode_values(columns, len(values), name) == expected


@EVERY_RECORD
@PER_RECORD
@given(data=st.data())
def test_the_codec_reads_what_fastavro_writes(name: str, data: st.DataObject) -> None:
    values = data.draw(records_of(name))
    decoded = CODEC.decode([CODEC.frame(name) + encode(definition(name), value) for value in values], name)
    assert decoded.faults == []
    assert rows(decoded.batch, record(name).definition) == values
    assert decoded.batch.schema == record(name).arrow
    assert decoded.rows.tolist() == list(range(len(values)))


@EVERY_RECORD
@PER_RECORD
@given(data=st.data())
def test_what_the_codec_takes_of_damaged_bytes_fastavro_takes_for_the_same(name: str, data: st.DataObject) -> None:
    datum = bytearray(encode(definition(name), data.draw(values_of(record(name).definition))))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(datum)))
        datum[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=2))
    decoded = CODEC.decode([CODEC.frame(name) + bytes(datum)], name)
    if decoded.faults:
        assert decoded.faults[0].reason in {DeadReason.UNDECODABLE, DeadReason.INVALID_UTF8}
        assert decoded.batch.num_rows == 0
    else:
        # By representation, as damage makes NaNs.
        assert repr(rows(decoded.batch, record(name).definition)) == repr([decode(definition(name), bytes(datum))])


@EVERY_RECORD
@PER_RECORD
@given(values=st.lists(st.none() | st.binary(max_size=40), max_size=8), framed=st.booleans())
def test_no_bytes_make_the_codec_fail_and_each_value_is_a_row_or_a_fault(
    name: str, values: list[bytes | None], framed: bool
) -> None:
    given_values = [CODEC.frame(name) + value if framed and value is not None else value for value in values]
    decoded = CODEC.decode(given_values, name)
    places = sorted([*decoded.rows.tolist(), *(fault.row for fault in decoded.faults)])
    assert places == list(range(len(values)))
    assert decoded.batch.num_rows == len(decoded.rows) == len(decoded.schema_ids)
    decoded.batch.validate(full=True)


AS_JSON, TODAY = -1, 0
NEWER, OLDER, REORDERED, NARROWER, FOREIGN = 1001, 1002, 1003, 1004, 1005
TASK = definition("TaskSubmitted")
WRITERS = {
    NEWER: with_field(TASK, {"name": "mood", "type": ["null", "string"], "default": None}, at=3),
    OLDER: without_field(without_field(TASK, "traceparent"), "language"),
    REORDERED: TASK | {"fields": list(reversed(TASK["fields"]))},
    NARROWER: TASK | {"fields": [f | ({"type": "int"} if f["name"] == "submitted_at" else {}) for f in TASK["fields"]]},
    FOREIGN: definition("Feedback"),
}


@cache
def mixed_codec() -> Codec:
    return new_codec(WRITERS)


def written(schema_id: int, value: dict[str, Any]) -> bytes:
    schema = WRITERS.get(schema_id, TASK)
    return (frame(schema_id) if schema_id in WRITERS else mixed_codec().frame("TaskSubmitted")) + encode(schema, value)


def good(schema_id: int) -> st.SearchStrategy[tuple[bytes, dict[str, Any] | None]]:
    """A value written with this schema, or as JSON, and the record that today's reader takes it for."""

    def read(value: dict[str, Any]) -> tuple[bytes, dict[str, Any]]:
        value["submitted_at"] %= 2**31
        if schema_id == AS_JSON:
            value["confidence"] = 0.5  # JSON has no infinity
            return json.dumps(value).encode(), value
        return written(schema_id, {"mood": "calm", **value}), value | missing

    missing = {"traceparent": None, "language": None} if schema_id == OLDER else {}
    return values_of(record("TaskSubmitted").definition).map(read)


GOOD = st.sampled_from([AS_JSON, TODAY, NEWER, OLDER, REORDERED, NARROWER]).flatmap(good)
DATUM = encode(TASK, task())
FRAME = CODEC.frame("TaskSubmitted")
BAD: dict[bytes | None, DeadReason] = {
    None: DeadReason.NULL_VALUE,
    b"": DeadReason.EMPTY_VALUE,
    FRAME + DATUM + bytes(RECORD_BYTES_MAX): DeadReason.OVERSIZED,
    b"hello": DeadReason.UNFRAMED,
    FRAME[:4]: DeadReason.UNFRAMED,
    b"\x01" + FRAME[1:] + DATUM: DeadReason.UNFRAMED,
    frame(999_999) + DATUM: DeadReason.UNKNOWN_SCHEMA,
    frame(2**32 - 1) + DATUM: DeadReason.UNKNOWN_SCHEMA,
    frame(FOREIGN) + DATUM: DeadReason.WRONG_SCHEMA,
    b"{": DeadReason.UNDECODABLE,
    b'{"task_id": 1}': DeadReason.UNDECODABLE,
    b'{"task_id": "\xff"}': DeadReason.INVALID_UTF8,
    FRAME: DeadReason.UNDECODABLE,
    FRAME + DATUM[:-1]: DeadReason.UNDECODABLE,
    FRAME + b"\xff" * 30: DeadReason.UNDECODABLE,
    FRAME + long(-5): DeadReason.UNDECODABLE,
    FRAME + long(2**62) + DATUM: DeadReason.UNDECODABLE,
    FRAME + DATUM.replace(b"revenue", b"reven\xff\xfe"): DeadReason.INVALID_UTF8,
    FRAME + DATUM.replace(b"revenue", b"rev\xed\xa0\x80e"): DeadReason.INVALID_UTF8,
}
REFUSED = st.sampled_from(sorted(BAD, key=repr))


@given(st.lists(GOOD | REFUSED.map(lambda value: (value, None)), max_size=40))
def test_no_bad_record_costs_its_neighbours_whatever_wrote_them(
    batch: list[tuple[bytes | None, dict[str, Any] | None]],
) -> None:
    decoded = mixed_codec().decode([value for value, _ in batch], "TaskSubmitted")
    expected = [(row, value) for row, (_, value) in enumerate(batch) if value is not None]
    assert decoded.rows.tolist() == [row for row, _ in expected]
    assert rows(decoded.batch, record("TaskSubmitted").definition) == [value for _, value in expected]
    refused = [(row, BAD[value]) for row, (value, read) in enumerate(batch) if read is None]
    assert [(fault.row, fault.reason) for fault in decoded.faults] == refused


@given(st.sets(st.integers(0, 299), max_size=300))
def test_bisection_finds_every_bad_record_among_many(bad: set[int]) -> None:
    values = [FRAME + (DATUM[:-1] if row in bad else DATUM) for row in range(300)]
    decoded = CODEC.decode(values, "TaskSubmitted")
    assert [fault.row for fault in decoded.faults] == sorted(bad)
    assert set(decoded.rows.tolist()) == set(range(300)) - bad
    assert decoded.rows.tolist() == sorted(decoded.rows.tolist())
