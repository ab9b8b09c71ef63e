"""How a record becomes a row: which columns of the history come from which fields, and where the record stood.

schemas/clickhouse/0001_logs.sql has the same names and types. I/O: none.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from schemas.codec import DecodedLog
from schemas.deadletter import DeadLetter, parse
from schemas.records import record
from schemas.redrive import Redriven, parse_marker
from streams.transport.batch import Batch
from streams.transport.packed import Packed

_US = pa.timestamp("us", "UTC")
_MS = pa.timestamp("ms", "UTC")
PIECE_BYTES = 256 * 1024
_END_OF_STREAM = b"\xff\xff\xff\xff\x00\x00\x00\x00"
# The years 1970 to 2262, which every unit of ClickHouse's DateTime64 can hold; a producer may state any number.
_TIME_US_MAX = (2**63 - 1) // 1000


@dataclass(frozen=True, slots=True)
class Table:
    """`name` is the base table; `columns` gives for each of its columns the field it comes from, by dotted path.

    Columns in `times` hold microseconds since the epoch, clamped to what ClickHouse can hold; nulls in a column of
    `texts` become empty (a sorting key takes none).
    """

    name: str
    record: str
    columns: Mapping[str, str]
    times: frozenset[str] = frozenset()
    texts: frozenset[str] = frozenset()


def _same(*names: str) -> dict[str, str]:
    return {name: name for name in names}


def _under(parent: str, *names: str) -> dict[str, str]:
    return {name: f"{parent}.{name}" for name in names}


_SLIP = ("agent_id", "attempt", "seat", "stage", "intent", "band", "reason", "route_version", "attempts", "probe_epoch")

TABLES: Mapping[str, Table] = {
    table.record: table
    for table in (
        Table(
            "tasks_log",
            "TaskSubmitted",
            _same(*(field.name for field in record("TaskSubmitted").arrow)),
            times=frozenset({"submitted_at"}),
        ),
        Table(
            "dispatches_log",
            "TaskDispatched",
            {
                **_under("slip", *_SLIP, "confidence", "panel", "chain", "value_tier", "timeout_ms", "routed_at"),
                "deadline_default_ms": "slip.deadline_default_ms",
                "task_cost_microusd": "slip.cost_microusd",
                "task_tokens": "slip.tokens",
                **_under("task", "tenant", "task_id", "conversation_id", "root_id", "submitted_at"),
            },
            times=frozenset({"routed_at", "submitted_at"}),
        ),
        Table(
            "agent_events_log",
            "AgentEvent",
            {
                **_under("slip", *_SLIP, "timeout_ms", "routed_at"),
                **_under("task", "tenant", "task_id", "conversation_id", "root_id", "cause_id", "depth"),
                **_under("task", "submitted_at", "deadline_ms"),
                **_same("event_id", "kind", "agent_version", "epoch", "answer", "vote_key", "payload", "confidence"),
                **_same("citations", "facts", "error_class", "error", "tokens_in", "tokens_out", "cost_microusd"),
                **_same("started_at", "finished_at", "drift", "ordinal", "tool_calls"),
            },
            times=frozenset({"routed_at", "submitted_at", "started_at", "finished_at"}),
        ),
        Table(
            "results_log",
            "TaskResult",
            _same(*(field.name for field in record("TaskResult").arrow)),
            times=frozenset({"submitted_at", "decided_at"}),
        ),
        Table(
            "orchestrator_events_log",
            "OrchestratorEvent",
            _same(*(field.name for field in record("OrchestratorEvent").arrow)),
            times=frozenset({"submitted_at", "at"}),
            texts=frozenset({"tenant", "task_id"}),
        ),
        Table("breaker_states_log", "BreakerState", _same(*(field.name for field in record("BreakerState").arrow))),
        Table(
            "pause_states_log",
            "PauseState",
            _same(*(field.name for field in record("PauseState").arrow)),
            times=frozenset({"at"}),
        ),
        Table(
            "memory_directives_log",
            "MemoryDirective",
            _same(*(field.name for field in record("MemoryDirective").arrow)),
            times=frozenset({"at"}),
            texts=frozenset({"tenant", "conversation_id"}),
        ),
        Table(
            "agent_cards_log",
            "AgentCard",
            {
                **_same("agent_id", "kind", "effect", "description", "host_id", "announced_at"),
                "agent_version": "version",
            },
            times=frozenset({"announced_at"}),
        ),
        Table(
            "health_counts_log",
            "HealthCounts",
            {
                ("task_partition" if field.name == "partition" else field.name): field.name
                for field in record("HealthCounts").arrow
            },
        ),
    )
}
DEAD_LETTERS = "dead_letters_log"
REDRIVES = "redrives_log"
COPIES = ("conversation_outcomes_log", "conversation_tasks_log")
"""Tables that ClickHouse fills, with rows of others under another key."""
PLACES = ("topic", "partition", "offset", "appended_at")
_ORIGINS = ("origin_topic", "origin_partition", "origin_offset", "origin_at")
_COLUMNS: Mapping[str, Sequence[str]] = {
    DEAD_LETTERS: (*_ORIGINS, "reason", "detail", "component", "attempt", "key", "value"),
    REDRIVES: (*_ORIGINS[:3], "letter_offset", "to_offset", "attempt", "changed", "at"),
    **{table.name: tuple(table.columns) for table in TABLES.values()},
}


def columns_of(name: str) -> tuple[str, ...]:
    """The columns of a base table that a row is given."""
    return (*_COLUMNS[name], *PLACES)


def rows_of(table: Table, batch: pa.RecordBatch, places: pa.RecordBatch) -> pa.RecordBatch:
    """Rows of `table` from decoded records, and where each of them stood (`places_of`)."""
    columns: dict[str, Any] = {}
    for name, path in table.columns.items():
        field, *inner = path.split(".")
        column = batch.column(field)
        if inner:
            column = pc.struct_field(column, inner)
        if name in table.times:
            column = _time(column)
        elif name in table.texts:
            column = pc.fill_null(column, "")
        columns[name] = column
    return _placed(columns, places)


def _placed(columns: Mapping[str, Any], places: pa.RecordBatch) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict({**columns, **dict(zip(PLACES, places.columns, strict=True))})


def rows_of_dead_topic(raw: Batch) -> tuple[pa.RecordBatch, pa.RecordBatch | None]:
    """Rows of the tables of dead letters and, where there are markers, of redrives; nothing on the topic is refused."""
    headers = raw.headers or [[]] * len(raw)
    markers = {row: marker for row, each in enumerate(headers) if each and (marker := parse_marker(each)) is not None}
    if not markers:
        return dead_rows_of(raw), None
    letters = np.setdiff1d(np.arange(len(raw)), list(markers))
    redrives = _redrive_rows(raw.take(np.array(list(markers), np.intp)), list(markers.values()))
    return dead_rows_of(raw.take(letters)), redrives


def _redrive_rows(raw: Batch, markers: Sequence[Redriven]) -> pa.RecordBatch:
    origins = [marker.origin for marker in markers]
    numbers = ("letter_offset", "to_offset", "attempt")
    return _placed(
        {
            "origin_topic": pa.array([origin.topic for origin in origins], pa.string()),
            "origin_partition": pa.array([origin.partition for origin in origins], pa.int64()),
            "origin_offset": pa.array([origin.offset for origin in origins], pa.int64()),
            **{name: pa.array([getattr(each, name) for each in markers], pa.int64()) for name in numbers},
            "changed": pa.array([marker.changed for marker in markers], pa.string()),
            "at": _time(pa.array([marker.at_ms for marker in markers], pa.int64()), _MS),
        },
        places_of(raw, np.arange(len(raw))),
    )


def dead_rows_of(raw: Batch) -> pa.RecordBatch:
    """Rows of the table of dead letters."""
    letters = [parse(headers) for headers in raw.headers or [[]] * len(raw)]
    own = zip(raw.topics, raw.partitions.tolist(), raw.offsets.tolist(), raw.timestamps_ms.tolist(), strict=True)
    origins = [letter.origin or place for letter, place in zip(letters, own, strict=True)]
    topics, partitions, offsets, appended = zip(*origins, strict=True) if origins else ((), (), (), ())
    columns = {
        "origin_topic": pa.array(topics, pa.string()),
        "origin_partition": pa.array(partitions, pa.int64()),
        "origin_offset": pa.array(offsets, pa.int64()),
        "origin_at": _time(pa.array(appended, pa.int64()), _MS),
        **_described(letters),
        "key": pa.array(raw.keys, pa.binary()),
        "value": pa.array(raw.values, pa.binary()),
    }
    return _placed(columns, places_of(raw, np.arange(len(raw))))


def _described(letters: Sequence[DeadLetter]) -> dict[str, pa.Array]:
    return {
        **{
            name: pa.array([getattr(letter, name) for letter in letters], pa.string())
            for name in ("reason", "detail", "component")
        },
        "attempt": pa.array([letter.attempt for letter in letters], pa.int64()),
    }


def places_of(raw: Batch, rows: npt.NDArray[np.int64]) -> pa.RecordBatch:
    """Where the given rows of a raw batch stood: the columns PLACES."""
    whole = len(rows) == len(raw)
    topics = raw.topics if whole else [raw.topics[row] for row in rows.tolist()]
    return _places(pa.array(topics, pa.string()), raw.partitions[rows], raw.offsets[rows], raw.timestamps_ms[rows])


def places_of_log(log: Packed, decoded: DecodedLog) -> pa.RecordBatch:
    """As `places_of`, of all records of whole packs."""
    names, numbers = np.unique(log.topics(), return_inverse=True)
    topics = pa.DictionaryArray.from_arrays(pa.array(np.repeat(numbers, log.rows())), pa.array(names, pa.string()))
    appended = np.where(log.each(lambda pack: pack.has_append_time), log.each(lambda pack: pack.last_ms), 0)
    sent = log.each(lambda pack: pack.first_ms) + decoded.time_deltas
    offsets = log.each(lambda pack: pack.base) + decoded.offset_deltas
    partitions = log.each(lambda pack: pack.tp.partition)
    return _places(topics.cast(pa.string()), partitions, offsets, np.where(appended, appended, sent))


def _places(
    topics: pa.StringArray,
    partitions: npt.NDArray[np.int32] | npt.NDArray[np.int64],
    offsets: npt.NDArray[np.int64],
    appended_ms: npt.NDArray[np.int64],
) -> pa.RecordBatch:
    columns = [
        topics,
        pa.array(partitions, pa.int32()),
        pa.array(offsets, pa.int64()),
        _time(pa.array(appended_ms, pa.int64()), _MS),
    ]
    return pa.RecordBatch.from_arrays(columns, list(PLACES))


def _time(column: Any, unit: pa.DataType = _US) -> Any:
    limit = _TIME_US_MAX if unit == _US else _TIME_US_MAX // 1000
    return pc.min_element_wise(pc.max_element_wise(column, 0), limit).cast(unit)


def stream_of(parts: Iterable[pa.RecordBatch]) -> Iterator[bytes]:
    """Rows of one table, at least one part, as an Arrow stream, in pieces that stay in the cache on their way."""
    for number, part in enumerate(parts):
        if number == 0:
            yield from _pieces(part.schema.serialize())
        yield from _pieces(part.serialize())
    yield _END_OF_STREAM


def _pieces(message: pa.Buffer) -> Iterator[bytes]:
    view = memoryview(message)
    for start in range(0, len(view), PIECE_BYTES):
        yield bytes(view[start : start + PIECE_BYTES])
