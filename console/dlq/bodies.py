"""What a dead letter holds, read as far as it can be: as its record, else field by field up to where it breaks.

It is judged as today's processes would judge it: by today's schemas, limits and rules. I/O: none but the registry's.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import fastavro
import pyarrow as pa

from schemas.admission import admit
from schemas.codec import FRAME_BYTES, Codec, DecodeFault
from schemas.definitions import collapse, parse
from schemas.records import record, table
from schemas.redrive import DEADLINE
from schemas.topics import Topics
from streams.transport.dead_topic import Letter

SUBMISSION = "TaskSubmitted"

Fields = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Body:
    """`record`: the type that its topic carries, None for a topic of nobody.

    `fields`: the record, None where it is none. `fault`: why it would be put away today; None where it would be taken.
    """

    record: str | None = None
    fields: Fields | None = None
    fault: DecodeFault | None = None

    @property
    def task(self) -> tuple[str | None, str | None]:
        """Tenant and id of the task that it is about."""
        fields = self.fields or {}
        about = fields.get("task") if isinstance(fields.get("task"), dict) else fields
        return (about or {}).get("tenant"), (about or {}).get("task_id")


@dataclass(frozen=True, slots=True)
class Broken:
    """A datum read up to where it breaks: the fields before, the field in which it broke, and at which byte."""

    fields: Fields
    stopped_in: str | None
    stopped_at: int


class Bodies:
    """Reads letters; `settle` makes sure that the registry of the producers knows what their ids mean."""

    def __init__(self, topics: Topics, codec: Codec, settle: Callable[[Iterable[int]], None]) -> None:
        self._topics, self._codec, self._settle = topics, codec, settle

    def read(self, letters: Sequence[Letter]) -> list[Body]:
        """One for each letter, in order."""
        found = [Body() for _ in letters]
        by_record: dict[str, list[int]] = {}
        for place, letter in enumerate(letters):
            name = self._record_of(letter)
            if name is not None:
                by_record.setdefault(name, []).append(place)
        self._settle(filter(None, (schema_id_of(letter.value) for letter in letters)))
        for name, places in by_record.items():
            for place, body in zip(places, self._read_as(name, [letters[each] for each in places]), strict=True):
                found[place] = body
        return found

    def _record_of(self, letter: Letter) -> str | None:
        origin = letter.said.origin
        return None if origin is None else self._topics.of_any_agent([origin.topic]).record_of(origin.topic)

    def _read_as(self, name: str, letters: Sequence[Letter]) -> list[Body]:
        values, keys = [letter.value for letter in letters], [letter.key for letter in letters]
        decoded = self._codec.decode(values, name)
        rows: list[Fields | None] = [None] * len(letters)
        for row, fields in zip(decoded.rows.tolist(), decoded.batch.to_pylist(maps_as_pydicts="lossy"), strict=True):
            rows[row] = fields
        faults = {fault.row: fault for fault in admit(self._codec, name, values, keys).faults}
        return [Body(name, fields, faults.get(row)) for row, fields in enumerate(rows)]

    def broken(self, letter: Letter) -> Broken | None:
        """A value that is no record, field by field; None where not even its schema is known."""
        name, schema_id = self._record_of(letter), schema_id_of(letter.value)
        if name is None or schema_id is None:
            return None
        try:
            text = self._codec.registry.get_schema(schema_id, record(name).subject).schema_str
            fields = parse(text or "null")["fields"]
        except Exception:  # noqa: BLE001  a registry raises what it likes, and nothing is known then
            return None
        return _field_by_field(fields, (letter.value or b"")[FRAME_BYTES:])

    def with_deadline(self, letter: Letter, deadline_ms: int) -> bytes:
        """The same submission with another deadline, as today's record. The letter must hold one that is taken."""
        decoded = self._codec.decode([letter.value], SUBMISSION)
        columns: Fields = {name: decoded.batch.column(name) for name in decoded.batch.schema.names}
        columns[DEADLINE] = pa.array([deadline_ms], pa.int64())
        return self._codec.encode(table(SUBMISSION, columns, 1), SUBMISSION)[0]


def schema_id_of(value: bytes | None) -> int | None:
    """The schema id that a framed value names."""
    if value is None or len(value) < FRAME_BYTES or value[0] != 0:
        return None
    (schema_id,) = struct.unpack_from(">I", value, 1)
    return int(schema_id)


def _field_by_field(fields: Sequence[dict[str, Any]], datum: bytes) -> Broken:
    source, found = io.BytesIO(datum), {}
    for field in fields:
        begins = source.tell()
        try:
            found[field["name"]] = fastavro.schemaless_reader(
                source, fastavro.parse_schema(collapse(field["type"])), None
            )
        except Exception:  # noqa: BLE001  whatever it is, here is where the datum ends to make sense
            return Broken(found, field["name"], FRAME_BYTES + begins)
    return Broken(found, None, FRAME_BYTES + source.tell())
