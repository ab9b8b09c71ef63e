"""Record values to Arrow columns and back, a batch at a time; one bad record never costs its neighbours.

Wire: Confluent framing (byte 0, schema id as 4 bytes big-endian, one Avro datum), or JSON text where a value starts
with `{`. I/O: none but the registry's.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyruhvro

from schemas.definitions import Definition, UnsupportedSchemaError, collapse, compact, parse
from schemas.envelope import Envelope, FramedReader, first_frame
from schemas.errors import UnknownSchemaError
from schemas.evolution import Project, project_fields, widened
from schemas.json_form import UnfitJsonError, read_json
from schemas.plain import PlainEncoder
from schemas.reasons import DeadReason
from schemas.records import RecordType, record, table
from schemas.registry import Schema, SchemaRegistry, dispatch_id_for

FRAME_BYTES = 5
JSON_SCHEMA_ID = -1  # stands for "today's" where a record came as JSON; no datum has it
HTTP_NOT_FOUND = 404
# These carry a task, or labels and answers, beside what is theirs: what was let in has to get through.
CARRIERS = frozenset({"TaskDispatched", "AgentEvent", "TaskResult", "TaskSpilled"})
READERS_MAX = 1_000  # schemas that a codec has at hand; of others it makes a reader anew
FEW = 64  # rows: from here on columns cost less, though they cost 300 us before the first row
CARRIED_MAX = 4  # times the limit; with its default, what Kafka takes by default


@dataclass(frozen=True, slots=True)
class DecodeFault:
    """One value that is no record: its index in the input, and why. `detail` never quotes the value."""

    row: int
    reason: DeadReason
    detail: str


@dataclass(frozen=True, slots=True)
class Decoded:
    """What a batch of values holds.

    `batch`: the valid records in input order, in today's columns. `rows` (int64): the input index of each of them.
    `schema_ids` (int64): the writer's schema of each, JSON_SCHEMA_ID for JSON. `faults`: the other values, in order.
    """

    batch: pa.RecordBatch
    rows: npt.NDArray[np.int64]
    faults: list[DecodeFault]
    schema_ids: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class DecodedLog:
    """As `Decoded`, of records that are all valid; the other columns as `Unwrapped` has them."""

    keys: pa.StringArray
    batch: pa.RecordBatch
    offset_deltas: npt.NDArray[np.int64]
    time_deltas: npt.NDArray[np.int64]


class _MalformedError(Exception):
    """At least one datum of a batch cannot be read."""

    def __init__(self, reason: DeadReason, detail: str) -> None:
        self.reason, self.detail = reason, detail
        super().__init__(detail)


@dataclass(frozen=True)
class _Reader:
    """Reads datums of one writer's schema into today's columns."""

    schema_id: int
    schema: str
    framed: FramedReader
    project: Project | None
    arrow: pa.Schema

    def read(self, datums: list[bytes]) -> pa.RecordBatch:
        """Raises _MalformedError when any datum is; bytes after a datum are ignored, as Avro readers do."""
        try:
            batch = pyruhvro.deserialize_array(datums, self.schema)
        except ValueError as error:
            raise _MalformedError(DeadReason.UNDECODABLE, str(error)) from error
        return self.as_today(batch)

    def read_framed(self, values: Sequence[bytes]) -> pa.RecordBatch | None:
        """As `read`, of values with their frames; None where any is malformed or framed otherwise."""
        batch = self.framed.read(values)
        if batch is None:
            return None
        try:
            return self.as_today(batch)
        except _MalformedError:
            return None

    def as_today(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """What was decoded, in today's columns. Raises _MalformedError when any value of it is."""
        try:
            batch.validate(full=True)  # the decoder takes any bytes for text
        except pa.ArrowInvalid as error:
            raise _MalformedError(DeadReason.INVALID_UTF8, "a text field is not UTF-8") from error
        try:
            columns = batch.columns if self.project is None else self.project(batch.columns, batch.num_rows)
        except pa.ArrowInvalid as error:
            raise _MalformedError(DeadReason.UNDECODABLE, "a number does not fit its field") from error
        return pa.RecordBatch.from_arrays(columns, schema=self.arrow)

    def bad(self, datums: list[bytes], start: int = 0) -> Iterator[tuple[int, _MalformedError]]:
        """Index and cause of every unreadable datum, by bisection: each costs the logarithm of the batch."""
        try:
            self.read(datums)
        except _MalformedError as cause:
            if len(datums) == 1:
                yield start, cause
                return
            middle = len(datums) // 2
            yield from self.bad(datums[:middle], start)
            yield from self.bad(datums[middle:], start + middle)


