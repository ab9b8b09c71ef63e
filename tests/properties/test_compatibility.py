"""What the registry says of compatibility, judged by Apache's own Avro."""

from __future__ import annotations

import json
from typing import Any

import avro.schema
from avro.compatibility import ReaderWriterCompatibilityChecker, SchemaCompatibilityType
from hypothesis import assume, event, given
from hypothesis import strategies as st

from schemas.definitions import Definition, expand
from schemas.evolution import conflicts
from schemas.registry import FileRegistry
from tests.support.examples import examples

DEFAULTS: dict[str, Any] = {"null": None, "boolean": True, "int": 1, "long": 1, "float": 0.5, "double": 0.5}
PRIMITIVES = st.sampled_from([*DEFAULTS, "string"])
MANY = examples(300)


@st.composite
def schemas(draw: st.DrawFn, path: str = "r", depth: int = 2) -> Definition:
    """A schema whose named types are named after where they stand, so that two schemas speak of the same things."""
    kinds = ["primitive", "primitive", "union", "enum"] + (["array", "map", "record"] if depth else [])
    match draw(st.sampled_from(kinds)):
        case "union":
            return draw(st.lists(PRIMITIVES, min_size=1, max_size=3, unique=True))
        case "enum":
            symbols = draw(st.lists(st.sampled_from("ABC"), min_size=1, unique=True))
            enum = {"type": "enum", "name": f"{path}_e", "symbols": symbols}
            return enum | ({"default": symbols[0]} if draw(st.booleans()) else {})
        case "array":
            items = draw(schemas(f"{path}_i", depth - 1))
            assume(items != "null")  # ours carries no array of nothing
            return {"type": "array", "items": items}
        case "map":
            return {"type": "map", "values": draw(schemas(f"{path}_v", depth - 1))}
        case "record":
            return draw(records(path, depth))
    return draw(PRIMITIVES)


@st.composite
def records(draw: st.DrawFn, path: str = "r", depth: int = 2) -> Definition:
    fields = []
    for name in draw(st.lists(st.sampled_from("abc"), min_size=1, max_size=3, unique=True)):
        field = {"name": name, "type": draw(schemas(f"{path}_{name}", depth - 1))}
        default = DEFAULTS.get(field["type"], "x") if isinstance(field["type"], str) else ...
        fields.append(field | ({"default": default} if default is not ... and draw(st.booleans()) else {}))
    return {"type": "record", "name": f"{path}_r", "fields": fields}


def by_apache(writer: Definition, reader: Definition) -> bool:
    checker = ReaderWriterCompatibilityChecker()
    found = checker.get_compatibility(avro.schema.parse(json.dumps(reader)), avro.schema.parse(json.dumps(writer)))
    return found.compatibility is SchemaCompatibilityType.compatible


@MANY
@given(records(), records())
def test_any_two_schemas_are_compatible_where_apache_says_so(writer: Definition, reader: Definition) -> None:
    expected = by_apache(writer, reader)
    event(f"compatible: {expected}")
    assert (not list(conflicts(expand(writer), expand(reader)))) is expected


@MANY
@given(schemas(depth=1), schemas(depth=1))
def test_so_are_any_two_types(writer: Definition, reader: Definition) -> None:
    expected = by_apache(writer, reader)
    event(f"compatible: {expected}")
    assert (not list(conflicts(expand(writer), expand(reader)))) is expected


def test_every_version_of_the_file_can_be_read_by_the_one_that_is_newest() -> None:
    """What the registry says of itself: BACKWARD_TRANSITIVE."""
    registry = FileRegistry.load()
    for entry in registry.entries:
        newest = registry.versions(entry.subject)[-1]
        assert list(conflicts(expand(entry.definition), expand(newest.definition))) == []
