"""Tables and paragraphs of the generated pages. I/O: none."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence

WIDTH = 120


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """A table, a line a row, and an empty line behind it."""
    yield _row(columns)
    yield _row(["---"] * len(columns)).replace(" ", "")
    yield from map(_row, rows)
    yield ""


def paragraph(text: str) -> Iterator[str]:
    """One paragraph, and an empty line behind it."""
    yield from textwrap.wrap(text, WIDTH, break_on_hyphens=False, break_long_words=False)
    yield ""


def made_by(source: str) -> str:
    """The first line of a generated page."""
    return f"<!-- Made by `make reference` out of {source}: change it there. -->"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
