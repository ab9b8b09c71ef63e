"""Records as JSON text: what people may leave out, how they may write it, and what is refused with its field."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.codec import JSON_SCHEMA_ID
from schemas.reasons import DeadReason
from schemas.records import record
from tests.support.examples import examples
from tests.support.wire import ON_THE_WIRE, definition, encode, new_codec, rows, task, values_of

CODEC = new_codec()


def decoded(*values: bytes | str | dict[str, Any]) -> tuple[list[dict[str, Any]], list[tuple[int, DeadReason, str]]]:
    """The rows and the faults of tasks given as JSON."""
    encoded = [json.dumps(each).encode() if isinstance(each, dict) else each for each in values]
    found = CODEC.decode([each.encode() if isinstance(each, str) else each for each in encoded], "TaskSubmitted")
    faults = [(fault.row, fault.reason, fault.detail) for fault in found.faults]
    return rows(found.batch, record("TaskSubmitted").definition), faults


def test_what_is_left_out_takes_its_default() -> None:
    assert decoded({"task_id": "t1", "text": "What was the revenue?", "submitted_at": 1_700_000_000_000_000}) == (
        [task()],
        [],
    )


@pytest.mark.parametrize("confidence", [0.5, {"double": 0.5}])
def test_an_optional_value_is_plain_or_as_avro_has_it(confidence: object) -> None:
    [row], faults = decoded({"task_id": "a", "text": "b", "confidence": confidence, "intent": None})
    assert (row["confidence"], row["intent"], faults) == (0.5, None, [])


def test_json_and_frames_share_a_batch_in_their_order() -> None:
    framed = CODEC.frame("TaskSubmitted") + encode(definition("TaskSubmitted"), task(task_id="framed"))
    text = json.dumps({"task_id": "text", "text": "x"}).encode()
    found = CODEC.decode([text, framed, b"{", None, text, framed], "TaskSubmitted")
    today = int.from_bytes(CODEC.frame("TaskSubmitted")[1:], "big")
    assert found.batch.column("task_id").to_pylist() == ["text", "framed", "text", "framed"]
    assert found.rows.tolist() == [0, 1, 4, 5]
    assert found.schema_ids.tolist() == [JSON_SCHEMA_ID, today, JSON_SCHEMA_ID, today]
    assert [(fault.row, fault.reason) for fault in found.faults] == [
        (2, DeadReason.UNDECODABLE),
        (3, DeadReason.NULL_VALUE),
    ]


def test_a_task_that_came_as_json_is_encoded_anew_for_its_dispatch() -> None:
    assert CODEC.dispatch_frame(JSON_SCHEMA_ID) is None
    found = CODEC.decode([b'{"task_id": "t1", "text": "x", "submitted_at": 5}'], "TaskSubmitted")
    assert CODEC.encode_datums(found.batch, "TaskSubmitted") == [
        encode(definition("TaskSubmitted"), task(text="x", submitted_at=5))
    ]


@pytest.mark.parametrize("name", ON_THE_WIRE)
@examples(20)
@given(data=st.data())
def test_every_record_has_a_json_form(name: str, data: st.DataObject) -> None:
    finite = values_of(record(name).definition).filter(lambda value: "Infinity" not in json.dumps(value))
    values = data.draw(st.lists(finite, max_size=4))
    found = CODEC.decode([json.dumps(value).encode() for value in values], name)
    assert found.faults == []
    assert rows(found.batch, record(name).definition) == values


GOOD = {"task_id": "hunter2", "text": "x"}
REFUSED: dict[str, tuple[bytes | dict[str, Any], str]] = {
    "cut off": (b'{"task_id": "hunter2"', "at character 21"),
    "more behind it": (b'{"task_id": "hunter2", "text": "x"} hunter2', "Extra data at character"),
    "missing": ({"task_id": "hunter2"}, "TaskSubmitted.text is missing"),
    "misspelt": ({**GOOD, "txet": "x"}, "TaskSubmitted has no such field as key number 3; was text meant?"),
    "unknown": ({**GOOD, "hunter2": "x"}, "TaskSubmitted has no such field as key number 3"),
    "given twice": (b'{"task_id": "hunter2", "text": "x", "text": "y"}', "a key is given twice"),
    "null": ({**GOOD, "text": None}, "TaskSubmitted.text must not be null"),
    "null for an enum": ({**GOOD, "value_tier": None}, "TaskSubmitted.value_tier must not be null: leave it out for"),
    "null for a map": ({**GOOD, "labels": None}, "TaskSubmitted.labels must not be null: leave it out for its default"),
    "null in a map": ({**GOOD, "labels": {"hunter2": None}}, "TaskSubmitted.labels[] must be text"),
    "number as text": ({**GOOD, "deadline_ms": "1700000000000"}, "TaskSubmitted.deadline_ms must be a whole number"),
    "truth as text": ({**GOOD, "confidence": "true"}, "TaskSubmitted.confidence must be a number"),
    "symbol in lower case": ({**GOOD, "value_tier": "high"}, "TaskSubmitted.value_tier must be one of UNKNOWN, LOW"),
    "payload as an object": (
        {**GOOD, "payload": {"hunter2": 1}},
        "TaskSubmitted.payload must be text: quote an object",
    ),
    "number for text": ({**GOOD, "text": 1}, "TaskSubmitted.text must be text"),
    "text for number": ({**GOOD, "submitted_at": "hunter2"}, "TaskSubmitted.submitted_at must be a whole number of 64"),
    "true for number": ({**GOOD, "submitted_at": True}, "must be a whole number"),
    "fraction": ({**GOOD, "submitted_at": 1.0}, "must be a whole number"),
    "64 bits": ({**GOOD, "submitted_at": 2**63}, "must be a whole number of 64 bits"),
    "32 bits": ({**GOOD, "depth": -(2**31) - 1}, "TaskSubmitted.depth must be a whole number of 32 bits"),
    "text for float": ({**GOOD, "confidence": "hunter2"}, "TaskSubmitted.confidence must be a number"),
    "beyond a double": ({**GOOD, "confidence": 10**400}, "TaskSubmitted.confidence must be a number that a double"),
    "thousands of digits": (b'{"submitted_at": ' + b"9" * 9000 + b"}", "a number is too long"),
    "not a number": (b'{"confidence": NaN}', "NaN and Infinity are no JSON"),
    "infinity": (b'{"confidence": -Infinity}', "NaN and Infinity are no JSON"),
    "unknown symbol": ({**GOOD, "value_tier": "hunter2"}, "TaskSubmitted.value_tier must be one of UNKNOWN, LOW, MED"),
    "symbol of another type": ({**GOOD, "value_tier": ["HIGH"]}, "TaskSubmitted.value_tier must be one of"),
    "list for map": ({**GOOD, "labels": ["hunter2"]}, "TaskSubmitted.labels must be an object"),
    "number in map": ({**GOOD, "labels": {"hunter2": 1}}, "TaskSubmitted.labels[] must be text"),
    "nested deep": (b'{"a":' * 50_000, "nesting too deep"),
    "another union branch": (
        {**GOOD, "confidence": {"string": "hunter2"}},
        "TaskSubmitted.confidence must be a number",
    ),
}


@pytest.mark.parametrize(("value", "detail"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_no_such_record_is_refused_by_field_and_not_quoted(value: bytes | dict[str, Any], detail: str) -> None:
    read, faults = decoded(GOOD, value, GOOD)
    assert len(read) == 2
    [(row, reason, said)] = faults
    assert (row, reason) == (1, DeadReason.UNDECODABLE)
    assert detail in said
    assert "hunter2" not in said


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        (b'[{"task_id": "t1", "text": "x"}]', "a JSON array is no record"),
        (b'"{\\"task_id\\": \\"t1\\"}"', "JSON text is no record"),
        (b'\xef\xbb\xbf{"task_id": "t1", "text": "x"}', "a byte order mark"),
        (b' {"task_id": "t1", "text": "x"}', "white space stands before it"),
        (b'\n{"task_id": "t1", "text": "x"}', "white space stands before it"),
        (b"Obj\x01\x04\x14avro.codec", "an Avro file is no record"),
        (b"hello", "schema id"),
        (b"t", "schema id"),
    ],
)
def test_what_is_nearly_json_is_put_away_with_what_was_probably_meant(value: bytes, hint: str) -> None:
    read, [(_, reason, detail)] = decoded(value, GOOD)
    assert [row["task_id"] for row in read] == ["hunter2"]
    assert reason is DeadReason.UNFRAMED
    assert hint in detail


def test_white_space_inside_and_behind_the_object_is_none_of_our_business() -> None:
    read, faults = decoded(b'{ "task_id" : "t1",\r\n\t"text": "x" }\n')
    assert ([row["task_id"] for row in read], faults) == (["t1"], [])


@pytest.mark.parametrize(
    "value",
    [
        b'{"task_id": "a", "text": "\xff"}',
        b'{"task_id": "a", "text": "\\ud800"}',
        b'{"task_id": "a", "text": "x", "labels": {"\\udfff": "x"}}',
        '{"task_id": "a", "text": "x"}'.encode("utf-16-le"),
    ],
)
def test_text_that_is_not_unicode_is_refused(value: bytes) -> None:
    read, [(_, reason, _)] = decoded(value)
    assert read == []
    assert reason in {DeadReason.INVALID_UTF8, DeadReason.UNDECODABLE}
    assert reason is DeadReason.INVALID_UTF8 or b"\x00" in value


@given(st.text(alphabet='{}[]":,\\u0dtaskxe_i1-.Nnul ', max_size=60).map(str.encode) | st.binary(max_size=40))
def test_no_text_makes_the_codec_fail(text: bytes) -> None:
    found = CODEC.decode([b"{" + text], "TaskSubmitted")
    assert found.batch.num_rows + len(found.faults) == 1
