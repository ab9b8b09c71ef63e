"""Python values to Avro datums, without Arrow in between: for the few rows that a turn decides one by one.

`Codec.encode` costs 100 us before the first row, and makes the columns and gives the work to another thread, which a
machine that is busy lets wait. This costs some 4 us a row, and nothing before. I/O: none.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from itertools import repeat
from typing import Any, TypeAlias

from schemas.definitions import Definition
from schemas.records import RecordType

Writer: TypeAlias = Callable[[Any], bytes]

_BITS = 2**64 - 1
_DOUBLE = struct.Struct("<d").pack
_FLOAT = struct.Struct("<f").pack


class PlainEncoder:
    """Gives what the codec gives of the same columns of one record."""

    def __init__(self, kind: RecordType) -> None:
        self._name = kind.name
        self._writers = _writers(kind.definition)
        self._defaults = {
            field["name"]: self._writers[field["name"]](field["default"])
            for field in kind.definition["fields"]
            if "default" in field
        }

    def encode(self, columns: Mapping[str, Any], n: int) -> list[bytes]:
        """One datum a row, without a frame. A column is a list of `n` values, or one value for all rows; of
        what is left out, Avro's default.

        Raises ValueError for an unknown column, a wrong length, a missing field without default or an unknown symbol,
        TypeError or AttributeError for a value of another type.
        """
        if unknown := columns.keys() - self._writers.keys():
            raise ValueError(f"{self._name} has no field {', '.join(sorted(unknown))}")
        parts = [self._part(name, write, columns, n) for name, write in self._writers.items()]
        return [b"".join(row) for row in zip(*parts, strict=True)]

    def _part(self, name: str, write: Writer, columns: Mapping[str, Any], n: int) -> Iterable[bytes]:
        if name not in columns:
            if name not in self._defaults:
                raise ValueError(f"{self._name}.{name} is missing and has no default")
            return repeat(self._defaults[name], n)
        value = columns[name]
        if not isinstance(value, list):
            return repeat(write(value), n)
        if len(value) != n:
            raise ValueError(f"{self._name}.{name} has {len(value)} rows, not {n}")
        return map(write, value)


@lru_cache(maxsize=4_096)
def long(value: int) -> bytes:
    """An Avro int or long: zigzag, then seven bits a byte, the lowest first; of a sum beyond 64 bits the lower ones."""
    rest, encoded = ((value << 1) ^ (value >> 63)) & _BITS, bytearray()
    while rest > 0x7F:  # noqa: PLR2004 - seven bits
        encoded.append(rest & 0x7F | 0x80)
        rest >>= 7
    encoded.append(rest)
    return bytes(encoded)


def _text(value: str) -> bytes:
    encoded = value.encode()
    return long(len(encoded)) + encoded


_PRIMITIVES: Mapping[str, Writer] = {
    "null": lambda _value: b"",
    "boolean": lambda value: b"\x01" if value else b"\x00",
    "int": long,
    "long": long,
    "float": _FLOAT,
    "double": _DOUBLE,
    "string": _text,
}


def _writers(definition: Definition) -> dict[str, Writer]:
    return {field["name"]: _writer(field["type"]) for field in definition["fields"]}


def _writer(kind: Definition) -> Writer:
    """Who writes values of this type, every name of which is resolved (schemas/definitions.py)."""
    match kind:
        case str():
            return _PRIMITIVES[kind]
        case ["null", inner]:
            return _optional(_writer(inner))
        case {"type": "enum", "symbols": symbols}:
            return _symbol({symbol: long(number) for number, symbol in enumerate(symbols)})
        case {"type": "array", "items": items}:
            return _array(_writer(items))
        case {"type": "map", "values": values}:
            return _map(_writer(values))
        case {"type": "record"}:
            return _record(_writers(kind))
        case {"type": inner}:
            return _writer(inner)
    raise ValueError(f"no writer for the Avro type {kind}")


def _optional(write: Writer) -> Writer:
    return lambda value: b"\x00" if value is None else b"\x02" + write(value)


def _symbol(numbers: Mapping[str, bytes]) -> Writer:
    def write(value: str) -> bytes:
        if value not in numbers:
            raise ValueError(f"{value!r} is none of {', '.join(numbers)}")
        return numbers[value]

    return write


def _array(write: Writer) -> Writer:
    return lambda values: b"".join([long(len(values)), *map(write, values), b"\x00"]) if values else b"\x00"


def _map(write: Writer) -> Writer:
    """Of a mapping, or of pairs."""
    each = _array(lambda pair: _text(pair[0]) + write(pair[1]))
    return lambda values: each(list(values.items()) if isinstance(values, Mapping) else values)


def _record(writers: Mapping[str, Writer]) -> Writer:
    pairs = list(writers.items())
    return lambda value: b"".join([write(value[name]) for name, write in pairs])
