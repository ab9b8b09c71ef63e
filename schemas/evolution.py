"""How columns written with another version of a record become today's columns: Avro's schema resolution, by column.

Rules: https://avro.apache.org/docs/1.12.0/specification/#schema-resolution, less aliases and unions of more than one
type beside null. I/O: none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from schemas.definitions import Definition, UnsupportedSchemaError
from schemas.records import constant

Step: TypeAlias = Callable[[pa.Array], pa.Array] | None  # None: the column is right as it is

PROMOTIONS = {"int": ("long", "float", "double"), "long": ("float", "double"), "float": ("double",)}


def widened(definition: Definition) -> Definition:
    """The schema with every `int` read as `long`: on the wire both are one varint, and the decoder wraps a number that
    does not fit an int instead of refusing it. `resolve` narrows again, checked."""
    match definition:
        case "int":
            return "long"
        case list():
            return [widened(branch) for branch in definition]
        case {"type": "record", "fields": fields}:
            return definition | {"fields": [field | {"type": widened(field["type"])} for field in fields]}
        case {"type": "array", "items": items}:
            return definition | {"items": widened(items)}
        case {"type": "map", "values": values}:
            return definition | {"values": widened(values)}
        case _:
            return definition


def resolve(writer: Definition, reader: Definition, arrow: pa.DataType, path: str = "") -> Step:
    """The step from a writer's column to the reader's, of type `arrow`; both schemas expanded.

    Raises UnsupportedSchemaError where Avro's rules, or ours, allow none. The step raises ArrowInvalid for a number
    that does not fit.
    """
    if writer == reader:
        return None
    if isinstance(reader, list):
        return _resolve_optional(writer, reader, arrow, path)
    match writer, reader:
        case str(), str() if reader in PROMOTIONS.get(writer, ()) or (writer, reader) == ("long", "int"):
            # Avro promotes to the nearest float; a long that is no int is the one number that does not fit.
            return lambda column: column.cast(arrow, safe=reader == "int")
        case {"type": "enum"}, {"type": "enum"}:
            return _resolve_enum(writer, reader, path)
        case {"type": "record"}, {"type": "record"}:
            return _resolve_struct(writer, reader, arrow, path)
        case {"type": "array"}, {"type": "array"}:
            return _resolve_list(resolve(writer["items"], reader["items"], arrow.value_type, f"{path}[]"), arrow)
        case {"type": "map"}, {"type": "map"}:
            return _resolve_map(resolve(writer["values"], reader["values"], arrow.item_type, f"{path}[]"), arrow)
    raise UnsupportedSchemaError(f"{path}: {_short(writer)} cannot be read as {_short(reader)}")


def _short(definition: Definition) -> str:
    match definition:
        case str():
            return definition
        case list():
            return "[" + ", ".join(map(_short, definition)) + "]"
        case _:
            return str(definition.get("name", definition["type"]))


def _resolve_optional(writer: Definition, reader: list[Definition], arrow: pa.DataType, path: str) -> Step:
    mine = [branch for branch in reader if branch != "null"]
    theirs = [branch for branch in writer if branch != "null"] if isinstance(writer, list) else [writer]
    may_be_null = isinstance(writer, list) and "null" in writer
    if len(mine) != 1 or len(theirs) != 1 or (may_be_null and "null" not in reader):
        raise UnsupportedSchemaError(f"{path}: {_short(writer)} cannot be read as {_short(reader)}")
    return resolve(theirs[0], mine[0], arrow, path)


def _resolve_enum(writer: Mapping[str, Any], reader: Mapping[str, Any], path: str) -> Step:
    if set(writer["symbols"]) <= set(reader["symbols"]):
        return None
    default = reader.get("default")
    if default is None:
        raise UnsupportedSchemaError(f"{path}: {reader['name']} has no default for symbols it does not know")
    known = pa.array([*reader["symbols"], None], pa.string())  # null stays null
    return lambda column: pc.if_else(pc.is_in(column, known), column, default)


def _resolve_struct(writer: Mapping[str, Any], reader: Mapping[str, Any], arrow: pa.DataType, path: str) -> Step:
    project = project_fields(writer, reader, list(arrow), path)
    if project is None:
        return None

    def step(column: pa.StructArray) -> pa.StructArray:
        children = project([column.field(i) for i in range(column.type.num_fields)], len(column))
        return pa.StructArray.from_arrays(children, fields=list(arrow), mask=_mask(column))

    return step


def _resolve_list(items: Step, arrow: pa.DataType) -> Step:
    if items is None:
        return None
    return lambda column: pa.ListArray.from_arrays(column.offsets, items(column.values), arrow, mask=_mask(column))


def _resolve_map(values: Step, arrow: pa.DataType) -> Step:
    if values is None:
        return None
    return lambda column: pa.MapArray.from_arrays(
        column.offsets, column.keys, values(column.items), arrow, mask=_mask(column)
    )


def _mask(column: pa.Array) -> pa.Array | None:
    return column.is_null() if column.null_count else None


Project: TypeAlias = Callable[[list[pa.Array], int], list[pa.Array]]


def project_fields(
    writer: Mapping[str, Any], reader: Mapping[str, Any], fields: list[pa.Field], path: str
) -> Project | None:
    """The step from a writer's record to the reader's, both as lists of columns; None where they are the same.

    Fields meet by name: one that only the writer has is dropped, one that only the reader has takes its default.
    """
    position = {field["name"]: i for i, field in enumerate(writer["fields"])}
    types = [field["type"] for field in writer["fields"]]
    plan: list[tuple[int, Step, Any]] = []
    for spec, field in zip(reader["fields"], fields, strict=True):
        name = spec["name"]
        where = f"{path}.{name}"
        if name in position:
            plan.append((position[name], resolve(types[position[name]], spec["type"], field.type, where), None))
        elif "default" in spec:
            plan.append((-1, None, spec["default"]))
        else:
            raise UnsupportedSchemaError(f"{where} is missing, and has no default")
    if len(types) == len(plan) and all(i == at and step is None for i, (at, step, _) in enumerate(plan)):
        return None

    def project(columns: list[pa.Array], n: int) -> list[pa.Array]:
        projected = []
        for (at, step, default), field in zip(plan, fields, strict=True):
            if at < 0:
                projected.append(constant(default, field.type, n))
            else:
                projected.append(columns[at] if step is None else step(columns[at]))
        return projected

    return project


def conflicts(writer: Definition, reader: Definition, path: str = "") -> Iterator[str]:
    """Why Avro's own rules let nobody read the writer's data by the reader's schema; nothing where they do. Both are
    expanded. This is what a registry answers; what this codec takes (`resolve`) is another question."""
    match writer, reader:
        case list(), _:
            for branch in writer:
                yield from conflicts(branch, reader, path)
        case _, list():
            if all(any(conflicts(writer, branch, path)) for branch in reader):
                yield f"{path}: {_short(writer)} is in no branch of {_short(reader)}"
        case str(), str():
            if writer != reader and reader not in PROMOTIONS.get(writer, ()):
                yield f"{path}: {writer} cannot be read as {reader}"
        case {"type": "array", "items": theirs}, {"type": "array", "items": ours}:
            yield from conflicts(theirs, ours, f"{path}[]")
        case {"type": "map", "values": theirs}, {"type": "map", "values": ours}:
            yield from conflicts(theirs, ours, f"{path}[]")
        case {"name": _, "type": theirs}, {"name": _, "type": ours} if theirs == ours:
            yield from _named_conflicts(writer, reader, path)
        case _:
            yield f"{path}: {_short(writer)} cannot be read as {_short(reader)}"


def _named_conflicts(writer: Mapping[str, Any], reader: Mapping[str, Any], path: str) -> Iterator[str]:
    """Of two records, or two enums."""
    if writer["name"] != reader["name"]:
        yield f"{path or reader['name']}: {writer['name']} cannot be read as {reader['name']}"
    elif reader["type"] == "record":
        yield from _field_conflicts(writer, reader, path or reader["name"])
    elif reader["default"] is None and (unknown := set(writer["symbols"]) - set(reader["symbols"])):
        yield f"{path}: {reader['name']} has no default for symbols it does not know: {', '.join(sorted(unknown))}"


def _field_conflicts(writer: Mapping[str, Any], reader: Mapping[str, Any], path: str) -> Iterator[str]:
    types = {field["name"]: field["type"] for field in writer["fields"]}
    for field in reader["fields"]:
        where = f"{path}.{field['name']}"
        if field["name"] in types:
            yield from conflicts(types[field["name"]], field["type"], where)
        elif "default" not in field:
            yield f"{where} is missing in what was written, and has no default"
