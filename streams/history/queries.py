"""What people and programs ask of the history: SQL over HTTP, whether a server answers or the embedded engine.

I/O: HTTP.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import clickhouse_connect
import pyarrow as pa
from clickhouse_connect.driver.exceptions import ClickHouseError
from urllib3.exceptions import HTTPError

from schemas.codes import ErrorCode
from schemas.errors import PointsmanError, UnreachableError
from schemas.settings import database_of

CONNECT_TIMEOUT_S = 3
ANSWER_TIMEOUT_S = 120
HINT = (
    "Is the store running? `pointsman dev` or `pointsman store` starts one; name another with --clickhouse URL or "
    "POINTSMAN_CLICKHOUSE."
)
_ERRNO = re.compile(r"\[Errno -?\d+\] (?P<text>[\w ]+)")
# Nothing that asks the history changes it; settings of a query itself may be changed.
READ_ONLY = {"readonly": "2"}
# Of any size, within an hour; whatever fails, fails before the first row leaves, for the answer waits in a file.
SPOOLED = {
    "wait_end_of_query": "1",
    "buffer_size": str(1024**2),
    "max_block_size": "8192",  # a dozen blocks are under way at a time
    "max_result_bytes": "0",
    "max_result_rows": "0",
    "max_execution_time": "3600",
}
# One task is a few rows of five tables: threads cost more than they bring, and where FINAL folds, ClickHouse filters by
# the key before it reads the other columns only if it is told to.
LOOK_UP = {"max_threads": "1", "optimize_move_to_prewhere_if_final": "1"}
# They warn at each attempt to connect; whoever tries says it once.
for _name in ("clickhouse_connect", "urllib3.connectionpool"):
    logging.getLogger(_name).setLevel(logging.ERROR)

# Where a fact is its id, and where it is several fields.
_FACTS: Mapping[str, tuple[str, ...]] = {
    "tasks": ("tenant", "task_id"),
    "dispatches": ("tenant", "task_id", "agent_id", "attempt", "stage"),
    "agent_events": ("event_id",),
    "results": ("tenant", "task_id"),
    "orchestrator_events": ("event_id",),
    "dead_letters": ("origin_topic", "origin_partition", "origin_offset"),
}
# A record on the dead topic that names no origin stands for itself; it is no record that we put away.
_ONLY: Mapping[str, tuple[str, ...]] = {"dead_letters": ("origin_topic != topic",)}


def _identities(kind: str, task_ids: str) -> tuple[str, dict[str, str]]:
    """The statement that asks for them, and its parameters."""
    only = [*_ONLY.get(kind, ()), *(["startsWith(task_id, {task_ids:String})"] if task_ids else [])]
    where = f" WHERE {' AND '.join(only)}" if only else ""
    sql = f"SELECT {', '.join(_FACTS[kind])} FROM {kind}{where}"  # noqa: S608 - constants
    return sql, {"task_ids": task_ids}


class QueryError(PointsmanError):
    """ClickHouse refused a statement: its own code, name and text."""

    error_code = ErrorCode.QUERY_REFUSED

    def __init__(self, code: int, name: str, text: str) -> None:
        self.code, self.name, self.text = code, name, text
        super().__init__(text)


@dataclass(frozen=True, slots=True)
class Table:
    """An answer: the columns' names and, row by row, their values as Python's own types."""

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]


def connect(url: str, user: str = "default", password: str = "", **more: Any) -> Any:
    """A clickhouse-connect client that threads may share. Raises UnreachableError, QueryError."""
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    try:
        return clickhouse_connect.get_client(
            interface="https" if secure else "http",
            host=parts.hostname or "127.0.0.1",
            port=parts.port or (8443 if secure else 8123),
            username=user,
            password=password,
            autogenerate_session_id=False,
            tz_mode="aware",
            **{"connect_timeout": CONNECT_TIMEOUT_S, "send_receive_timeout": ANSWER_TIMEOUT_S, **more},
        )
    except ClickHouseError as error:
        raise explained(error, url) from error


def explained(error: ClickHouseError, url: str) -> PointsmanError:
    """UnreachableError where no ClickHouse answered, else QueryError with what it said."""
    code = getattr(error, "code", None)
    if code is not None:
        return QueryError(code, getattr(error, "name", None) or "", str(error))
    why = _ERRNO.search(str(error))
    said = why["text"] if why else str(error)[:200]
    return UnreachableError("ClickHouse", url, said, HINT, code=ErrorCode.NO_CLICKHOUSE)


class History:
    """Reads one history. Raises UnreachableError where there is no server, QueryError where it refuses."""

    def __init__(self, url: str, user: str = "default", password: str = "") -> None:
        self._url = url
        self._client = connect(url, user, password, database=database_of(url))

    def query(
        self, sql: str, parameters: Mapping[str, Any] | None = None, settings: Mapping[str, str] | None = None
    ) -> Table:
        """Run one statement that only reads; `parameters` fill its `{name:Type}` placeholders."""
        try:
            result = self._client.query(
                sql, parameters=dict(parameters or {}), settings={**READ_ONLY, **(settings or {})}
            )
        except ClickHouseError as error:
            raise explained(error, self._url) from error
        return Table(tuple(result.column_names), [tuple(row) for row in result.result_rows])

    @contextmanager
    def stream(self, sql: str, parameters: Mapping[str, Any] | None = None) -> Iterator[pa.RecordBatchReader]:
        """The answer of one query as Arrow batches, as they come; however large, no more than a few are in memory.

        Raises UnreachableError, QueryError, also while it is read: an answer that breaks off is none.
        """
        try:
            raw = self._client.raw_stream(sql, dict(parameters or {}), {**READ_ONLY, **SPOOLED}, fmt="ArrowStream")
            try:
                with pa.ipc.open_stream(pa.PythonFile(raw, "r")) as reader:
                    yield reader
            finally:
                raw.close()
        except ClickHouseError as error:
            raise explained(error, self._url) from error
        except (pa.ArrowInvalid, HTTPError) as error:
            raise UnreachableError(
                "ClickHouse", self._url, f"its answer broke off: {error}", HINT, code=ErrorCode.NO_CLICKHOUSE
            ) from error

    def facts(self, kind: str, task_ids: str = "") -> list[Hashable]:
        """The identities of all facts of a kind, as often as its view shows them (which should be once); with
        `task_ids`, those of tasks whose ids begin so."""
        with self.fact_columns(kind, task_ids) as reader:
            columns = [column.to_pylist() for column in reader.read_all().columns]
        return columns[0] if len(columns) == 1 else list(zip(*columns, strict=True))

    def fact_columns(self, kind: str, task_ids: str = "") -> AbstractContextManager[pa.RecordBatchReader]:
        """As `facts`, in batches as `stream` gives them, for millions of them."""
        return self.stream(*_identities(kind, task_ids))

    def timeline(self, task_id: str, tenant: str | None = None) -> list[dict[str, Any]]:
        """The rows of `task_timeline` of one task, in order; of all tenants' tasks of this name without a tenant."""
        mine = " AND tenant = {tenant:String}" if tenant is not None else ""
        one = f"SELECT * FROM task_timeline WHERE task_id = {{task_id:String}}{mine}"  # noqa: S608 - constants
        table = self.query(
            f"{one} ORDER BY tenant, step, at, attempt, rank",
            {"task_id": task_id, **({} if tenant is None else {"tenant": tenant})},
            LOOK_UP,
        )
        return [dict(zip(table.columns, row, strict=True)) for row in table.rows]

    def answered(self, tasks: Sequence[tuple[str, str]]) -> set[tuple[str, str]]:
        """Those of the tasks, each a tenant and an id, that have a result."""
        sql = "SELECT tenant, task_id FROM results WHERE task_id IN {ids:Array(String)}"
        found = {(row[0], row[1]) for row in self.query(sql, {"ids": [task_id for _, task_id in tasks]}).rows}
        return found & set(tasks)

    def close(self) -> None:
        self._client.close()
