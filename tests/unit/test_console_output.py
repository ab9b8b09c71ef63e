"""How the console writes values, tables and errors."""

from __future__ import annotations

import io
import json
import math
from datetime import UTC, datetime

import pytest

from console.cli.failures import ExitCode, InvalidInputError, NotFoundError, UsageError, exit_code, explain
from console.cli.output import Format, Output, cell, jsonable, printable
from schemas.errors import ConfigurationError, PointsmanError, UnreachableError

AT = datetime(2026, 3, 1, 12, 0, 0, 123_456, tzinfo=UTC)


def written(rows: list[dict[str, object]], columns: tuple[str, ...], form: Format) -> str:
    out = Output(io.StringIO(), io.StringIO())
    out.records(rows, columns, form)
    assert isinstance(out.out, io.StringIO)
    return out.out.getvalue()


def test_a_table_in_a_pipe_has_no_borders_and_one_line_a_row() -> None:
    rows: list[dict[str, object]] = [{"name": "alpha", "n": 5, "note": "two\nlines"}, {"name": "日本", "n": 12}]
    assert written(rows, ("name", "n", "note"), Format.TABLE) == (
        "name    n  note\nalpha   5  two\\nlines\n日本   12  -\n"  # two cells for each of the wide characters
    )


def test_a_table_without_rows_has_its_head() -> None:
    assert written([], ("name", "n"), Format.TABLE) == "name  n\n"


def test_json_is_whole_and_keeps_what_no_column_shows() -> None:
    rows: list[dict[str, object]] = [{"a": 1, "at": AT, "nan": math.nan, "raw": b"\x00\xff", "labels": {"k": ("v",)}}]
    expected = [{"a": 1, "at": "2026-03-01T12:00:00.123456Z", "nan": None, "raw": "AP8=", "labels": {"k": ["v"]}}]
    assert json.loads(written(rows, ("a",), Format.JSON)) == expected
    assert [json.loads(line) for line in written(rows * 2, ("a",), Format.JSONL).splitlines()] == expected * 2


@pytest.mark.parametrize("text", ["\x1b[31mred", "\x9b31m", "bell\x07", "back\x08space", "car\rriage", "\x00"])
def test_what_a_terminal_would_obey_is_spelt_out(text: str) -> None:
    for shown in (printable(text), cell(text), written([{"t": text}], ("t",), Format.JSONL)):
        assert not any((ord(char) < 0x20 and char != "\n") or 0x7F <= ord(char) < 0xA0 for char in shown)


def test_markup_of_strangers_is_text() -> None:
    assert "[bold]x[/bold]" in written([{"t": "[bold]x[/bold]"}], ("t",), Format.TABLE)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "-"),
        (0.123456, "0.1235"),
        ((), "-"),
        (["a", "b"], "a, b"),
        ({"k": 1}, "k=1"),
        (b"\xff", "\\xff"),
        ("a\tb", "a b"),
    ],
)
def test_cells(value: object, shown: str) -> None:
    assert cell(value) == shown


def test_a_time_without_zone_counts_as_utc() -> None:
    assert jsonable(AT.replace(tzinfo=None)) == jsonable(AT)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("x"), ExitCode.USAGE),
        (UnreachableError("a", "b", "c", "d"), ExitCode.UNREACHABLE),
        (NotFoundError("x"), ExitCode.NOT_FOUND),
        (ConfigurationError("x"), ExitCode.INVALID),
        (InvalidInputError("x"), ExitCode.INVALID),
        (KeyboardInterrupt(), ExitCode.INTERRUPTED),
        (PointsmanError("x"), ExitCode.FAILED),
        (ZeroDivisionError("x"), ExitCode.FAILED),
    ],
)
def test_exit_codes(error: BaseException, code: ExitCode) -> None:
    assert exit_code(error) is code


def test_an_unexpected_error_says_its_name_and_how_to_see_more() -> None:
    assert explain(ZeroDivisionError("division by zero")).startswith("Unexpected ZeroDivisionError: division by zero.")
    assert "--debug" in explain(ZeroDivisionError())
    assert explain(NotFoundError("no such task")) == "no such task [E400]"
    assert explain(ZeroDivisionError()).endswith(" [E100]")
    # Below a text of several lines: the last one may be of a log.
    assert explain(PointsmanError("it ended\n{its log}")) == "it ended\n{its log}\n[E101]"
