"""`pointsman history`: SQL over everything that happened, reports for those without SQL, and either into a file.

I/O: ClickHouse, files, stdout.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from console.cli.export import opener, write
from console.cli.failures import UsageError
from console.cli.output import Format, Output
from console.cli.reports import ROWS, Filters, Query, is_name, listed, report
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
    history = History(settings.clickhouse, *settings.clickhouse_login)
    try:
        yield history
    finally:
        history.close()


def print_answer(
    settings: Settings, asked: str | None, filters: Filters, *, file: Path | None, form: Format, out: Output
) -> None:
    """What was asked, SQL or a report's name (None: which there are), on stdout or in a file.

    Raises UnreachableError, UsageError, NotFoundError, or RefusedQueryError with what ClickHouse says.
    """
    if file is not None:
        opener(file)  # a wrong name is said before anything is asked
    with opened(settings) as history:
        try:
            query = _query(history, asked, filters, to_file=file is not None)
            if file is None:
                answer = listed(history) if query is None else history.query(query.sql, query.parameters)
                print_table(answer, form, out)
            else:
                _export(history, query, file, out)
        except QueryError as error:
            raise RefusedQueryError(error) from error


def _query(history: History, asked: str | None, filters: Filters, *, to_file: bool) -> Query | None:
    if asked is not None and is_name(asked):
        wanted = filters if filters.limit is not None or to_file else filters.limited(ROWS)
        return report(history, asked.strip(), wanted, latest_first=filters.limit is not None or not to_file)
    if filters.stated():
        flags = ", ".join(filters.stated())
        text = f"{flags}: only a report takes flags, as in `pointsman history results --since 1h`; SQL says it itself"
        raise UsageError(text, code=ErrorCode.FLAGS_CONTRADICT)
    return None if asked is None else Query(asked)


def _export(history: History, query: Query | None, file: Path, out: Output) -> None:
    if query is None:
        raise UsageError("--out: say what to write, SQL or the name of a report.", code=ErrorCode.COMMAND_LINE)
    with history.stream(query.sql, query.parameters) as reader:
        rows = write(reader, file)
    out.note(f"{rows} rows in {file}")


def print_table(answer: Table, form: Format, out: Output, title: str | None = None) -> None:
    """A query's answer, however its columns are named."""
    if form is Format.TABLE:
        out.table(answer.columns, answer.rows, title)
    else:
        out.records((dict(zip(answer.columns, row, strict=True)) for row in answer.rows), answer.columns, form)