def plan(text: str, kind: RecordType) -> tuple[Definition, Project | None]:
    """How data of this schema are read as today's record: the schema to decode with, and the step to today's columns.

    Raises UnsupportedSchemaError where they cannot be.
    """
    writer = parse(text)
    if not isinstance(writer, dict) or writer.get("name") != kind.subject:
        raise UnsupportedSchemaError(f"it is not a {kind.name}")
    wide = widened(writer)
    return wide, project_fields(wide, kind.definition, list(kind.arrow), kind.name)


class Codec:
    """Encodes and decodes every record of a deployment. Not shared between threads."""

    def __init__(self, registry: SchemaRegistry, record_bytes_max: int) -> None:
        self.registry, self.record_bytes_max = registry, record_bytes_max
        self._readers: dict[tuple[int, str], _Reader] = {}
        self._frames: dict[str, bytes] = {}
        self._envelopes: dict[tuple[int, str], Envelope] = {}
        self._plain: dict[str, PlainEncoder] = {}
        self._dispatch_frames: dict[int, bytes | None] = {}

    def decode(self, values: Sequence[bytes | None], record_name: str) -> Decoded:
        """The values as records of this type, whatever version of it each was written with.

        Never raises for what a value holds; errors of the registry, other than "not found", do come through.
        """
        fast = self._decode_uniform(values, record_name)
        return fast if fast is not None else self._decode_mixed(values, record_name)

    def _decode_uniform(self, values: Sequence[bytes | None], record_name: str) -> Decoded | None:
        """The ordinary case: one known schema, nothing wrong. None where it is not that."""
        head = values[0][:FRAME_BYTES] if values and values[0] is not None else b""
        reader = self._reader_of(head, record_name)
        if isinstance(reader, DecodeFault):
            return None
        try:
            size = max(map(len, values))  # type: ignore[arg-type]
        except TypeError:  # a null
            return None
        batch = reader.read_framed(values) if size <= self._bytes_max(record_name) else None  # type: ignore[arg-type]
        if batch is None:
            return None
        n = len(values)
        return Decoded(batch, np.arange(n), [], np.full(n, reader.schema_id, np.int64))

    def decode_log(
        self, batches: Sequence[bytes], rows: int, record_name: str, *, doubted: bool = False
    ) -> DecodedLog | None:
        """`rows` records of this type out of Kafka record batches, without their headers and uncompressed.

        None where they are not all valid, or not written alike, with a key and without headers: then `decode` says of
        each what it is. Whoever may write to a log could have a record read otherwise here than there, by bytes behind
        a datum: what others than our own processes write is to be `doubted`.
        """
        frame = first_frame(batches[0]) if batches else None
        reader = None if frame is None else self._reader_of(frame, record_name)
        if frame is None or not isinstance(reader, _Reader):
            return None
        envelope = self._envelopes.get((reader.schema_id, record_name))
        if envelope is None:
            _make_room(self._envelopes)
            envelope = self._envelopes[reader.schema_id, record_name] = Envelope(frame, reader.schema)
        found = envelope.read(batches, rows, doubted=doubted)
        if found is None or found.value_bytes > self._bytes_max(record_name):
            return None
        try:
            batch = reader.as_today(pa.RecordBatch.from_struct_array(found.values))
        except _MalformedError:
            return None
        return DecodedLog(found.keys, batch, found.offset_deltas, found.time_deltas)

    def _decode_mixed(self, values: Sequence[bytes | None], record_name: str) -> Decoded:
        bytes_max = self._bytes_max(record_name)
        groups: dict[bytes, list[int]] = {}
        texts: list[tuple[int, bytes]] = []
        faults: list[DecodeFault] = []
        for row, value in enumerate(values):
            if value is None:
                faults.append(DecodeFault(row, DeadReason.NULL_VALUE, "no value"))
            elif not value:
                faults.append(DecodeFault(row, DeadReason.EMPTY_VALUE, "no bytes"))
            elif len(value) > bytes_max:
                detail = f"{len(value)} bytes, {bytes_max} are allowed"
                faults.append(DecodeFault(row, DeadReason.OVERSIZED, detail))
            elif value[0] == ord("{"):
                texts.append((row, value))
            else:
                groups.setdefault(value[:FRAME_BYTES], []).append(row)
        parts: list[Part] = []
        for head, rows in groups.items():
            reader = self._reader_of(head, record_name)
            if isinstance(reader, DecodeFault):
                faults += [DecodeFault(row, reader.reason, reader.detail) for row in rows]
                continue
            datums = [value[FRAME_BYTES:] for value in map(values.__getitem__, rows) if value is not None]
            bad = dict(reader.bad(datums))
            faults += [DecodeFault(rows[i], cause.reason, cause.detail) for i, cause in bad.items()]
            good = [i for i in range(len(rows)) if i not in bad]
            if good:
                batch = reader.read([datums[i] for i in good])
                parts.append(([rows[i] for i in good], batch, reader.schema_id))
        if texts:
            parts.append(_read_texts(texts, record(record_name), faults))
        faults.sort(key=lambda fault: fault.row)
        return _gather(record(record_name), parts, faults)

    def _bytes_max(self, record_name: str) -> int:
        return self.record_bytes_max * (CARRIED_MAX if record_name in CARRIERS else 1)

    def _reader_of(self, head: bytes, record_name: str) -> _Reader | DecodeFault:
        """Who reads values that start like this; a fault (of no row) where nobody can."""
        if len(head) < FRAME_BYTES or head[0] != 0:
            return DecodeFault(-1, DeadReason.UNFRAMED, f"does not start with byte 0 and a schema id{_guess(head)}")
        (schema_id,) = struct.unpack_from(">I", head, 1)
        found = self._readers.get((schema_id, record_name))
        if found is not None:
            return found
        try:
            text = self.registry.get_schema(schema_id, record(record_name).subject).schema_str
        except UnknownSchemaError as error:
            return DecodeFault(-1, DeadReason.UNKNOWN_SCHEMA, str(error))
        except UnsupportedSchemaError as error:
            return DecodeFault(-1, DeadReason.WRONG_SCHEMA, f"schema id {schema_id}: {error}")
        except Exception as error:
            if getattr(error, "http_status_code", None) != HTTP_NOT_FOUND:
                raise
            return DecodeFault(-1, DeadReason.UNKNOWN_SCHEMA, f"schema id {schema_id} is not in the registry")
        return self._new_reader(schema_id, text or "null", record(record_name))

    def _new_reader(self, schema_id: int, text: str, kind: RecordType) -> _Reader | DecodeFault:
        try:
            wide, project = plan(text, kind)
        except UnsupportedSchemaError as error:
            return DecodeFault(-1, DeadReason.WRONG_SCHEMA, f"schema id {schema_id}: {error}")
        schema = compact(collapse(wide))
        framed = FramedReader(_frame(schema_id), schema)
        reader = _Reader(schema_id, schema, framed, project, kind.arrow)
        _make_room(self._readers)
        self._readers[schema_id, kind.name] = reader
        return reader

    def encode(self, batch: pa.RecordBatch, record_name: str) -> list[bytes]:
        """One framed value per row; `batch` has exactly the record's columns (`schemas.records.table` makes them)."""
        frame = self.frame(record_name)
        return [frame + datum for datum in self.encode_datums(batch, record_name)]

    def encode_values(self, columns: Mapping[str, Any], n: int, record_name: str) -> list[bytes]:
        """As `encode`, of columns of Python values, as `PlainEncoder.encode` takes them: of few rows without Arrow."""
        if n > FEW:
            return self.encode(table(record_name, columns, n), record_name)
        encoder = self._plain.get(record_name)
        if encoder is None:
            encoder = self._plain[record_name] = PlainEncoder(record(record_name))
        frame = self.frame(record_name)
        return [frame + datum for datum in encoder.encode(columns, n)]

    def encode_datums(self, batch: pa.RecordBatch, record_name: str) -> list[bytes]:
        """One Avro datum per row, without its frame."""
        if batch.num_rows == 0:
            return []
        datums: list[bytes] = pyruhvro.serialize_record_batch(batch, record(record_name).avro, 1)[0].to_pylist()
        return datums

    def frame(self, record_name: str) -> bytes:
        """The five bytes that precede a datum of today's schema of this record."""
        found = self._frames.get(record_name)
        if found is None:
            kind = record(record_name)
            schema_id = self.registry.register_schema(kind.subject, Schema(kind.avro))
            found = self._frames[record_name] = _frame(schema_id)
        return found

    def dispatch_frame(self, task_schema_id: int) -> bytes | None:
        """The frame of a dispatch whose task was written with this schema; None: encode the task anew."""
        if task_schema_id == JSON_SCHEMA_ID:
            return None
        if task_schema_id not in self._dispatch_frames:
            dispatch_id = dispatch_id_for(self.registry, task_schema_id)
            _make_room(self._dispatch_frames)
            self._dispatch_frames[task_schema_id] = None if dispatch_id is None else _frame(dispatch_id)
        return self._dispatch_frames[task_schema_id]


