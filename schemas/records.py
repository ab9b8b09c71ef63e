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
    arrays = _fill(kind.definition, list(kind.arrow), columns, n, kind.name)
    return pa.RecordBatch.from_arrays(arrays, schema=kind.arrow)


def _fill(
    definition: Definition, fields: list[pa.Field], columns: Mapping[str, Column], n: int, path: str
) -> list[pa.Array]:
    names = {field.name for field in fields}
    if unknown := [name for name in columns if name not in names]:
        raise ValueError(f"{path} has no field {', '.join(unknown)}")
    arrays = []
    for spec, field in zip(definition["fields"], fields, strict=True):
        where = f"{path}.{field.name}"
        if field.name in columns:
            arrays.append(_column(spec["type"], field, columns[field.name], n, where))
        elif "default" in spec:
            arrays.append(_default(spec["default"], field, n, where))
        else:
            raise ValueError(f"{where} is missing and has no default")
    return arrays


_ARRAYS = (pa.Array, pa.ChunkedArray)
_DEFAULTS: dict[str, tuple[Any, pa.Array]] = {}
"""Of each field that was left out, its default, and as many rows of it as were asked for: made once."""


def _default(value: Any, field: pa.Field, n: int, where: str) -> pa.Array:
    same, known = _DEFAULTS.get(where, (None, None))
    if known is None or same is not value or known.type != field.type or len(known) < n:
        known = constant(value, field.type, 2 * n)
        _DEFAULTS[where] = value, known
    return known.slice(0, n)


def _column(definition: Definition, field: pa.Field, value: Column, n: int, where: str) -> pa.Array:
    if isinstance(value, _ARRAYS):
        array = conform(value, field, where)
    elif isinstance(value, list | tuple):
        array = conform(pa.array(value, field.type), field, where)
    elif isinstance(value, Mapping) and pa.types.is_struct(field.type):
        children = _fill(definition, list(field.type), value, n, where)
        return pa.StructArray.from_arrays(children, fields=list(field.type))
    else:
        array = conform(constant(value, field.type, n), field, where)
    if len(array) != n:
        raise ValueError(f"{where} has {len(array)} rows, not {n}")
    return array


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
    children = []
    for child in field.type:
        index = array.type.get_field_index(child.name)
        if index < 0:
            raise ValueError(f"{where}.{child.name} is missing")
        children.append(conform(array.field(index), child, f"{where}.{child.name}"))
    mask = array.is_null() if array.null_count else None
    return pa.StructArray.from_arrays(children, fields=list(field.type), mask=mask)
