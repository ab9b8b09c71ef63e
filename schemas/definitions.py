"""Avro schema documents as plain data: docs stripped, names resolved, so that two of them can be compared and composed.

I/O: none.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

from schemas.codes import ErrorCode
from schemas.errors import ConfigurationError

Definition: TypeAlias = Any  # Avro's own JSON: a name, a list (union) or an object

PRIMITIVES = frozenset({"null", "boolean", "int", "long", "float", "double", "string"})  # what our records are made of


class UnsupportedSchemaError(ConfigurationError):
    """A schema uses what this codec does not carry, or cannot be resolved against today's."""

    error_code = ErrorCode.UNSUPPORTED_SCHEMA


def compact(definition: Definition) -> str:
    """JSON text without docs: the form that is registered, compared and given to the codec."""
    return json.dumps(_without_docs(definition), separators=(",", ":"), ensure_ascii=False)


def _without_docs(node: Definition) -> Definition:
    if isinstance(node, Mapping):
        # A default is data, not schema: an object in it may well have a key "doc".
        return {k: v if k == "default" else _without_docs(v) for k, v in node.items() if k != "doc"}
    if isinstance(node, list):
        return [_without_docs(item) for item in node]
    return node


def expand(definition: Definition) -> Definition:
    """The same schema with every reference replaced by what it names, and every name in full.

    Raises UnsupportedSchemaError for unknown names, recursive types, types that our records do not use, and for what is
    no Avro schema at all.
    """
    try:
        return _Expansion().of(definition, "")
    except (KeyError, TypeError, RecursionError) as error:
        raise UnsupportedSchemaError(f"no Avro schema: {error!r:.80}") from error


def parse(text: str) -> Definition:
    """The expanded schema that a registry's text says; raises UnsupportedSchemaError, also where it is no JSON."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UnsupportedSchemaError(f"no Avro schema: {error!r:.80}") from error
    return expand(document)


class _Expansion:
    def __init__(self) -> None:
        self.known: dict[str, Definition] = {}
        self.open: set[str] = set()

    def of(self, node: Definition, namespace: str) -> Definition:
        match node:
            case str():
                return self.named(node, namespace)
            case list():
                return [self.of(branch, namespace) for branch in node]
            case {"logicalType": logical}:
                raise UnsupportedSchemaError(f"logical type {logical} is not supported")
            case {"type": "record", "name": str(name), "fields": list(fields)}:
                return self.record(_full_name(name, node, namespace), fields)
            case {"type": "enum", "name": str(name), "symbols": list(symbols)}:
                full = _full_name(name, node, namespace)
                self.known[full] = {"type": "enum", "name": full, "symbols": symbols, "default": node.get("default")}
                return self.known[full]
            case {"type": "array", "items": items}:
                inner = self.of(items, namespace)
                if _takes_no_bytes(inner):  # five bytes could then declare items without end
                    raise UnsupportedSchemaError("an array of items that take no bytes is not supported")
                return {"type": "array", "items": inner}
            case {"type": "map", "values": values}:
                return {"type": "map", "values": self.of(values, namespace)}
            case {"type": str() | list() | dict() as inner} if inner not in ("bytes", "fixed", "record", "enum"):
                return self.of(inner, namespace)
            case _:
                raise UnsupportedSchemaError(f"type {node!r:.80} is not supported")

    def named(self, name: str, namespace: str) -> Definition:
        if name in PRIMITIVES:
            return name
        full = name if "." in name or not namespace else f"{namespace}.{name}"
        if full in self.open:
            raise UnsupportedSchemaError(f"type {full} contains itself")
        if full not in self.known:
            raise UnsupportedSchemaError(f"type {name} is not supported")
        return self.known[full]

    def record(self, full: str, fields: list[Mapping[str, Any]]) -> Definition:
        namespace = full.rpartition(".")[0]
        self.open.add(full)
        expanded = []
        for field in fields:
            kept = {"name": field["name"], "type": self.of(field["type"], namespace)}
            expanded.append(kept | ({"default": field["default"]} if "default" in field else {}))
        self.open.remove(full)
        self.known[full] = {"type": "record", "name": full, "fields": expanded}
        return self.known[full]


def _takes_no_bytes(expanded: Definition) -> bool:
    match expanded:
        case {"type": "record", "fields": fields}:
            return all(_takes_no_bytes(field["type"]) for field in fields)
        case _:
            return bool(expanded == "null")


def _full_name(name: str, node: Mapping[str, Any], namespace: str) -> str:
    space = node.get("namespace", namespace)
    return name if "." in name or not space else f"{space}.{name}"


def collapse(expanded: Definition) -> Definition:
    """The inverse of `expand`: a named type is defined where it first stands and named from then on.

    Raises UnsupportedSchemaError where one name stands for two different types, which Avro cannot say.
    """
    return _collapse(expanded, {})


def _collapse(node: Definition, seen: dict[str, Definition]) -> Definition:
    if isinstance(node, list):
        return [_collapse(branch, seen) for branch in node]
    if isinstance(node, str):
        return node
    if (name := node.get("name")) is not None:
        if name in seen:
            if seen[name] != node:
                raise UnsupportedSchemaError(f"{name} stands for two different types")
            return name
        seen[name] = node
    match node["type"]:
        case "record":
            return node | {"fields": [f | {"type": _collapse(f["type"], seen)} for f in node["fields"]]}
        case "array":
            return node | {"items": _collapse(node["items"], seen)}
        case "map":
            return node | {"values": _collapse(node["values"], seen)}
        case _:
            return {k: v for k, v in node.items() if v is not None}


def enum_paths(expanded: Definition, path: str = "") -> Iterator[tuple[str, tuple[str, ...]]]:
    """Dotted path and symbols of every enum in a record; unions, lists and maps add nothing to the path."""
    match expanded:
        case {"type": "enum", "symbols": symbols}:
            yield path, tuple(symbols)
        case {"type": "record", "fields": fields}:
            for field in fields:
                yield from enum_paths(field["type"], f"{path}.{field['name']}" if path else field["name"])
        case {"type": "array", "items": inner} | {"type": "map", "values": inner}:
            yield from enum_paths(inner, path)
        case list():
            for branch in expanded:
                yield from enum_paths(branch, path)
