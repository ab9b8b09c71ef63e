"""`pointsman history`: SQL over everything that happened.

I/O: ClickHouse, stdout.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from streams.history.queries import History, Table

from console.cli.output import Format, Output
from schemas.settings import Settings


@contextmanager
def opened(settings: Settings) -> Iterator[History]:
    """The history that the settings name, closed at the end. Raises UnreachableError."""
    history = History(settings.clickhouse, settings.clickhouse_user, settings.clickhouse_password.get_secret_value())
    try:
        yield history
    finally:
        history.close()


def print_answer(settings: Settings, sql: str, *, form: Format, out: Output) -> None:
    """Raises UnreachableError, or QueryError with what ClickHouse says."""
    with opened(settings) as history:
        answer = history.query(sql)
    print_table(answer, form, out)


def print_table(answer: Table, form: Format, out: Output, title: str | None = None) -> None:
    """A query's answer, however its columns are named."""
    if form is Format.TABLE:
        out.table(answer.columns, answer.rows, title)
    else:
        out.records((dict(zip(answer.columns, row, strict=True)) for row in answer.rows), answer.columns, form)
