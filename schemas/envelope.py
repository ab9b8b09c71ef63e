"""Many records of a Kafka log, decoded in one call: a record batch is laid out as an Avro array would be.

Kafka writes a record as varints in zigzag, byte strings after their length, and single bytes
(kafka.apache.org/documentation, "Record"); Avro writes a `long`, a `string` and a `boolean` in the same way. So the
schema of what surrounds a record, with the schema of its value inside, reads the records of any number of batches as
one array: keys, values and offsets become columns, and no record is ever an object. I/O: none.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyruhvro

from schemas.definitions import UnsupportedSchemaError, expand
from schemas.extent import sizes_of
from schemas.plain import long

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

FRAME: Final = struct.Struct("<?f")
"""Of a value: a byte that is nought, and four bytes of schema id, which are taken for a number without being one."""
_END_OF_ARRAY: Final = b"\0"
_MARK: Final = 0x5EA1_ED0F_10C5
"""Stands behind the array: whoever reads it there has taken neither a byte more than the records are, nor one less."""


@dataclass(frozen=True, slots=True)
class Unwrapped:
    """Records in the order of their batches: `values` has the fields of the value's own schema.

    `offset_deltas` and `time_deltas` (int64) count from what the batch of each says, `value_bytes` is the largest size.
    """

    keys: pa.StringArray
    values: pa.StructArray
    offset_deltas: npt.NDArray[np.int64]
    time_deltas: npt.NDArray[np.int64]
    value_bytes: int


@dataclass(frozen=True, slots=True)
class Opened:
    """Records in the order of their batches, keys and values as they are; deltas (int64) count from what the batch of
    each says."""

    keys: list[bytes]
    values: list[bytes]
    offset_deltas: npt.NDArray[np.int64]
    time_deltas: npt.NDArray[np.int64]


class Envelope:
    """Reads records whose values are all framed by `frame` and written with the Avro schema `schema`."""

    def __init__(self, frame: bytes, schema: str) -> None:
        (_, self._frame) = FRAME.unpack(frame)
        value = [
            _field("value_bytes", "long"),
            _field("magic", "boolean"),
            _field("schema_id", "float"),
            _field("value", json.loads(schema)),
        ]
        record = _record(value)
        self._schema, self._fields = _log(record), expand(record)["fields"]

    def read(self, batches: Sequence[bytes], rows: int, *, doubted: bool = False) -> Unwrapped | None:
        """`rows` records from batches without their headers, uncompressed; None where any of them is not of this kind:
        a value that is null or framed otherwise, a key that is null, a record with headers, a malformed datum.

        Where they are `doubted`, also where any has a byte too much, or is not written as briefly as it can be: so
        whoever wrote them cannot have one be read in another's place. Keys are any bytes, taken for text.
        """
        records = _read(self._schema, batches, rows)
        if records is None or not self._are_alike(records):
            return None
        if doubted and not self._fit(records, sum(map(len, batches))):
            return None
        sizes = _numbers(records, "value_bytes")
        return Unwrapped(
            records.field("key"),
            records.field("value"),
            _numbers(records, "offset_delta"),
            _numbers(records, "time_delta"),
            int(sizes.max(initial=0)),
        )

    def _are_alike(self, records: pa.StructArray) -> bool:
        """The decoder would as well read another schema's data where they happen to fit."""
        frames = records.field("schema_id").to_numpy().view(np.int32)
        ours = np.array([self._frame], np.float32).view(np.int32)
        is_framed = bool((frames == ours).all()) and not pc.any(records.field("magic")).as_py()
        return is_framed and not _numbers(records, "headers").any()

    def _fit(self, records: pa.StructArray, size: int) -> bool:
        """Whether each record ends where its batch says, all of them being `size` bytes.

        A record takes at least what it takes at the briefest. If all of these together are all bytes that there are,
        each took just that; and if that is the length that stands before it, it ends where the next begins. What is
        true of the first is then true of the second, which begins where it should, and so on.
        """
        try:
            sizes = {each["name"]: sizes_of(records.field(each["name"]), each["type"]) for each in self._fields}
        except UnsupportedSchemaError:
            return False
        taken = sum(sizes.values(), np.zeros(len(records), np.int64))
        lengths, values = _numbers(records, "length"), FRAME.size + sizes["value"]
        return bool(
            int(taken.sum()) == size
            and (lengths + sizes["length"] == taken).all()
            and (_numbers(records, "value_bytes") == values).all()
        )


