"""Every record of the wire: its Avro schema, its Arrow columns, its enums and defaults.

I/O: reads avro/*.avsc once, at import.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias

import pyarrow as pa
import pyruhvro

from schemas.definitions import Definition, compact, enum_paths, expand

AVRO = Path(__file__).parent / "avro"
NAMESPACE = "pointsman"

# One column, or one value for all rows.
Column: TypeAlias = (
    "pa.Array | pa.ChunkedArray | pa.Scalar | Sequence[Any] | Mapping[str, Any] | str | float | bool | None"
)


@dataclass(frozen=True)
class RecordType:
    """One record of the wire.

    `avro` is its schema as JSON text, without docs; `arrow` its columns, exactly as the codec gives and takes them
    (enums as string, nested records as struct, optional fields nullable). `enums` gives the symbols by dotted path
    (`slip.stage`), `defaults` the Avro defaults by field; a field without one is missing there.
    """

    name: str
    avro: str
    arrow: pa.Schema
    enums: Mapping[str, tuple[str, ...]]
    defaults: Mapping[str, Any]

    @property
    def subject(self) -> str:
        """The registry's subject: the record's full name, whatever topic it travels in."""
        return f"{NAMESPACE}.{self.name}"

    @cached_property
    def definition(self) -> Definition:
        """The schema with every name resolved (schemas/definitions.py)."""
        return expand(json.loads(self.avro))

    @cached_property
    def columns(self) -> Mapping[str, _Field]:
        """How each of its columns is made."""
        return _fields(self.definition, list(self.arrow), self.name)

    @classmethod
    def of(cls, name: str, definition: Definition) -> RecordType:
        avro, expanded = compact(definition), expand(definition)
        defaults = {field["name"]: field["default"] for field in expanded["fields"] if "default" in field}
        enums = dict(enum_paths(expanded))
        arrow = pyruhvro.avro_to_arrow_schema(avro)
        return cls(name, avro, arrow, MappingProxyType(enums), MappingProxyType(defaults))


def _load() -> Mapping[str, RecordType]:
    documents = {path.stem: json.loads(path.read_text("utf-8")) for path in sorted(AVRO.glob("*.avsc"))}
    # The slip is half of a dispatch, and is encoded alone.
    documents["Slip"] = documents["TaskDispatched"]["fields"][0]["type"]
    return MappingProxyType({name: RecordType.of(name, document) for name, document in documents.items()})


RECORDS: Mapping[str, RecordType] = _load()


def record(name: str) -> RecordType:
    """The record type of this name; KeyError says which ones there are."""
    try:
        return RECORDS[name]
    except KeyError:
        raise KeyError(f"no record {name!r}; there are {', '.join(RECORDS)}") from None


def table(record_type: RecordType | str, columns: Mapping[str, Column], n: int) -> pa.RecordBatch:
    """A batch of `n` rows of this record: the given columns, in its own order and types, the rest from Avro's defaults.

    A column is an Arrow array of n rows, a list of n values, or one value for all rows (str, number, None, a dict for
    a map, a pyarrow Scalar for anything). A nested record is a struct array or a mapping of columns of its own.
    Raises ValueError for an unknown column, a wrong length, a missing field without default, a null where none may be.
    """
    kind = record(record_type) if isinstance(record_type, str) else record_type
    arrays = _fill(kind.columns, columns, n, kind.name)
    return pa.RecordBatch.from_arrays(arrays, schema=kind.arrow)


class _Field:
    """One column of a record, or of one nested in it, as it has to be made."""

    def __init__(self, spec: Definition, field: pa.Field, path: str) -> None:
        self.name, self.where, self.field, self.kind = field.name, f"{path}.{field.name}", field, field.type
        self._spec = spec
        self._children = _fields(spec["type"], list(field.type), self.where) if pa.types.is_struct(field.type) else None
        self._default: pa.Array | None = None

    def default(self, n: int) -> pa.Array:
        """A slice of as many rows as were ever asked for: they are made once, not a turn."""
        if "default" not in self._spec:
            raise ValueError(f"{self.where} is missing and has no default")
        if self._default is None or len(self._default) < n:
            self._default = constant(self._spec["default"], self.kind, 2 * n)
        return self._default.slice(0, n)

    def column(self, value: Column, n: int) -> pa.Array:
        if isinstance(value, _ARRAYS):
            array = conform(value, self.field, self.where)
        elif isinstance(value, list | tuple):
            array = conform(pa.array(value, self.kind), self.field, self.where)
        elif self._children is not None and isinstance(value, Mapping):
            children = _fill(self._children, value, n, self.where)
            return pa.StructArray.from_arrays(children, fields=list(self.kind))
        else:
            array = conform(constant(value, self.kind, n), self.field, self.where)
        if len(array) != n:
            raise ValueError(f"{self.where} has {len(array)} rows, not {n}")
        return array


_ARRAYS = (pa.Array, pa.ChunkedArray)


def _fields(definition: Definition, fields: list[pa.Field], path: str) -> dict[str, _Field]:
    pairs = zip(definition["fields"], fields, strict=True)
    return {field.name: _Field(spec, field, path) for spec, field in pairs}


def _fill(fields: Mapping[str, _Field], columns: Mapping[str, Column], n: int, path: str) -> list[pa.Array]:
    if unknown := [name for name in columns if name not in fields]:
        raise ValueError(f"{path} has no field {', '.join(unknown)}")
    return [each.column(columns[name], n) if name in columns else each.default(n) for name, each in fields.items()]


def constant(value: Any, kind: pa.DataType, n: int) -> pa.Array:
    """`n` times the same value; an Avro default is one."""
    if value is None:
        return pa.nulls(n, kind)
    if isinstance(value, Mapping) and pa.types.is_map(kind):
        value = list(value.items())
    scalar = value.cast(kind) if isinstance(value, pa.Scalar) else pa.scalar(value, kind)
    return pa.repeat(scalar, n) if n else pa.array([], scalar.type)


def conform(array: pa.Array | pa.ChunkedArray, field: pa.Field, where: str = "") -> pa.Array:
    """The column in exactly the field's type: dictionaries, wide strings, chunks and narrower numbers are cast.

    Raises ValueError where it cannot be, and for a null in a field that takes none: the encoder would write a zero.
    """
    where = where or field.name
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    if not field.nullable and array.null_count:
        raise ValueError(f"{where} takes no null, but has {array.null_count}")
    if pa.types.is_struct(field.type) and pa.types.is_struct(array.type):
        return _conform_struct(array, field, where)
    if array.type == field.type:
        return array
    try:
        return array.cast(field.type)
    except pa.ArrowException as error:
        raise ValueError(f"{where}: {array.type} is no {field.type}: {type(error).__name__}") from error


def _conform_struct(array: pa.StructArray, field: pa.Field, where: str) -> pa.Array:
    if array.type == field.type and not any(_lacks(array.field(i), child) for i, child in enumerate(field.type)):
        return array
    children = []
    for child in field.type:
        index = array.type.get_field_index(child.name)
        if index < 0:
            raise ValueError(f"{where}.{child.name} is missing")
        children.append(conform(array.field(index), child, f"{where}.{child.name}"))
    mask = array.is_null() if array.null_count else None
    return pa.StructArray.from_arrays(children, fields=list(field.type), mask=mask)


def _lacks(array: pa.Array, field: pa.Field) -> bool:
    """Whether a value is missing where the field takes no null; in a record in a record that is looked at anew."""
    return pa.types.is_struct(field.type) or bool(not field.nullable and array.null_count)
