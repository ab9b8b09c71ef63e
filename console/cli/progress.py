"""How long work is shown: a bar on a terminal, else a line every ten seconds.

I/O: stderr.
"""

from __future__ import annotations

import math
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from console.cli.output import Output, is_screen

LINE_EVERY_S = 10.0


class Progress:
    """`what` is done of `total`; says nothing of work that is over before its first line is due, or is not `shown`."""

    def __init__(self, out: Output, what: str, total: int, *, shown: bool = True) -> None:
        self._out, self._what, self._total = out, what, total
        self._said_at = time.monotonic()
        self._bar: Bar | None = None
        self._next_s = LINE_EVERY_S if shown else math.inf
        if shown and is_screen(out.err):
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
            self._bar = Bar(*columns, console=Console(file=out.err), transient=True, redirect_stdout=False)
            self._bar.add_task(what, total=total)

    def at(self, done: int) -> None:
        """Tells how many are done; to be called often."""
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=done)
        elif time.monotonic() - self._said_at >= self._next_s:
            self._said_at = time.monotonic()
            self._out.note(f"{self._what}: {done} of {self._total}")

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
