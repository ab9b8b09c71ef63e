"""Ends a process whose interpreter stands still, which no thread of Python's can.

A client library that calls back holds the interpreter while it does, and where it then waits for itself, all threads
wait with it, those among them that see to it that a process ends (confluentinc/librdkafka#4884: a consumer that is out
of its group and closes; seen once in a test). So a thread that needs no interpreter is given a deadline beforehand.
I/O: stderr, the process's end.
"""

from __future__ import annotations

import faulthandler
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_STDERR = 2


class _Deadline:
    """Of the whole process: Python's library keeps one, and no more."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._holders = 0
        self.is_wanted = False

    def set(self, seconds: float) -> None:
        """In place of the one before."""
        with self._lock:
            self._holders += 1
            faulthandler.dump_traceback_later(seconds, exit=True, file=sys.__stderr__ or _STDERR)

    def drop(self) -> None:
        """The last one who drops it ends it."""
        with self._lock:
            self._holders -= 1
            if not self._holders:
                faulthandler.cancel_dump_traceback_later()


_DEADLINE = _Deadline()


def end_if_stuck() -> None:
    """From now on `not_for_ever` binds this process. For one that serves, and is started again by whoever watches it; a
    program that uses this library goes its own ways."""
    _DEADLINE.is_wanted = True


def end_in(seconds: float) -> None:
    """Ends the process then, whatever it does, with exit code 1 and a trace of all threads on stderr."""
    _DEADLINE.set(seconds)


@contextmanager
def not_for_ever(seconds: float) -> Iterator[None]:
    """Ends the process as `end_in` where this is not left within so many seconds, if `end_if_stuck` was called."""
    if not _DEADLINE.is_wanted:
        yield
        return
    _DEADLINE.set(seconds)
    try:
        yield
    finally:
        _DEADLINE.drop()
