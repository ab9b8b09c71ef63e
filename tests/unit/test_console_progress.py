"""Long work: a bar on a terminal, a line every ten seconds elsewhere, nothing for what is short."""

from __future__ import annotations

import io

import pytest

from console.cli.output import Output
from console.cli.progress import LINE_EVERY_S, Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr("console.cli.progress.time.monotonic", lambda: now[0])
    return now


def lines(clock: list[float], err: io.StringIO, *, shown: bool = True) -> list[str]:
    with Progress(Output(io.StringIO(), err), "results", 100, shown=shown) as bar:
        for second in range(35):
            clock[0] = 100.0 + second
            bar.at(second)
    return err.getvalue().splitlines()


def test_a_pipe_gets_a_line_every_ten_seconds(clock: list[float]) -> None:
    assert LINE_EVERY_S == 10
    assert lines(clock, io.StringIO()) == [f"results: {done} of 100" for done in (10, 20, 30)]


def test_short_work_says_nothing() -> None:
    err = io.StringIO()
    with Progress(Output(io.StringIO(), err), "results", 100) as bar:
        bar.at(100)
    assert err.getvalue() == ""


def test_a_dumb_terminal_gets_lines_as_a_pipe_does(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    assert len(lines(clock, Terminal())) == 3


def test_what_is_not_to_be_shown_is_not(clock: list[float]) -> None:
    assert lines(clock, io.StringIO(), shown=False) == []
    assert lines(clock, Terminal(), shown=False) == []


def test_a_terminal_gets_a_bar_which_goes_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    out, err = io.StringIO(), Terminal()
    with Progress(Output(out, err), "results", 100) as bar:
        bar.at(50)
    assert "results" in err.getvalue()
    assert "50/100" in err.getvalue() or "0/100" in err.getvalue()
    assert err.getvalue().endswith("\x1b[2K")  # the line is cleared
    assert out.getvalue() == ""
