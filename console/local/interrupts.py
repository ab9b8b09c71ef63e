"""How Ctrl-C reaches a command that started processes: as KeyboardInterrupt, and never between a start and its record.

I/O: signals.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class _State:
    """Of this process: handlers run in its main thread alone."""

    shields = 0
    pending = False
    lock = threading.Lock()  # processes are started in other threads, too


@contextmanager
def interruptible() -> Iterator[None]:
    """SIGTERM and SIGHUP end the block as Ctrl-C does: what it started must not outlive it."""
    # A hang-up that somebody chose to ignore (nohup) stays ignored.
    heard = [number for number in SIGNALS if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, _interrupt) for number in heard}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def shielded() -> Iterator[None]:
    """A short block that an interrupt may not cut in half; it is raised at the block's end instead.

    A process that was started in a cut-off call is nobody's: no stop would find it. Outside of `interruptible` this
    does nothing.
    """
    with _State.lock:
        _State.shields += 1
    try:
        yield
    finally:
        with _State.lock:
            _State.shields -= 1
        if _State.pending and not _State.shields:
            _State.pending = False
            raise KeyboardInterrupt


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    if _State.shields:
        _State.pending = True
    else:
        raise KeyboardInterrupt
