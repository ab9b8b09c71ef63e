"""The YAML reader: plain data with places, and a fault for whatever a configuration has no use for."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.codes import FaultCode
from schemas.topology_yaml import DEPTH_MAX, TEXT_BYTES_MAX, read_yaml


def data_of(text: str) -> Any:
    document = read_yaml(text)
    assert document.faults == []
    return document.data


def faults_of(text: str) -> list[str]:
    return [str(fault) for fault in read_yaml(text).faults]


def test_values_take_their_yaml_1_2_types() -> None:
    text = (
        "{a: 1, b: 1.5, c: true, d: null, e: text, f: '1', g: yes, h: 0x10, i: 2024-01-01, j: [], k: {}, l: 1e3, m: }"
    )
    assert data_of(text) == {
        "a": 1,
        "b": 1.5,
        "c": True,
        "d": None,
        "e": "text",
        "f": "1",
        "g": "yes",
        "h": 16,
        "i": "2024-01-01",
        "j": [],
        "k": {},
        "l": 1000.0,
        "m": None,
    }


def test_every_key_and_item_knows_where_it_stood() -> None:
    document = read_yaml("one:\n  two: [a,\n    {three: b}]\n")
    assert document.keys == {
        ("one",): (1, 1, 3),
        ("one", "two"): (2, 3, 3),
        ("one", "two", 0): (2, 9, 1),
        ("one", "two", 1): (3, 5, 1),
        ("one", "two", 1, "three"): (3, 6, 5),
    }
    assert document.values == {("one", "two", 1, "three"): (3, 13, 1)}


def test_a_fault_stands_at_the_nearest_part_of_its_path_that_the_text_has() -> None:
    document = read_yaml("one:\n  two: [a]\n")
    wrong = document.fault(FaultCode.WRONG_TYPE, ("one", "two", 3, "x"), "is wrong")
    assert str(wrong) == "2:3: one.two[3].x: is wrong [T103]"
    missing = document.fault(FaultCode.MISSING_KEY, ("none",), "is missing")
    assert str(missing) == "1:1: none: is missing [T102]"


def test_a_fault_stands_at_the_value_or_at_the_key_whichever_is_to_be_mended() -> None:
    document = read_yaml("one:\n  two:  five\n  three:\n")
    at_value = document.fault(FaultCode.WRONG_TYPE, ("one", "two"), "must be a number")
    assert (at_value.line, at_value.column, at_value.width) == (2, 9, 4)
    at_key = document.fault(FaultCode.UNKNOWN_KEY, ("one", "two"), "is not a known key")
    assert (at_key.line, at_key.column, at_key.width) == (2, 3, 3)
    empty = document.fault(FaultCode.WRONG_TYPE, ("one", "three"), "must be a number")
    assert (empty.line, empty.column, empty.width) == (3, 3, 5)


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("a: &x 1\nb: *x", ["1:4: a: anchors are not taken: remove &x", "2:4: b: aliases are not taken: write the"]),
        ("a: &x {b: 1}", ["1:4: a: anchors are not taken"]),
        ("base: &b {x: 1}\na: {<<: *b}", ["1:7: base: anchors", "2:9: a.<<: aliases are not taken"]),
        ("a: !!python/object:os.system ls", ["1:4: a: tags are not taken: remove tag:yaml.org,2002:python/object"]),
        ("a: !!str 1", ["1:4: a: tags are not taken"]),
        ("a: !own {b: 1}", ["1:4: a: tags are not taken: remove !own"]),
        ("a: 1\nb: 2\na: 3", ["3:1: a: is given twice; first in line 1"]),
        ("a: {b: 1, b: {b: 2}}", ["1:11: a.b: is given twice; first in line 1"]),
        ("a: {1: x, true: x, null: x, [1]: x}", ["1:5: a: a key must be text: put it in quotes"] + 3 * ["1:"]),
        ("a: 1\n---\nb: 2", ["3:1: a second document is not taken"]),
        ("%YAML 1.1\n---\na: 1", ["2:1: directives (%YAML, %TAG) are not taken"]),
        ("a: [1,\n", ["2:1: is not YAML"]),
        ("a: 1\n b: 2", ["2:3: is not YAML: mapping values are not allowed here"]),
        ("ok: 1\na: \x07", ["2:4: is not YAML: it holds the character U+0007 [T004]"]),
        ('a: "\\ud800"', ["1:4: a: holds half a character"]),
        ('"\\udfff": 1', ["1:1: holds half a character"]),
    ],
)
def test_what_a_configuration_has_no_use_for_is_refused_with_its_place(text: str, faults: list[str]) -> None:
    found = faults_of(text)
    assert len(found) == len(faults)
    for said, start in zip(found, faults, strict=True):
        assert said.startswith(start)


def test_json_is_yaml_pairs_of_surrogates_included() -> None:
    assert data_of('{"a": "\\ud83d\\ude00"}') == {"a": "\U0001f600"}


def test_the_first_of_two_equal_keys_stands() -> None:
    assert read_yaml("a: 1\na: 2").data == {"a": 1}


def test_aliases_cannot_multiply() -> None:
    lines = ["a0: &a0 [x, x]", *(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]" for i in range(1, 40))]
    document = read_yaml("\n".join(lines))
    assert document.data["a39"] == [None, None]
    assert len(document.faults) == 40 + 2 * 39


@pytest.mark.parametrize("opener", ["[", "{a: "])
def test_nesting_is_bounded(opener: str) -> None:
    closer = "]" if opener == "[" else "}"
    assert faults_of(opener * DEPTH_MAX + closer * DEPTH_MAX) == []
    for depth in (DEPTH_MAX + 1, 5_000):
        [fault] = faults_of(opener * depth + closer * depth)
        assert "nested deeper" in fault or "not YAML" in fault


@pytest.mark.parametrize("filler", ["x", "ä"])
def test_the_size_is_bounded_in_bytes(filler: str) -> None:
    width = len(filler.encode())
    head = "a: "
    assert faults_of(head + filler * ((TEXT_BYTES_MAX - len(head)) // width)) == []
    [fault] = faults_of(head + filler * (TEXT_BYTES_MAX // width))
    assert fault == f"is larger than {TEXT_BYTES_MAX} bytes [T003]"


def test_an_integer_of_thousands_of_digits_stays_text() -> None:
    assert data_of("a: " + "9" * 10_000) == {"a": "9" * 10_000}


@given(st.text(alphabet="ab:-?&*!|>%@`'\"#{}[], \n\t0\\~<", max_size=40))
def test_no_text_makes_the_reader_fail(text: str) -> None:
    document = read_yaml(text)
    assert all(fault.message for fault in document.faults)


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.text(max_size=5), PLAIN, max_size=4))
def test_json_reads_as_what_it_says(value: dict[str, Any]) -> None:
    assert data_of(json.dumps(value)) == value
