"""The stand-in for ClickHouse: it takes blocks, holds them for ever, and shows each table as the DDL's views do.

What it knows of folding it reads in schemas/clickhouse: a table's sorting key, and whether its view folds by it, with
FINAL. That ClickHouse itself does so is shown by tests/contract/test_history_views.py. I/O: none
but the files of the DDL.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
from clickhouse_connect.driver.exceptions import OperationalError

import schemas
from streams.history.queries import _FACTS
from tests.simulation.world import Signal, World, current

DDL = Path(schemas.__file__).parent / "clickhouse"
DELAY_MAX_S = 0.02
ANSWER_S = 2.0
"""How long a client waits for an answer; the real one's 60 s would only make the runs long."""

_TABLE = re.compile(r"TABLE IF NOT EXISTS pointsman\.(\w+)[^;]*ENGINE = (\w+)[^;]*ORDER BY \(([^)]*)\)", re.DOTALL)
_VIEW = re.compile(r"VIEW IF NOT EXISTS pointsman\.(\w+) AS SELECT \* FROM pointsman\.(\w+)( FINAL)?;")


class View(NamedTuple):
    """What a view shows: rows of `table`; one for each value of `key`, where it folds."""

    table: str
    key: tuple[str, ...]
    folds: bool


@cache
def statements() -> str:
    """The DDL."""
    return "\n".join(path.read_text() for path in sorted(DDL.glob("*.sql")))


@cache
def views(ddl: str) -> Mapping[str, View]:
    tables = {name: (engine, tuple(re.findall(r"\w+", key))) for name, engine, key in _TABLE.findall(ddl)}
    found = {}
    for name, table, final in _VIEW.findall(ddl):
        engine, key = tables[table]
        found[name] = View(table, key, bool(final) and engine == "ReplacingMergeTree")
    return found


class House:
    """One server, for all stores of a world. `placed`: where each inserted row stood, in the order of insertion."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.is_up = True
        self.lost_answers_share = 0.0
        self.placed: list[tuple[str, int, int]] = []
        self._rows: dict[str, list[dict[str, Any]]] = {}
        self._views = views(statements())

    def insert(self, table: str, block: bytes) -> None:
        """Raises OperationalError where it takes nothing."""
        if not self.is_up:
            raise OperationalError("Connection refused")
        rows = pa.ipc.open_stream(block).read_all().to_pylist()
        self.world.note("clickhouse", f"{len(rows)} rows into {table}")
        self._rows.setdefault(table, []).extend(rows)
        self.placed += [(row["topic"], row["partition"], row["offset"]) for row in rows]

    def loses_answer(self) -> bool:
        return bool(self.lost_answers_share) and self.world.rng.random() < self.lost_answers_share

    def facts(self, kind: str) -> list[Hashable]:
        """As streams.history.queries.History.facts."""
        view, fields = self._views[kind], _FACTS[kind]
        rows = self._rows.get(view.table, [])
        if view.folds:
            rows = list({tuple(row[name] for name in view.key): row for row in rows}.values())
        if kind == "dead_letters":
            rows = [row for row in rows if row["origin_topic"] != row["topic"]]
        return [row[fields[0]] if len(fields) == 1 else tuple(row[name] for name in fields) for row in rows]


class Client:
    """As clickhouse-connect's, as far as the loader uses it."""

    def __init__(self, house: House) -> None:
        self._house, self._world = house, house.world

    def raw_insert(
        self, table: str, columns: Sequence[str], pieces: Iterable[bytes], settings: Mapping[str, Any], fmt: str
    ) -> None:
        """What is on its way arrives, whoever has sent it; an answer may be lost after all was done."""
        assert fmt == "ArrowStream"
        process, house, world = current(), self._house, self._world
        assert process is not None, "a store inserts"
        block = b"".join(pieces)
        process.point("insert")
        answers: list[Exception | None] = []
        came = Signal()

        def answer(what: Exception | None) -> None:
            answers.append(what)
            came.set()

        def arrive() -> None:
            refused: Exception | None = None
            try:
                house.insert(table.removeprefix("pointsman."), block)
            except OperationalError as error:
                refused = error
            process.told("stored")
            if not house.loses_answer():
                process.later(world.rng.uniform(0.0, DELAY_MAX_S), lambda: answer(refused))

        world.at(world.rng.uniform(0.0, DELAY_MAX_S), arrive)
        until = world.now + ANSWER_S
        while not answers and world.now < until:
            world.block(came, until - world.now)
        process.point("inserted")
        if not answers:
            raise OperationalError("timed out")
        if answers[0] is not None:
            raise answers[0]

    def close(self) -> None:
        pass
