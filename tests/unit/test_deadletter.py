"""Headers of dead letters: what is written is read, and whatever a stranger writes is survived."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.admission import admit, key_faults
from schemas.codec import Codec
from schemas.deadletter import (
    ATTEMPT,
    DETAIL_CHARS_MAX,
    OFFSET,
    DeadLetter,
    Origin,
    burial,
    carried_headers,
    headers,
    parse,
)
from schemas.reasons import DeadReason
from schemas.records import table
from schemas.registry import FileRegistry


@given(
    st.builds(
        Origin, st.text(min_size=1), st.integers(0, 2**31 - 1), st.integers(0, 2**63 - 1), st.integers(-1, 2**62)
    ),
    st.sampled_from(DeadReason),
    st.text(max_size=DETAIL_CHARS_MAX),
    st.integers(1, 1000),
)
def test_what_is_written_is_read(origin: Origin, reason: DeadReason, detail: str, attempt: int) -> None:
    written = headers(origin, reason, detail, "router", attempt)
    assert parse(written) == DeadLetter(origin, reason.value, detail, "router", attempt)


@given(st.lists(st.tuples(st.text(), st.none() | st.binary())))
def test_headers_of_strangers_are_survived(given_headers: list[tuple[str, bytes | None]]) -> None:
    assert parse(given_headers).origin is None or any(name.startswith("pointsman.") for name, _ in given_headers)


@pytest.mark.parametrize("offset", [None, b"", b"x", b"9" * 400, b"--1", b"1e3", "²".encode(), b"\xff"])
def test_a_place_that_is_no_number_is_no_origin(offset: bytes | None) -> None:
    written = [header for header in headers(Origin("t", 0, 1, 2), "X", "", "c") if header[0] != OFFSET]
    assert parse([*written, (OFFSET, offset)]).origin is None


@pytest.mark.parametrize(
    ("value_bytes", "key_bytes"), [(900_000, 32_768), (900_001, 3), (40_000_000, 1_000_000), (0, 0)]
)
def test_a_dead_letter_is_never_too_large_for_a_record(value_bytes: int, key_bytes: int) -> None:
    origin = Origin("t", 1, 2, 3)
    letter = burial(b"v" * value_bytes, b"k" * key_bytes, origin, DeadReason.OVERSIZED, "x" * 10_000, "router")
    size = sum(len(part or b"") for part in (letter.value, letter.key)) + sum(len(v or b"") for _, v in letter.headers)
    assert size < 1_000_000
    said = parse(letter.headers)
    assert said.origin == origin
    assert (letter.value is None) == (value_bytes > 900_000) == (f"value of {value_bytes} bytes left" in said.detail)
    assert (letter.key is None) == (key_bytes > 32_768) == (f"key of {key_bytes} bytes left" in said.detail)


def test_a_record_keeps_its_own_headers_and_what_is_too_large_is_named() -> None:
    own = [("traceparent", b"00-1"), ("empty", None), ("pointsman.reason", b"a stranger's")]
    letter = burial(b"v", b"k", Origin("t", 1, 2, 3), DeadReason.UNFRAMED, "x", "router", own)
    assert carried_headers(letter.headers) == own[:2]
    assert parse(letter.headers).reason == "UNFRAMED"
    heavy = burial(b"v", b"k" * 40_000, Origin("t", 1, 2, 3), DeadReason.UNFRAMED, "x", "host", [("h", b"h" * 40_000)])
    assert parse(heavy.headers).left_out == {"key", "headers"}
    assert carried_headers(heavy.headers) == []
    assert (heavy.value, heavy.key) == (b"v", None)


@pytest.mark.parametrize(
    ("stated", "attempt"), [(None, 1), (b"1", 2), (b"7", 8), (b"-3", 1), (b"", 1), (b"\xff", 1), (b"9" * 400, 1)]
)
def test_a_record_that_was_redriven_says_how_often_it_was_put_away(stated: bytes | None, attempt: int) -> None:
    own = [] if stated is None else [(ATTEMPT, stated)]
    assert parse(burial(b"v", b"k", Origin("t", 1, 2, 3), "UNFRAMED", "", "host", own).headers).attempt == attempt


def test_keys_are_the_conversation_else_the_task() -> None:
    keys = [b"t1", b"c2", b"t3", None, b"\xff", b"", b"T1"]
    tasks = pa.array(["t1", "t2", "t3", "t4", "t5", "t6", "t1"])
    conversations = pa.array([None, "c2", "c3", None, None, None, None], pa.string())
    assert key_faults(keys, tasks, conversations) == [
        (2, DeadReason.KEY_MISMATCH),
        (3, DeadReason.INVALID_KEY),
        (4, DeadReason.INVALID_KEY),
        (5, DeadReason.KEY_MISMATCH),
        (6, DeadReason.KEY_MISMATCH),
    ]
    assert key_faults([], pa.array([], pa.string()), pa.array([], pa.string())) == []
    assert key_faults(keys[:2], tasks[:2], conversations[:2]) == []


def test_an_empty_conversation_id_is_a_conversation_like_any_other() -> None:
    assert key_faults([b""], pa.array(["t"]), pa.array([""])) == []


def test_a_submission_under_a_wrong_key_is_a_fault_in_its_place_and_other_records_have_no_such_rule() -> None:
    codec = Codec(FileRegistry.load(), 4_096)
    values: list[bytes | None] = [
        *codec.encode(table("TaskSubmitted", {"task_id": ["a", "b", "c"], "text": "x"}, 3), "TaskSubmitted")
    ]
    values.insert(2, b"junk")
    admitted = admit(codec, "TaskSubmitted", values, [b"a", b"z", b"c", b"c"])
    assert admitted.rows.tolist() == [0, 3]
    assert admitted.batch.column("task_id").to_pylist() == ["a", "c"]
    assert len(admitted.schema_ids) == 2
    assert [(fault.row, fault.reason) for fault in admitted.faults] == [
        (1, DeadReason.KEY_MISMATCH),
        (2, DeadReason.UNFRAMED),
    ]
    cards = codec.encode(table("Feedback", {"task_id": "a", "tenant": "t", "correct": True, "at": 1}, 1), "Feedback")
    assert admit(codec, "Feedback", cards, [b"anything"]).rows.tolist() == [0]
