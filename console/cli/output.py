"""How the console speaks: data on stdout as a table, JSON or JSON lines; everything else on stderr.

A terminal gets borders and colour; a pipe gets neither, and one row stays one line. I/O: stdout, stderr.
"""

from __future__ import annotations

import base64
import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import TextIO

from rich.box import ROUNDED
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

# What a terminal would obey instead of showing: answers and labels come from strangers.
_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0)) if code not in (0x09, 0x0A)}
# JSON escapes the first 32 itself; the second block means the same to many terminals.
_JSON_CONTROLS = {code: f"\\u{code:04x}" for code in range(0x7F, 0xA0)}

Row = Mapping[str, object]


class Format(StrEnum):
    """The value of `-o`."""

    TABLE = "table"
    JSON = "json"
    JSONL = "jsonl"


def printable(text: str) -> str:
    """`text` with control characters spelt out; tab and line feed stay."""
    return text.translate(_CONTROLS)


def cell(value: object) -> str:
    """One value as a person reads it, on one line."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, datetime):
        return value.astimezone().isoformat(sep=" ", timespec="milliseconds")
    if isinstance(value, bytes):
        return repr(value)[2:-1]
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={cell(inner)}" for key, inner in value.items()) or "-"
    if isinstance(value, (list, tuple)):
        return ", ".join(cell(inner) for inner in value) or "-"
    return printable(str(value)).replace("\n", "\\n").replace("\t", " ")


def jsonable(value: object) -> object:
    """`value` in JSON's own types: RFC 3339 UTC times, base64 bytes, null for what JSON has no number for."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, datetime):
        aware = value if value.tzinfo else value.replace(tzinfo=UTC)
        return aware.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, Mapping):
        return {str(key): jsonable(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [jsonable(inner) for inner in value]
    return value if value is None or isinstance(value, (str, int, bool)) else str(value)


def dumps(value: object, *, indent: int | None = None) -> str:
    text = json.dumps(jsonable(value), ensure_ascii=False, allow_nan=False, indent=indent)
    return text.translate(_JSON_CONTROLS)


@dataclass
class Output:
    """The two streams of one command."""

    out: TextIO = field(default_factory=lambda: sys.stdout)
    err: TextIO = field(default_factory=lambda: sys.stderr)

    @property
    def fancy(self) -> bool:
        """Whether stdout is a terminal that wants borders."""
        return self.out.isatty()

    def note(self, text: str) -> None:
        """Tells a person how things go; stderr."""
        print(printable(text), file=self.err, flush=True)

    def line(self, text: str = "") -> None:
        """One line of data; stdout."""
        print(printable(text), file=self.out, flush=True)

    def records(self, rows: Iterable[Row], columns: Sequence[str], form: Format) -> None:
        """Rows as a table of `columns`, or whole as JSON."""
        if form is Format.JSONL:
            for row in rows:
                self.json_line(row)
        elif form is Format.JSON:
            self.json(list(rows))
        else:
            self.table(columns, [[row.get(column) for column in columns] for row in rows])

    def json(self, value: object) -> None:
        print(dumps(value, indent=2), file=self.out, flush=True)

    def json_line(self, value: object) -> None:
        print(dumps(value), file=self.out, flush=True)

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[object]], title: str | None = None) -> None:
        """Numbers to the right, all else to the left."""
        numeric = [
            bool(rows) and all(isinstance(row[index], (int, float, type(None))) for row in rows)
            for index in range(len(columns))
        ]
        texts = [[cell(value) for value in row] for row in rows]
        if self.fancy:
            self._bordered(columns, texts, numeric, title)
        else:
            self._plain(columns, texts, numeric, title)

    def tree(self, tree: Tree) -> None:
        self._console().print(tree)

    def _console(self) -> Console:
        # A pipe has no width: nothing is folded or cut there.
        return Console(file=self.out, highlight=False, soft_wrap=not self.fancy, width=None if self.fancy else 10_000)

    def _bordered(self, columns: Sequence[str], texts: list[list[str]], numeric: list[bool], title: str | None) -> None:
        table = Table(box=ROUNDED, title=title, title_justify="left", title_style="bold", header_style="bold")
        for column, right in zip(columns, numeric, strict=True):
            table.add_column(Text(column), justify="right" if right else "left", overflow="fold")
        for row in texts:
            table.add_row(*(Text(text) for text in row))
        self._console().print(table)

    def _plain(self, columns: Sequence[str], texts: list[list[str]], numeric: list[bool], title: str | None) -> None:
        if title:
            self.line(title)
        widths = [max(map(cell_len, column)) for column in zip(columns, *texts, strict=True)]
        for row in (list(columns), *texts):
            padded = (
                " " * (width - cell_len(text)) + text if right else text + " " * (width - cell_len(text))
                for text, width, right in zip(row, widths, numeric, strict=True)
            )
            self.line("  ".join(padded).rstrip())
