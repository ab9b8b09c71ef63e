"""Wall clocks that jump: of processes that read theirs through this module.

`python -m console.chaos.clock FILE worker ...` runs the command with Python's wall clock off by as many seconds as the
file says. The monotonic clock goes on as it is, as no machine's jumps; so do the clocks of broker and client library.
I/O: the file, through the command.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

LOOK_S = 0.05


class Skew:
    """By how many nanoseconds a wall clock is off, as a file says in seconds; 0 where it says nothing."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path, self._clock = path, clock
        self._looked_at, self._ns = -LOOK_S, 0

    def ns(self) -> int:
        now = self._clock()
        if now - self._looked_at >= LOOK_S:
            self._looked_at = now
            try:
                self._ns = int(float(self._path.read_text()) * 1e9)
            except (OSError, ValueError):
                self._ns = 0
        return self._ns


def jump(path: Path, by_s: float) -> None:
    """Whoever reads its clock by this file is off by so many seconds from now on."""
    draft = path.with_suffix(".draft")
    draft.write_text(f"{by_s:g}\n")
    draft.replace(path)


def install(skew: Skew) -> None:
    """Before anything else is imported, so that nobody has kept the true clock."""
    true_ns = time.time_ns
    time.time_ns = lambda: true_ns() + skew.ns()
    time.time = lambda: (true_ns() + skew.ns()) / 1e9


if __name__ == "__main__":
    install(Skew(Path(sys.argv.pop(1))))
    from console.cli.main import main  # not before the line above

    sys.exit(main())
