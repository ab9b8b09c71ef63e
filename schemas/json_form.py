"""Records as JSON text, for people and small producers: today's schema, plain values, defaults for what is left out.

An optional value may be plain ("x") or as Avro's own JSON has it ({"string": "x"}). I/O: none.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from schemas.definitions import PRIMITIVES, Definition
from schemas.nearest import nearest
from schemas.reasons import DeadReason
from schemas.records import RecordType


class UnfitJsonError(Exception):
    """The text is no such record; `detail` quotes the schema only, never the text."""

    def __init__(self, detail: str, reason: DeadReason = DeadReason.UNDECODABLE) -> None:
        self.detail, self.reason = f"JSON: {detail}", reason
        super().__init__(self.detail)


def read_json(value: bytes, kind: RecordType) -> dict[str, Any]:
    """One row for `pa.RecordBatch.from_pylist(rows, schema=kind.arrow)`; raises UnfitJsonError, and nothing else."""
    try:
        text = value.decode()
    except UnicodeDecodeError as error:
        raise UnfitJsonError(f"not UTF-8 at byte {error.start}", DeadReason.INVALID_UTF8) from error
    try:
        document = json.loads(text, object_pairs_hook=_object, parse_constant=_no_number)
    except json.JSONDecodeError as error:
        raise UnfitJsonError(f"{error.msg} at character {error.pos}") from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits; nesting without end
        raise UnfitJsonError("a number is too long, or the nesting too deep") from error
    row: dict[str, Any] = _read(kind.definition, document, kind.name)
    return row


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise UnfitJsonError("a key is given twice")
    return document


def _no_number(_: str) -> None:
    raise UnfitJsonError("NaN and Infinity are no JSON")


def _read(schema: Definition, value: Any, path: str) -> Any:
    match schema:
        case str():
            return _PRIMITIVES[schema](value, path)
        case list():
            return _optional(schema, value, path)
        case {"type": "enum", "symbols": symbols}:
            if value not in symbols:
                raise UnfitJsonError(f"{path} must be one of {', '.join(symbols)}")
            return value
        case {"type": "array", "items": items} if isinstance(value, list):
            return [_read(items, item, f"{path}[]") for item in value]
        case {"type": "map", "values": values} if isinstance(value, dict):
            return [(_text(key, path), _read(values, item, f"{path}[]")) for key, item in value.items()]
        case {"type": "record", "fields": fields} if isinstance(value, dict):
            return _record(fields, value, path)
    raise UnfitJsonError(f"{path} must be {'a list' if schema['type'] == 'array' else 'an object'}")


def _record(fields: list[Mapping[str, Any]], value: dict[str, Any], path: str) -> dict[str, Any]:
    names = [field["name"] for field in fields]
    for place, key in enumerate(value, 1):
        if key not in names:
            meant = nearest(key, names)
            hint = f"; was {meant} meant?" if meant else ""
            raise UnfitJsonError(f"{path} has no such field as key number {place}{hint}")
    row = {}
    for field in fields:
        name = field["name"]
        if name not in value and "default" not in field:
            raise UnfitJsonError(f"{path}.{name} is missing")
        if name in value and value[name] is None and not _takes_null(field["type"]):
            more = ": leave it out for its default" if "default" in field else ""
            raise UnfitJsonError(f"{path}.{name} must not be null{more}")
        # A default is JSON of the field itself.
        row[name] = _read(field["type"], value.get(name, field.get("default")), f"{path}.{name}")
    return row


def _takes_null(schema: Definition) -> bool:
    return schema == "null" or (isinstance(schema, list) and "null" in schema)


def _optional(branches: list[Definition], value: Any, path: str) -> Any:
    if value is None:
        return None
    [branch] = [each for each in branches if each != "null"]
    if isinstance(value, dict) and isinstance(branch, str) and list(value) == [branch]:
        return _read(branch, value[branch], path)
    return _read(branch, value, path)


def _text(value: Any, path: str) -> str:
    if not isinstance(value, str):
        more = ": quote an object or a list, as JSON text" if isinstance(value, dict | list) else ""
        raise UnfitJsonError(f"{path} must be text{more}")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise UnfitJsonError(f"{path} holds half a character", DeadReason.INVALID_UTF8) from error
    return value


def _integer(bits: int) -> Callable[[Any, str], int]:
    def read(value: Any, path: str) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not -(2 ** (bits - 1)) <= value < 2 ** (bits - 1):
            raise UnfitJsonError(f"{path} must be a whole number of {bits} bits")
        return value

    return read


def _float(value: Any, path: str) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise UnfitJsonError(f"{path} must be a number")
    try:
        return float(value)
    except OverflowError as error:
        raise UnfitJsonError(f"{path} must be a number that a double holds") from error


def _boolean(value: Any, path: str) -> bool:
    if not isinstance(value, bool):
        raise UnfitJsonError(f"{path} must be true or false")
    return value


def _null(value: Any, path: str) -> None:
    if value is not None:
        raise UnfitJsonError(f"{path} must be null")


_PRIMITIVES: dict[str, Callable[[Any, str], Any]] = {
    "string": _text,
    "int": _integer(32),
    "long": _integer(64),
    "float": _float,
    "double": _float,
    "boolean": _boolean,
    "null": _null,
}
assert _PRIMITIVES.keys() == PRIMITIVES
