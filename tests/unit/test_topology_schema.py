"""The topology's JSON Schema and our own checker say the same of every shape."""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft7Validator

from schemas.codes import FaultCode
from schemas.topology_schema import topology_schema
from schemas.topology_yaml import read_yaml
from tests.support.examples import examples
from tests.support.topologies import TEXT, changed, faults_of
from tests.unit.test_docs import ROOT
from tests.unit.test_topology import SHAPES
from tests.unit.test_topology_checks import CASES

SCHEMA = topology_schema()
VALIDATOR = Draft7Validator(SCHEMA)
# What JSON has no words for: a whole number written with a point, and what is no number at all.
BEYOND_JSON = {"timeout_ms: 1000.0", "single_above: .nan"}
# Rules of names, which the schema knows though they are no shapes.
NAMES = {"blank intent", "password in the file", "key in the file"}


def is_valid(data: Any) -> bool:
    return bool(VALIDATOR.is_valid(data))


def test_it_is_a_schema_and_every_key_has_a_description() -> None:
    Draft7Validator.check_schema(SCHEMA)
    sections = [SCHEMA, *SCHEMA["definitions"].values()]
    sections += [each for section in sections for each in section.get("anyOf", ())]
    properties = [(name, field) for section in sections for name, field in section.get("properties", {}).items()]
    assert len(properties) > 70
    assert [name for name, field in properties if not field.get("description") and "$ref" not in field] == []
    assert all(section["additionalProperties"] is False for section in sections if "properties" in section)


def test_the_shipped_topology_is_valid_and_names_the_schema_for_editors() -> None:
    text = (ROOT / "topology.yaml").read_text("utf-8")
    assert [error.message for error in VALIDATOR.iter_errors(read_yaml(text).data)] == []
    first, _, target = text.partition("\n")[0].partition("$schema=")
    assert first == "# yaml-language-server: "
    assert json.loads((ROOT / target).read_text("utf-8")) == SCHEMA


@pytest.mark.parametrize(("old", "new"), [case[:2] for case in SHAPES], ids=[case[1].strip() for case in SHAPES])
def test_a_broken_shape_is_invalid(old: str, new: str) -> None:
    assert is_valid(read_yaml(changed((old, new))).data) == (new in BEYOND_JSON)


@pytest.mark.parametrize("name", CASES)
def test_what_parts_ask_of_each_other_is_no_matter_of_shape(name: str) -> None:
    case = CASES[name]
    assert is_valid(read_yaml(changed((case.old, case.new))).data) == (name not in NAMES)


def test_a_phrase_may_be_short_or_whole() -> None:
    for phrases in ("[a]", "[{phrase: a}]", "[{phrase: a, confidence: 1}, b]"):
        assert is_valid(read_yaml(changed(("[contract]", phrases))).data)
    for phrases in ("[1]", "[{confidence: 1}]", "[{phrase: a, confidence: 2}]", "['']"):
        assert not is_valid(read_yaml(changed(("[contract]", phrases))).data)


def places(data: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The path of every value."""
    yield path
    for key, value in data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ():
        yield from places(value, (*path, key))


# One agent of each kind more, so that their keys are changed too.
KINDS = """
  service:
    kind: http
    url: https://figures.example/ask
    headers: {X-Team: figures, Authorization: {env: FIGURES_TOKEN, prefix: "Bearer "}}
    effect: read
  program:
    kind: command
    command: [node, agent.js]
    cwd: agents
    env: {MODE: quick, API_KEY: {env: HOST_KEY}}
    network: true
    effect: read
routes:"""
BASE: Any = read_yaml(TEXT.replace("\nroutes:", KINDS, 1)).data
PLACES = [path for path in places(BASE) if path]
VALUES: tuple[Any, ...] = (
    *(None, True, 0, 1, -1, 3, 0.5, -0.5, 10**13, 2000, [], ["alpha"], ["prog", "-x"]),
    *("", " ", "x", "read", "a:b", "a/b", "https://x", "off", "python", "batch", "http", "command"),
    *({}, {"x": 1}, {"env": "A"}, {"value": "a"}),
)
SHAPE_CODES = ("T1", "T013", FaultCode.KEY_OF_ANOTHER_KIND)


@examples(500)
@given(st.sampled_from(PLACES), st.sampled_from([*VALUES, "DROP"]), st.booleans())
def test_whatever_stands_at_whatever_place_both_agree(path: tuple[str | int, ...], value: Any, added: bool) -> None:
    """One value changed or dropped, or, where it stands in a mapping, another key added beside it."""
    data = deepcopy(BASE)
    owner = data
    for part in path[:-1]:
        owner = owner[part]
    if added and isinstance(owner, dict) and value != "DROP":
        owner["added"] = value
    elif value == "DROP":
        del owner[path[-1]]
    else:
        owner[path[-1]] = value
    ours = [fault for fault in faults_of(json.dumps(data)) if fault.code.startswith(SHAPE_CODES)]
    assert is_valid(data) == (not ours), ours
