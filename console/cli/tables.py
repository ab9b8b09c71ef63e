"""Rows laid out for a person: with borders, without, or one field a line where the columns do not fit.

I/O: none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.box import ROUNDED
from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

# A word up to this long keeps its column wide enough to show it whole: ids can be copied.
WORD_MAX = 40
# Beside a field's name there is room for its value, or the value goes below.
BESIDE_MIN = 16

Texts = Sequence[Sequence[str]]


def plain(columns: Sequence[str], texts: Texts, numeric: Sequence[bool]) -> Iterator[str]:
    """Aligned lines, one a row, however long."""
    widths = _natural(columns, texts)
    for row in (columns, *texts):
        yield line(row, widths, numeric)


def line(row: Sequence[str], widths: Sequence[int], numeric: Sequence[bool]) -> str:
    """One row, padded to `widths` in terminal cells; what is longer pushes the rest."""
    padded = (
        " " * (width - cell_len(text)) + text if right else text + " " * (width - cell_len(text))
        for text, width, right in zip(row, widths, numeric, strict=True)
    )
    return "  ".join(padded).rstrip()


def laid_out(
    columns: Sequence[str], texts: Texts, numeric: Sequence[bool], width: int, title: str | None = None
) -> RenderableType:
    """For a terminal of `width` cells: a bordered table, long cells folded; else each row as a block of fields.

    A single row is a block as soon as a cell would have to be folded: it has no neighbour to be compared with.
    """
    natural = _natural(columns, texts)
    widths = fitted(natural, _least(columns, texts), width - 3 * len(columns) - 1)
    if widths is None or (len(texts) == 1 and widths != natural):
        heading = [Text(title, style="bold")] if title else []
        numbers = range(1, len(texts) + 1) if len(texts) > 1 else [None]
        blocks = (block(columns, row, number, width) for number, row in zip(numbers, texts, strict=True))
        return Group(*heading, *blocks)
    table = Table(box=ROUNDED, title=title, title_justify="left", title_style="bold", header_style="bold")
    for column, right, cells in zip(columns, numeric, widths, strict=True):
        table.add_column(Text(column), justify="right" if right else "left", overflow="fold", width=cells)
    for row in texts:
        table.add_row(*(Text(text) for text in row))
    return table


def block(columns: Sequence[str], row: Sequence[str], number: int | None, width: int) -> RenderableType:
    """One row, a field a line, under a rule with its number where it has one."""
    names = max((cell_len(column) for column in columns), default=0)
    beside = width - names - 2 >= BESIDE_MIN
    grid = Table.grid(padding=(0, 2 if beside else 0, 0, 0))
    if beside:
        grid.add_column(width=names, style="bold")
    grid.add_column(overflow="fold", width=width - names - 2 if beside else width)
    for column, text in zip(columns, row, strict=True):
        if beside:
            grid.add_row(Text(column), Text(text))
        else:
            grid.add_row(Text(column, style="bold"))
            grid.add_row(Text(text))
    return grid if number is None else Group(Rule(str(number), align="left", style="dim"), grid)


def fitted(natural: Sequence[int], least: Sequence[int], room: int) -> list[int] | None:
    """Widths whose sum is at most `room`: the widest give way first, none below its least. None where that is more."""
    if sum(least) > room:
        return None
    widths = list(natural)
    while (excess := sum(widths) - room) > 0:
        # Down to the next narrower one, or by what is left of the excess, shared among the widest.
        yielding = [index for index, width in enumerate(widths) if width > least[index]]
        widest = max(widths[index] for index in yielding)
        top = [index for index in yielding if widths[index] == widest]
        floor = max(
            [least[index] for index in top]
            + [widths[index] for index in yielding if widths[index] < widest]
            + [widest - max(1, excess // len(top))]
        )
        for index in top[:excess]:
            widths[index] = floor
    return widths


def _natural(columns: Sequence[str], texts: Texts) -> list[int]:
    return [max(map(cell_len, column)) for column in zip(columns, *texts, strict=True)]


def _least(columns: Sequence[str], texts: Texts) -> list[int]:
    """The longest word of each column, up to `WORD_MAX`."""
    return [
        max(min(WORD_MAX, cell_len(word)) for text in column for word in text.split() or [""])
        for column in zip(columns, *texts, strict=True)
    ]
