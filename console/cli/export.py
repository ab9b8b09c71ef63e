"""An answer of the history into a file: Parquet, Arrow, JSON lines or CSV, by the file's ending, in bounded memory.

The file appears when it is whole: until then it has another name beside it. I/O: ClickHouse, files.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.csv as pc_csv
import pyarrow.parquet as pq

from console.cli.failures import UsageError
from console.cli.values import dumps
from schemas.codes import ErrorCode

# A Parquet row group: large enough to be read well, small enough to hold.
GROUP_ROWS, GROUP_BYTES = 262_144, 64 * 1024 * 1024


class Writer(Protocol):
    def write_table(self, table: pa.Table, /) -> None: ...


class _JsonLines:
    def __init__(self, file: Any) -> None:
        self._file = file

    def write_table(self, table: pa.Table) -> None:
        columns = [_values(table.column(name).combine_chunks()) for name in table.column_names]
        for row in zip(*columns, strict=True):
            self._file.write(dumps(dict(zip(table.column_names, row, strict=True))).encode() + b"\n")


Opens = Callable[[Path, pa.Schema], AbstractContextManager[Writer]]


@contextmanager
def _json_lines(path: Path, _: pa.Schema) -> Iterator[Writer]:
    with path.open("wb") as file:
        yield _JsonLines(file)


def _parquet(path: Path, schema: pa.Schema) -> AbstractContextManager[Writer]:
    writer: AbstractContextManager[Writer] = pq.ParquetWriter(path, schema, compression="zstd")
    return writer


def _arrow(path: Path, schema: pa.Schema) -> AbstractContextManager[Writer]:
    writer: AbstractContextManager[Writer] = pa.ipc.new_file(path, schema)
    return writer


def _csv(path: Path, schema: pa.Schema) -> AbstractContextManager[Writer]:
    nested = [column.name for column in schema if pa.types.is_nested(column.type)]
    if nested:
        text = f"CSV has no place for lists and mappings, such as {nested[0]}: choose .parquet, .arrow or .jsonl"
        raise UsageError(text, code=ErrorCode.FLAG_VALUE)
    writer: AbstractContextManager[Writer] = pc_csv.CSVWriter(path, schema)
    return writer


FORMS: Mapping[str, Opens] = {".parquet": _parquet, ".arrow": _arrow, ".jsonl": _json_lines, ".csv": _csv}


def opener(path: Path) -> Opens:
    """How a file of this name is written. Raises UsageError."""
    found = FORMS.get(path.suffix.lower())
    if found is None:
        text = f"--out {path}: its name must end in {', '.join(FORMS)}, which says how it is written"
        raise UsageError(text, code=ErrorCode.FLAG_VALUE)
    return found


def write(reader: pa.RecordBatchReader, path: Path) -> int:
    """Writes all rows, a group at a time, and says how many there were. Raises UsageError, OSError."""
    opens, rows = opener(path), 0
    half = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with opens(half, reader.schema) as writer:
            for group in _groups(reader):
                writer.write_table(group)
                rows += group.num_rows
        half.replace(path)
    finally:
        half.unlink(missing_ok=True)
    return rows


def _groups(reader: pa.RecordBatchReader) -> Iterator[pa.Table]:
    held: list[pa.RecordBatch] = []
    for batch in reader:
        held.append(batch)
        if sum(each.num_rows for each in held) >= GROUP_ROWS or sum(each.nbytes for each in held) >= GROUP_BYTES:
            yield pa.Table.from_batches(held)
            held = []
    if held:
        yield pa.Table.from_batches(held)


def _values(column: Any) -> list[Any]:
    """A column as Python has it; text that is no UTF-8 (keys and values of dead letters) as hexadecimal digits."""
    if pa.types.is_map(column.type):
        return [None if each is None else dict(each) for each in column.to_pylist()]
    try:
        return list(column.to_pylist())
    except UnicodeDecodeError:
        return [None if each is None else _text(each) for each in column.cast(pa.binary()).to_pylist()]


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return f"0x{raw.hex()}"