_GUESSES = (
    (b"[", "; a JSON array is no record: send each of its objects as a value of its own"),
    (b'"', "; JSON text is no record: send the object itself, not quoted"),
    (b"\xef\xbb\xbf", "; before the JSON stands a byte order mark: leave it out"),
    (b"Obj\x01", "; an Avro file is no record: send each of its datums as a value of its own"),
)


def _guess(head: bytes) -> str:
    """What whoever wrote a value that starts like this most likely meant."""
    if head[:1].isspace():
        return ", or at once with {: white space stands before it"
    return next((guess for start, guess in _GUESSES if head.startswith(start)), "")


def _make_room(cache: dict[Any, Any]) -> None:
    """The oldest goes; it is made anew if it is asked for."""
    if len(cache) >= READERS_MAX:
        del cache[next(iter(cache))]


def _frame(schema_id: int) -> bytes:
    return struct.pack(">BI", 0, schema_id)


Part: TypeAlias = tuple[list[int], pa.RecordBatch, int]  # rows of the input, what they hold, the writer's schema


def _read_texts(texts: list[tuple[int, bytes]], kind: RecordType, faults: list[DecodeFault]) -> Part:
    """JSON values, one by one: the slow way in, for people and small producers. Appends to `faults`."""
    rows, found = [], []
    for row, value in texts:
        try:
            found.append(read_json(value, kind))
        except UnfitJsonError as error:
            faults.append(DecodeFault(row, error.reason, error.detail))
        else:
            rows.append(row)
    return rows, pa.RecordBatch.from_pylist(found, schema=kind.arrow), JSON_SCHEMA_ID


def _gather(kind: RecordType, parts: list[Part], faults: list[DecodeFault]) -> Decoded:
    """The parts as one batch, in input order."""
    if not parts:
        empty = pa.RecordBatch.from_arrays([pa.array([], field.type) for field in kind.arrow], schema=kind.arrow)
        return Decoded(empty, np.empty(0, np.int64), faults, np.empty(0, np.int64))
    rows = np.concatenate([np.asarray(part_rows, np.int64) for part_rows, _, _ in parts])
    schema_ids = np.concatenate([np.full(len(part_rows), schema_id, np.int64) for part_rows, _, schema_id in parts])
    batches = [pa.RecordBatch.from_arrays(batch.columns, schema=kind.arrow) for _, batch, _ in parts]
    order = np.argsort(rows, kind="stable")
    return Decoded(pa.concat_batches(batches).take(pa.array(order)), rows[order], faults, schema_ids[order])
