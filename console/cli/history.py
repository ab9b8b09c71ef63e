"""`pointsman history`: SQL over everything that happened.

I/O: ClickHouse, stdout.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from console.cli.output import Format, Output
from schemas.codes import ErrorCode
from schemas.errors import PointsmanError
from schemas.settings import Settings
from streams.history.queries import History, QueryError, Table


class RefusedQueryError(PointsmanError):
    """ClickHouse did not take a statement: its words, less what its client wraps around them."""

    error_code = ErrorCode.QUERY_REFUSED

    def __init__(self, error: QueryError) -> None:
        text = re.sub(r"^.*?DB::Exception: ", "", error.text, flags=re.DOTALL)
        text = re.sub(r"\s*\(for url [^)]*\)\s*$", "", text).replace("\n FORMAT Native", "")
        super().__init__(f"ClickHouse refuses this query (code {error.code}): {text}")


@contextmanager
def opened(settings: Settings) -> Iterator[History]:
    """The history that the settings name, closed at the end. Raises UnreachableError."""
    history = History(settings.clickhouse, settings.clickhouse_user, settings.clickhouse_password.get_secret_value())
    try:
        yield history
    finally:
        history.close()


def print_answer(settings: Settings, sql: str, *, form: Format, out: Output) -> None:
    """Raises UnreachableError, or RefusedQueryError with what ClickHouse says."""
    with opened(settings) as history:
        try:
            answer = history.query(sql)
        except QueryError as error:
            raise RefusedQueryError(error) from error
    print_table(answer, form, out)


def print_table(answer: Table, form: Format, out: Output, title: str | None = None) -> None:
    """A query's answer, however its columns are named."""
    if form is Format.TABLE:
        out.table(answer.columns, answer.rows, title)
    else:
        out.records((dict(zip(answer.columns, row, strict=True)) for row in answer.rows), answer.columns, form)
