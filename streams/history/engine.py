"""The embedded ClickHouse engine: one chDB engine for one data directory, many isolated handles on it.

chDB allows one engine, so one data directory, per process, and one process per data directory. A handle has its own
settings and database, as a ClickHouse connection has; so every request gets one as new and nothing leaks from one
request into the next. To open one and to set it up takes 1 ms: queries, which leave nothing behind, share them
(streams/history/sessions.py). I/O: files below the data directory.
"""

from __future__ import annotations

import os
import re
import tempfile
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

import pyarrow as pa

from schemas.codes import ErrorCode
from schemas.errors import ConfigurationError, PointsmanError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

# Bounds that a caller may change for one query; the engine itself has none.
DEFAULTS: Mapping[str, str] = {
    "async_insert": "0",
    # Groups and sorts that are larger go on in the data directory, instead of being refused for want of memory.
    "max_bytes_before_external_group_by": str(512 * 1024**2),
    "max_bytes_before_external_sort": str(512 * 1024**2),
    "max_execution_time": "120",
    "max_memory_usage": str(2 * 1024**3),
    "max_result_bytes": str(512 * 1024**2),
    "max_temporary_data_on_disk_size_for_query": str(8 * 1024**3),
    "result_overflow_mode": "throw",
}
_MESSAGE = re.compile(r"Code: (?P<code>\d+)\.(?P<text>.*)", re.DOTALL)
_NAME = re.compile(r"\((?P<name>[A-Z][A-Z0-9_]+)\)[^()]*(?:\([^()]*\))?\s*$")
_SETTING = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class EngineError(PointsmanError):
    """What the engine answered instead of rows: ClickHouse's own code, name and text."""

    error_code = ErrorCode.ENGINE_FAILED

    def __init__(self, code: int, message: str) -> None:
        self.code, self.message = code, message
        named = _NAME.search(message)
        self.name = named["name"] if named else ""
        super().__init__(message)

    @classmethod
    def of(cls, error: Exception) -> EngineError:
        """From chDB's RuntimeError, whose text holds everything; code 1001 (STD_EXCEPTION) where it holds no code."""
        match = _MESSAGE.search(str(error))
        return cls(int(match["code"]), match.group().strip()) if match else cls(1001, str(error))


def fault(code: int, name: str, text: str) -> EngineError:
    """An error in ClickHouse's own form, for what the engine was never asked."""
    return EngineError(code, f"Code: {code}. DB::Exception: {text}. ({name})")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a statement gave: bytes in the format asked for, and the engine's own counts."""

    body: bytes
    read_rows: int = 0
    read_bytes: int = 0
    result_rows: int = 0
    written_rows: int = 0
    written_bytes: int = 0
    elapsed_s: float = 0.0


class Engine:
    """One chDB engine. `data_dir` None keeps data in a temporary directory that dies with the process.

    Raises ConfigurationError when another process has the data directory, or another directory is open in this one.
    """

    def __init__(self, data_dir: Path | None) -> None:
        import chdb  # noqa: PLC0415  a store beside a ClickHouse server starts a tenth of a second sooner without it

        if data_dir is not None:
            data_dir.mkdir(parents=True, exist_ok=True)
        self._address = f"{data_dir.resolve() if data_dir else ':memory:'}?log-level=none"
        try:
            self._connect = chdb.connect
            self._anchor = self._connect(self._address)  # the engine lives as long as one handle does
        except RuntimeError as error:
            raise ConfigurationError(
                f"cannot open the history in {data_dir or 'memory'}: {error}. "
                "One process owns a data directory: is another store running on it?",
                code=ErrorCode.HISTORY_DIRECTORY,
            ) from error
        version, zone = self._anchor.query("SELECT version(), timezone()", "TSV").bytes().decode().strip().split("\t")
        self.version, self.timezone = version, zone

    @contextmanager
    def handle(self, settings: Mapping[str, str] | None = None, database: str | None = None) -> Iterator[Handle]:
        """A handle of one's own, closed at the end; `settings` come on top of DEFAULTS."""
        handle = self.open()
        try:
            handle.place(settings, database)
            yield handle
        finally:
            handle.close()

    def open(self) -> Handle:
        """A handle that the caller closes, with the engine's own settings."""
        return Handle(self._connect(self._address))

    def close(self) -> None:
        """Give up the data directory."""
        self._anchor.close()


