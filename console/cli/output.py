"""How the console speaks: data on stdout as a table, JSON or JSON lines; everything else on stderr.

A terminal gets borders and colour; a pipe gets neither, and one row stays one line. What the encoding of a stream
lacks is spelt out. `docs/output.md` is the contract. What draws is imported to draw: a process that serves has no use
for it. I/O: stdout, stderr.
"""
# ruff: noqa: PLC0415  as above

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from io import StringIO
from typing import TYPE_CHECKING, TextIO

from console.cli.values import UTF_8, cell, dumps, encodable, jsonable, printable
from schemas.codes import ErrorCode
from schemas.errors import PointsmanError

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.tree import Tree

__all__ = ["Format", "Output", "Row", "UnwritableError", "cell", "dumps", "is_screen", "jsonable", "printable"]

Row = Mapping[str, object]


class Format(StrEnum):
    """The value of `-o`."""

    TABLE = "table"
    JSON = "json"
    JSONL = "jsonl"


class UnwritableError(PointsmanError):
    """Data have nowhere to go."""

    error_code = ErrorCode.UNWRITABLE

    def __init__(self, why: str) -> None:
        super().__init__(f"Standard output cannot be written: {why}. What is printed there may be incomplete.")


def is_screen(stream: TextIO) -> bool:
    """Whether a stream is a terminal that can move its cursor: what borders, colours and bars need."""
    return stream.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")


def _stream(standard: TextIO | None) -> TextIO:
    # Its number may belong to a file or a socket by now, so nothing may be written there.
    return standard if standard is not None else _Closed()


class _Closed(StringIO):
    """Stands for a stream that was closed before the process began."""

    def write(self, _text: str, /) -> int:
        raise OSError(errno.EBADF, "it is closed")


@dataclass
class Output:
    """The two streams of one command."""

    out: TextIO = field(default_factory=lambda: _stream(sys.stdout))
    err: TextIO = field(default_factory=lambda: _stream(sys.stderr))

    @property
    def fancy(self) -> bool:
        """Whether stdout is a terminal that wants borders."""
        return is_screen(self.out)

    def note(self, text: str) -> None:
        """Tells a person how things go; stderr. That nobody listens ends no work."""
        with contextlib.suppress(OSError):
            self.err.write(printable(text, _encoding(self.err)) + "\n")
            self.err.flush()

    def line(self, text: str = "") -> None:
        """One line of data; stdout."""
        self._write(printable(text, self._encoding) + "\n")

    def records(self, rows: Iterable[Row], columns: Sequence[str], form: Format) -> None:
        """Rows as a table of `columns`, or whole as JSON."""
        if form is Format.JSONL:
            self._write("".join(f"{dumps(row, encoding=self._encoding)}\n" for row in rows))
        elif form is Format.JSON:
            self.json(list(rows))
        else:
            self.table(columns, [[row.get(column) for column in columns] for row in rows])

    def json(self, value: object) -> None:
        self._write(dumps(value, indent=2, encoding=self._encoding) + "\n")

    def json_line(self, value: object) -> None:
        self._write(dumps(value, encoding=self._encoding) + "\n")

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[object]], title: str | None = None) -> None:
        """Numbers to the right, all else to the left."""
        from console.cli import tables

        numeric = [
            bool(rows) and all(isinstance(row[index], (int, float, type(None))) for row in rows)
            for index in range(len(columns))
        ]
        names, texts = self._shown(columns), [self._shown(row) for row in rows]
        if self.fancy:
            self._render(tables.laid_out(names, texts, numeric, self._console().width, title))
            return
        if title:
            self.line(title)
        self._write("".join(f"{line}\n" for line in tables.plain(names, texts, numeric)))

    def stream(self, rows: Iterable[Row], widths: Mapping[str, int]) -> None:
        """Rows as they come, one line each under a head; a terminal that is too narrow gets a block for each.

        `widths` are those of the columns, by name, in terminal cells; what is longer pushes its row.
        """
        from console.cli import tables

        columns, right = list(widths), [column == "ms" for column in widths]
        room = self._console().width if self.fancy else sys.maxsize
        as_lines = sum(widths.values()) + 2 * len(widths) <= room
        if as_lines:
            self.line(tables.line(self._shown(columns), list(widths.values()), right))
        for number, row in enumerate(rows, 1):
            texts = self._shown([row.get(column) for column in columns])
            if as_lines:
                self.line(tables.line(texts, list(widths.values()), right))
            else:
                self._render(tables.block(columns, texts, number, room))

    def tree(self, tree: Tree) -> None:
        self._render(tree)

    @property
    def _encoding(self) -> str:
        return _encoding(self.out)

    def _shown(self, values: Iterable[object]) -> list[str]:
        """Cells as this stream can carry them: what is measured is what is printed."""
        return [encodable(cell(value), self._encoding) for value in values]

    def _console(self) -> Console:
        from rich.console import Console

        # A pipe has no width: nothing is folded or cut there.
        fancy = self.fancy
        return Console(
            file=self.out,
            force_terminal=fancy,
            highlight=False,
            soft_wrap=not fancy,
            width=None if fancy else 10_000,
        )

    def _render(self, shown: RenderableType) -> None:
        console = self._console()
        with console.capture() as captured:
            console.print(shown)
        self._write(captured.get())

    def _write(self, text: str) -> None:
        """Raises UnwritableError; BrokenPipeError where the reader has had enough, which is no failure."""
        with _writing():
            _put(self.out, encodable(text, self._encoding))


def _encoding(stream: TextIO) -> str:
    return getattr(stream, "encoding", None) or UTF_8


def _put(stream: TextIO, text: str) -> None:
    """Writes all of a text. An unbuffered stream (PYTHONUNBUFFERED) drops what one call to the system does not take."""
    binary = getattr(stream, "buffer", None)
    if binary is None:
        stream.write(text)
    else:
        stream.flush()  # what others have printed comes first
        left = memoryview(text.encode(_encoding(stream)))
        while left:
            left = left[binary.write(left) :]
    stream.flush()


@contextlib.contextmanager
def _writing() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise UnwritableError(error.strerror or str(error)) from error
