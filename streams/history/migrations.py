"""Which statements have made this database what it is: each migration is applied once, in order, and never changed.

I/O: reads schemas/clickhouse/*.sql, asks ClickHouse.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import schemas
from schemas.codes import ErrorCode
from schemas.errors import ConfigurationError
from schemas.settings import DATABASE
from streams.history.statements import split
from streams.transport.telemetry import get_logger

log = get_logger("pointsman.history")

DIRECTORY = Path(schemas.__file__).parent / "clickhouse"
COPYING = {
    "max_threads": 1,
    "max_insert_threads": 1,
    "min_insert_block_size_rows": 100_000,
    "min_insert_block_size_bytes": 32 * 1024 * 1024,
}
"""How a migration copies the rows there are. With ClickHouse's own settings ten million took more than the 2 GiB that a
query may have, so their history could not be brought up to date at all."""

_NAME = re.compile(r"(?P<number>\d{4})_(?P<name>[a-z0-9_]+)\.sql")
_MAKES = re.compile(rf"\bCREATE (?:TABLE|(?:MATERIALIZED )?VIEW) IF NOT EXISTS {DATABASE}\.(\w+)")
_QUALIFIED = re.compile(rf"\b{DATABASE}\.(?=\w)")
# Two stores that start together may both record a migration: its statements bear it, and so does this table.
_RECORD = """
CREATE TABLE IF NOT EXISTS {database}.migrations
(number UInt32, name String, checksum String, applied_at DateTime64(3, 'UTC') DEFAULT now64(3))
ENGINE = ReplacingMergeTree ORDER BY (number, name, checksum)
"""


@dataclass(frozen=True, slots=True)
class Migration:
    """One file. `checksum` covers its text."""

    number: int
    name: str
    statements: tuple[str, ...]
    checksum: str


def load(directory: Path = DIRECTORY) -> list[Migration]:
    """The migrations of a directory, in order. Raises ConfigurationError unless they are numbered 1, 2, 3 ..."""
    migrations = []
    for number, path in enumerate(sorted(directory.glob("*.sql")), 1):
        match = _NAME.fullmatch(path.name)
        if match is None or int(match["number"]) != number:
            text = f"{path} should be migration {number:04}: NNNN_name.sql, numbered without a gap"
            raise ConfigurationError(text, code=ErrorCode.MIGRATIONS)
        text = path.read_text("utf-8")
        checksum = sha256(text.encode()).hexdigest()
        migrations.append(Migration(number, match["name"], tuple(split(text)), checksum))
    return migrations


def migrate(client: Any, migrations: Sequence[Migration] | None = None, database: str = DATABASE) -> list[Migration]:
    """Apply what is missing, over a clickhouse-connect client, and say what was applied.

    The files name the usual database; in another one the same statements name that (`in_database`).

    A statement that was applied by a run that broke off before it could record it is applied again: each must bear it
    (IF NOT EXISTS). So is every one where a table or view that they made is gone: somebody has dropped it. Raises
    ConfigurationError where the database was made by other statements than these.
    """
    wanted = load() if migrations is None else migrations
    client.command(f"CREATE DATABASE IF NOT EXISTS {database}")
    client.command(_RECORD.format(database=database))
    applied = _applied(client, database)
    _refuse_others(wanted, applied)
    missing = [each for each in wanted if (each.number, each.name) not in applied]
    gone = lost(client, [each for each in wanted if each not in missing], database)
    if gone:
        log.warning("the history has lost tables or views; they are made again, empty", names=", ".join(gone))
    for each in wanted if gone else missing:
        for statement in each.statements:
            client.command(in_database(statement, database), settings=COPYING)
    for each in missing:
        client.insert(
            f"{database}.migrations",
            [[each.number, each.name, each.checksum]],
            column_names=["number", "name", "checksum"],
            settings={"async_insert": 0},
        )
        log.info("migration applied", number=each.number, name=each.name, database=database)
    return missing


def in_database(statement: str, database: str) -> str:
    """A migration's statement, with this database in the place of the usual one."""
    return statement if database == DATABASE else _QUALIFIED.sub(f"{database}.", statement)


def examine(client: Any, migrations: Sequence[Migration] | None = None, database: str = DATABASE) -> tuple[int, int]:
    """How many migrations are missing, and of how many, without applying any.

    Raises ConfigurationError where the database was made by other statements than these.
    """
    wanted = load() if migrations is None else migrations
    there = f"SELECT count() FROM system.tables WHERE database = '{database}' AND name = 'migrations'"  # noqa: S608 - checked
    applied = _applied(client, database) if client.query(there).result_rows[0][0] else {}
    _refuse_others(wanted, applied)
    return sum((each.number, each.name) not in applied for each in wanted), len(wanted)


def lost(client: Any, migrations: Sequence[Migration] | None = None, database: str = DATABASE) -> list[str]:
    """Tables and views that these migrations have made and that are not there: by default, all that are applied."""
    if migrations is None:
        applied = _applied(client, database)
        migrations = [each for each in load() if (each.number, each.name) in applied]
    made = [match[1] for each in migrations for text in each.statements if (match := _MAKES.search(text))]
    there = f"SELECT name FROM system.tables WHERE database = '{database}'"  # noqa: S608 - checked
    return sorted(set(made) - {str(name) for (name,) in client.query(there).result_rows})


def _applied(client: Any, database: str) -> dict[tuple[int, str], str]:
    """Checksums by number and name."""
    held = f"SELECT number, name, checksum FROM {database}.migrations FINAL"  # noqa: S608 - checked
    return {(int(number), str(name)): str(checksum) for number, name, checksum in client.query(held).result_rows}


def _refuse_others(wanted: Sequence[Migration], applied: dict[tuple[int, str], str]) -> None:
    known = {(each.number, each.name): each.checksum for each in wanted}
    faults = [
        f"  {number:04}_{name}: "
        + (
            "its file was changed after it had been applied"
            if (number, name) in known
            else "this version has no such file"
        )
        for (number, name), checksum in sorted(applied.items())
        if known.get((number, name)) != checksum
    ]
    if faults:
        raise ConfigurationError(
            "\n".join(("The history's tables were made by other migrations than this version's:", *faults))
            + "\nRun the version that made them, restore the files, or give this one an empty database.",
            code=ErrorCode.MIGRATIONS,
        )