class Handle:
    """A connection to the engine with its own database and settings; one statement at a time."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self.lock = threading.Lock()

    def run(self, sql: str | bytes, output: str = "TabSeparated", params: Mapping[str, str] | None = None) -> Answer:
        """Run one statement; a FORMAT clause in it wins over `output`. Raises EngineError."""
        try:
            result = self._connection.query(sql, output, params=dict(params or {}))
        except RuntimeError as error:
            raise EngineError.of(error) from error
        return Answer(
            result.bytes() or b"",
            read_rows=result.storage_rows_read(),
            read_bytes=result.storage_bytes_read(),
            result_rows=result.rows_read(),
            written_rows=result.rows_written(),
            written_bytes=result.bytes_written(),
            elapsed_s=result.elapsed(),
        )

    def insert(self, head: str, input_format: str, chunks: Iterable[bytes]) -> Answer:
        """Run `INSERT INTO ...` (without FORMAT) over data in `input_format`. Raises EngineError.

        A block that fails half-way may leave earlier blocks behind, as ClickHouse does: rows must bear repeating.
        """

        def fill(file: BinaryIO) -> None:
            file.writelines(chunks)

        return self._insert(head, input_format, fill)

    def insert_rows(self, table: str, batches: Iterable[pa.RecordBatch]) -> Answer:
        """Insert rows that are in this process, at least one batch, and are read where they lie. Raises EngineError."""
        rows = pa.Table.from_batches(batches)
        columns = ", ".join(rows.schema.names)
        # The engine finds `rows` by its name, among the variables of whoever calls.
        return self.run(f"INSERT INTO {table} ({columns}) SELECT {columns} FROM Python(rows)")  # noqa: S608  our names

    def _insert(self, head: str, input_format: str, fill: Callable[[BinaryIO], None]) -> Answer:
        with _scratch(fill) as path:
            # The engine's streaming insert would spare the copy, but chDB 4.4 calls it finished even where the disk had
            # no room for its part. A statement that reads a file says so.
            return self.run(f"{head} FROM INFILE {_literal(path)} COMPRESSION 'none' FORMAT {_name(input_format)}")

    def spool(self, sql: bytes, output: str, params: Mapping[str, str], file: BinaryIO) -> Answer:
        """Run one query that names no format, its answer into `file`: as much memory as a block. Raises EngineError."""
        # The engine writes the whole into a file of its own name before it renames it, unless it appends.
        where = f"INTO OUTFILE {_literal(_path(file))} APPEND FORMAT {_name(output)}"
        answer = self.run(sql.rstrip(b"; \r\n\t") + b"\n" + where.encode(), output, params)
        file.seek(0)
        return answer

    def place(self, settings: Mapping[str, str] | None, database: str | None) -> None:
        """Set up a new handle: `settings` come on top of DEFAULTS. Raises EngineError."""
        if database:
            self.use(database)
        self.apply({**DEFAULTS, **(settings or {})})

    def use(self, database: str) -> None:
        """Make `database` the default of this handle. Raises EngineError."""
        self.run("USE `" + database.replace("\\", "\\\\").replace("`", "\\`") + "`")

    def database(self) -> str:
        """The default database of this handle."""
        return self.run("SELECT currentDatabase()", "TabSeparatedRaw").body.decode().rstrip("\n")

    def apply(self, settings: Mapping[str, str]) -> None:
        """Set `settings` for this handle, `readonly` last (it forbids further changes). Raises EngineError."""
        ordered = sorted(settings.items(), key=lambda item: item[0] == "readonly")
        assignments = ", ".join(f"{_setting(name)} = {_literal(value)}" for name, value in ordered)
        if assignments:
            self.run(f"SET {assignments}")

    @contextmanager
    def scoped(self, settings: Mapping[str, str]) -> Iterator[None]:
        """Apply `settings` and put back what was before: for handles that outlive a request."""
        names = ", ".join(_literal(_setting(name)) for name in settings)
        held = self.run(
            f"SELECT name, value FROM system.settings WHERE changed AND name IN ({names or 'NULL'})",  # noqa: S608 - literals
            "TabSeparatedRaw",
        )
        before = dict(line.split("\t", 1) for line in held.body.decode().splitlines())
        try:
            self.apply(settings)
            yield
        finally:
            with suppress(EngineError):
                self.apply({name: value for name, value in before.items() if name in settings})
                for name in settings.keys() - before.keys():
                    self.run(f"SET {name} = DEFAULT")

    def close(self) -> None:
        """Give the connection back; what it was doing is cancelled."""
        self._connection.close()


@contextmanager
def _scratch(fill: Callable[[BinaryIO], None]) -> Iterator[str]:
    """The path of a file without a name that `fill` has written: in memory, where the system has such files."""
    memory = hasattr(os, "memfd_create")
    with os.fdopen(os.memfd_create("insert"), "w+b") if memory else tempfile.TemporaryFile() as file:
        try:
            fill(file)
            file.seek(0)
        except OSError as error:
            raise fault(243, "NOT_ENOUGH_SPACE", f"No room for the data of an insert: {error.strerror}") from error
        yield _path(file)


def _path(file: BinaryIO) -> str:
    return f"/dev/fd/{file.fileno()}"


def _name(input_format: str) -> str:
    if not _SETTING.fullmatch(input_format):
        raise fault(73, "UNKNOWN_FORMAT", f"Unknown format {input_format!r}")
    return input_format


def _setting(name: str) -> str:
    if not _SETTING.fullmatch(name):
        raise fault(115, "UNKNOWN_SETTING", f"Unknown setting {name!r}")
    return name


def _literal(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
