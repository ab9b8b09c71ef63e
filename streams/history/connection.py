"""One connection to a history, made when it is first needed, and anew after a failure. I/O: HTTP."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from clickhouse_connect.driver.exceptions import ClickHouseError

from schemas.settings import database_of
from streams.history.queries import LOOK_UP, READ_ONLY, connect, explained


class Connection:
    """Used by one thread at a time; asks the database that the URL means. `more` as for `connect`.

    Its methods raise UnreachableError, QueryError.
    """

    def __init__(self, url: str, user: str, password: str, **more: Any) -> None:
        self.url, self._user, self._password, self._more = url, user, password, more
        self._client: Any = None

    def look_up(
        self, sql: str, parameters: Mapping[str, Any], more: Mapping[str, str] | None = None
    ) -> Sequence[Sequence[Any]]:
        """The rows of a statement that only reads; `more` are settings for it."""
        settings = {**READ_ONLY, **LOOK_UP, **(more or {})}
        found = self._call("query", sql, parameters=dict(parameters), settings=settings)
        rows: Sequence[Sequence[Any]] = found.result_rows
        return rows

    def insert(self, table: str, rows: Sequence[Sequence[Any]], columns: Sequence[str]) -> None:
        """Returns once they are stored."""
        self._call("insert", table, rows, column_names=columns, settings={"async_insert": 0})

    def close(self) -> None:
        if self._client is not None:
            self._client.close()

    def _call(self, method: str, *arguments: Any, **options: Any) -> Any:
        if self._client is None:
            self._client = connect(self.url, self._user, self._password, database=database_of(self.url), **self._more)
        try:
            return getattr(self._client, method)(*arguments, **options)
        except ClickHouseError as error:
            self._client = None
            raise explained(error, self.url) from error