class FramedReader:
    """Reads values that are framed by `frame` and written with the Avro schema `schema`, a record, frames included.

    To look at each value's frame and to cut it off takes a quarter as long as to decode what is behind it; the decoder
    takes it along for next to nothing. What is framed otherwise is read by a schema that is not its own, which is an
    error or nonsense; its frame says so.
    """

    def __init__(self, frame: bytes, schema: str) -> None:
        self._id = np.frombuffer(frame, np.int32, 1, offset=1)
        definition = json.loads(schema)
        own = {field["name"] for field in definition["fields"]}
        names = [name + "_" * len(max(own, key=len, default="")) for name in ("magic", "schema_id")]  # nobody else's
        fields = [_field(name, kind) for name, kind in zip(names, ("boolean", "float"), strict=True)]
        self._schema = json.dumps(definition | {"fields": [*fields, *definition["fields"]]})

    def read(self, values: Sequence[bytes]) -> pa.RecordBatch | None:
        """The values' own columns, not validated; None where any is malformed or framed otherwise.

        Bytes behind a datum are ignored, as Avro readers do.
        """
        try:
            whole = pyruhvro.deserialize_array(values if isinstance(values, list) else list(values), self._schema)
        except ValueError:
            return None
        magic, ids, *columns = whole.columns
        if magic.true_count or not (ids.to_numpy().view(np.int32) == self._id).all():
            return None
        return pa.RecordBatch.from_arrays(columns, names=whole.schema.names[2:])


def opened(batches: Sequence[bytes], rows: int) -> Opened | None:
    """`rows` records from batches without their headers, uncompressed, whatever their values are; None where any has no
    key, no value, or headers.

    That a record is as long as it says, its broker has seen to (LogValidator, of each record of a produce request).
    """
    records = _read(_ANY, batches, rows)
    if records is None or _numbers(records, "headers").any():
        return None
    keys, values = (
        records.field(name).view(pa.binary()).to_numpy(zero_copy_only=False).tolist() for name in ("key", "value")
    )
    return Opened(keys, values, _numbers(records, "offset_delta"), _numbers(records, "time_delta"))


def first_frame(records: bytes) -> bytes | None:
    """What the value of the first of these records starts with; None where it has no key, or ends too soon."""
    try:
        place = _after(records, 0) + 1
        key_bytes, place = zigzag(records, _after(records, _after(records, place)))
        place = _after(records, place + key_bytes)
    except IndexError:
        return None
    return records[place : place + FRAME.size] if key_bytes >= 0 else None


def _read(schema: str, batches: Sequence[bytes], rows: int) -> pa.StructArray | None:
    """Records as a `_log` of this schema; None where they are not of it, or not so many."""
    data = b"".join((long(rows), *batches, _END_OF_ARRAY, long(_MARK)))
    try:
        whole = pyruhvro.deserialize_array([data], schema)
    except ValueError:
        return None
    if whole.column("mark")[0].as_py() != _MARK:
        return None
    records = whole.column("records").flatten()
    return records if len(records) == rows else None


def _record(value: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A record of Kafka's whose value is these fields."""
    fields = [
        _field("length", "long"),
        _field("attributes", "boolean"),
        _field("time_delta", "long"),
        _field("offset_delta", "long"),
        _field("key", "string"),
        *value,
        _field("headers", "long"),
    ]
    return {"type": "record", "name": "PointsmanRecord", "fields": fields}


def _log(record: dict[str, Any]) -> str:
    """Any number of such records, and a mark behind them."""
    fields = [_field("records", {"type": "array", "items": record}), _field("mark", "long")]
    return json.dumps({"type": "record", "name": "PointsmanLog", "fields": fields})


def _field(name: str, kind: Any) -> dict[str, Any]:
    return {"name": name, "type": kind}


_ANY: Final = _log(_record([_field("value", "string")]))
"""Of records with any value: bytes after their length, which are taken for a text without being one."""


def _numbers(records: pa.StructArray, name: str) -> npt.NDArray[np.int64]:
    found: npt.NDArray[np.int64] = records.field(name).to_numpy()
    return found


def _after(data: bytes, place: int) -> int:
    """Where the varint that begins here has ended."""
    while data[place] & 0x80:
        place += 1
    return place + 1


def zigzag(data: bytes, place: int) -> tuple[int, int]:
    """The varint that begins here, and where it has ended. Raises IndexError where the bytes end before it does."""
    coded = shift = 0
    while True:
        byte = data[place]
        place += 1
        coded |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return (coded >> 1) ^ -(coded & 1), place
        shift += 7
