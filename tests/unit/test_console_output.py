"""How the console writes values, tables and errors."""

from __future__ import annotations

import io
import json
import math
from datetime import UTC, datetime

import pytest
from rich.text import Text
from rich.tree import Tree

from console.cli.failures import ExitCode, InvalidInputError, NotFoundError, UsageError, exit_code, explain
from console.cli.output import Format, Output, UnwritableError, cell, dumps, jsonable, printable
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


@pytest.mark.parametrize("char", ["\u202e", "\u2066", "\u200b", "\ufeff", "\u2028", "\U000e0041", "\xad", "\ud800"])
def test_what_no_eye_sees_is_spelt_out(char: str) -> None:
    shown = cell(f"a{char}b")
    assert shown == f"a{char.encode('ascii', 'backslashreplace').decode()}b"
    line = dumps({"t": f"a{char}b"})
    assert char not in line
    assert json.loads(line) == {"t": f"a{char}b"}


@pytest.mark.parametrize("text", ["שלום", "日本", "e\u0301", "👩\u200d👩\u200d👧", "नमस्ते", "a\u200cb"])
def test_what_scripts_are_written_with_stays(text: str) -> None:
    assert cell(text) == text
    assert dumps(text) == f'"{text}"'


class Stream(io.StringIO):
    """A text stream of an encoding, on a terminal or not, that takes no character which the encoding lacks."""

    def __init__(self, encoding: str = "utf-8", *, terminal: bool = False) -> None:
        super().__init__()
        self._encoding, self._terminal = encoding, terminal

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._encoding

    def isatty(self) -> bool:
        return self._terminal

    def write(self, text: str, /) -> int:
        text.encode(self._encoding)
        return super().write(text)


ROWS: list[dict[str, object]] = [
    {"name": "日本", "n": 12, "note": "naïve → \u202e\x1b[31m", "raw": b"\xff"},
    {"name": "👩\u200d👩\u200d👧", "n": 1, "note": "e\u0301 \ud800", "raw": b""},
]


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8", "utf-16"])
@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize("form", [*Format])
def test_every_encoding_carries_every_form(encoding: str, terminal: bool, form: Format) -> None:
    out = Output(Stream(encoding, terminal=terminal), Stream(encoding))
    out.records(ROWS, ("name", "n", "note"), form)
    out.note("日本 \ud800")
    shown = out.out.getvalue()  # type: ignore[attr-defined]
    assert shown.count("\x1b") == shown.count("\x1b[1m") + shown.count("\x1b[2m") + shown.count("\x1b[0m")
    if form is Format.JSON:
        assert json.loads(shown) == jsonable(ROWS)
    elif form is Format.JSONL:
        assert [json.loads(line) for line in shown.splitlines()] == jsonable(ROWS)
    elif not encoding.startswith("utf"):
        assert "\\u65e5\\u672c" in shown
        assert shown.isascii() or encoding != "ascii"


def test_borders_and_guides_are_ascii_where_the_encoding_is(monkeypatch: pytest.MonkeyPatch) -> None:
    out = Output(Stream("ascii", terminal=True), Stream())
    out.table(("a", "b"), [(1, "x")])
    tree = Tree(Text("root"))
    tree.add(Text("日本"))
    out.tree(tree)
    shown = out.out.getvalue()  # type: ignore[attr-defined]
    assert "| 1 | x |" in shown
    assert "`-- \\u65e5\\u672c" in shown


def test_a_dumb_terminal_is_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("FORCE_COLOR", "1")
    out = Output(Stream(terminal=True), Stream())
    out.table(("a", "b"), [(1, "x")])
    assert out.out.getvalue() == "a  b\n1  x\n"  # type: ignore[attr-defined]


def test_a_stream_that_was_closed_before_we_began(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", None)
    monkeypatch.setattr("sys.stderr", None)
    out = Output()
    out.note("nobody listens")
    with pytest.raises(UnwritableError, match="it is closed"):
        out.line("data")


def test_rows_that_come_one_by_one_are_lines_or_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[dict[str, object]] = [{"name": "日本", "ms": 1.5}, {"name": "b" * 30, "ms": None}]
    lines = ["name                ms", "日本               1.5", f"{'b' * 30}           -"]
    rules = [f"{number} {'-' * 16}" for number in (1, 2)]
    blocks = [rules[0], "name", "日本", "ms", "1.5", rules[1], "name", "b" * 18, "b" * 12, "ms", "-"]
    for width, shown in ((80, lines), (18, blocks)):
        monkeypatch.setenv("COLUMNS", str(width))
        monkeypatch.setenv("NO_COLOR", "1")
        out = Output(Stream(terminal=True), Stream())
        out.stream(rows, {"name": 10, "ms": 10})
        plain = Text.from_ansi(out.out.getvalue()).plain.replace("─", "-")  # type: ignore[attr-defined]
        assert [line.rstrip() for line in plain.splitlines()] == shown
    piped = Output(Stream(), Stream())
    piped.stream(rows, {"name": 10, "ms": 10})
    assert len(piped.out.getvalue().splitlines()) == 3  # type: ignore[attr-defined]


def test_markup_of_strangers_is_text() -> None:
    assert "[bold]x[/bold]" in written([{"t": "[bold]x[/bold]"}], ("t",), Format.TABLE)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "-"),
        (0.123456, "0.1235"),
        (1234567.891, "1234567.89"),
        (2000.0, "2000"),
        (1e22, "1e+22"),
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


def test_ctrl_c_that_python_wrapped_is_one() -> None:
    wrapped = RuntimeError("Error calling __set_name__")
    wrapped.__cause__ = KeyboardInterrupt()
    assert (exit_code(wrapped), explain(wrapped)) == (ExitCode.INTERRUPTED, "Interrupted.")


def test_an_unexpected_error_says_its_name_and_how_to_see_more() -> None:
    assert explain(ZeroDivisionError("division by zero")).startswith("Unexpected ZeroDivisionError: division by zero.")
    assert "--debug" in explain(ZeroDivisionError())
    assert explain(NotFoundError("no such task")) == "no such task [E400]"
    assert explain(ZeroDivisionError()).endswith(" [E100]")
    # Below a text of several lines: the last one may be of a log.
    assert explain(PointsmanError("it ended\n{its log}")) == "it ended\n{its log}\n[E101]"
