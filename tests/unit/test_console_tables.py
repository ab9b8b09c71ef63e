"""How tables fit terminals: the widest columns give way, words stay whole, and nothing is cut."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from console.cli.tables import fitted, laid_out, plain

WIDE = ("task_id", "status", "answer")
ROW = ("0192f1c2-1111-7000-8000-123456789abc", "COMPLETED", "The revenue in EMEA was 12 日本語 million, up from 11.")


def shown(columns: tuple[str, ...], rows: list[tuple[str, ...]], width: int) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=width, highlight=False).print(laid_out(columns, rows, [False] * len(columns), width))
    return out.getvalue().splitlines()


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), min_size=1, max_size=8), st.integers(0, 300))
def test_the_widest_give_way_and_none_below_its_least(columns: list[tuple[int, int]], room: int) -> None:
    natural, least = [max(pair) for pair in columns], [min(pair) for pair in columns]
    widths = fitted(natural, least, room)
    if widths is None:
        assert sum(least) > room
        return
    assert sum(widths) == min(room, sum(natural))
    assert all(low <= width <= high for low, width, high in zip(least, widths, natural, strict=True))
    gave_way = [width for low, width, high in zip(least, widths, natural, strict=True) if low < width < high]
    level = max(gave_way, default=0)
    assert all(width >= level - 1 for width in gave_way)


@pytest.mark.parametrize("width", [200, 110, 80, 60, 40, 24, 12])
def test_nothing_is_cut_at_any_width(width: int) -> None:
    lines = shown(WIDE, [ROW], width)
    assert all(cell_len(line) <= width for line in lines)
    bare = "".join(lines).translate({ord(char): None for char in "╭╮╰╯─│├┤┬┴┼ "})
    for text in (*WIDE, *ROW):
        if width >= 110 or text != ROW[2]:
            assert text.replace(" ", "") in bare or width < 40
    assert sum(map(bare.count, "日本語")) == 3


def test_an_id_can_be_copied_wherever_it_fits() -> None:
    for width in (200, 110, 80, 60, 50):
        assert any(ROW[0] in line for line in shown(WIDE, [ROW], width))


def test_narrow_is_one_field_a_line() -> None:
    lines = [line.rstrip() for line in shown(WIDE, [ROW, ROW], 60)]
    assert lines[0].startswith("1 ──")
    assert lines[1:3] == [f"task_id  {ROW[0]}", "status   COMPLETED"]
    assert lines[3] == "answer   The revenue in EMEA was 12 日本語 million, up from"
    assert lines[4] == "         11."
    assert lines[5].startswith("2 ──")


def test_a_cell_of_a_megabyte_is_folded() -> None:
    lines = shown(("t",), [("x" * 100_000,)], 80)
    assert sum(line.count("x") for line in lines) == 100_000
    assert list(plain(("t",), [("x" * 100_000,)], [False])) == ["t", "x" * 100_000]


def test_no_rows_and_no_columns() -> None:
    assert any("t" in line for line in shown(("t",), [], 80))
    shown((), [], 80)
    assert list(plain((), [], [])) == [""]


def test_a_single_row_that_would_be_folded_is_a_block_without_a_number() -> None:
    columns, row = ("id", "answer"), ("a-1", "a sentence of several words")
    assert "│ a-1 │ a sentence of several words │" in shown(columns, [row], 80)
    assert " ".join(shown(columns, [row], 30)).split() == ["id", "a-1", "answer", *row[1].split()]
    assert "│" in " ".join(shown(columns, [row, row], 30))
