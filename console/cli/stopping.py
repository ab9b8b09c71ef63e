"""How a process that serves is told to stop, and that it then does end.

I/O: signals, standard input, stderr.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import select
import signal
import sys
import threading
import time
from contextlib import suppress
from types import FrameType
from typing import NoReturn

from console.cli.failures import ExitCode
from streams.transport.stuck import end_in
from streams.transport.telemetry import get_logger

# A clean end takes four seconds at most; what hangs after that is a thread of a client library.
END_TIMEOUT_S = 6.0
STUCK_S = 4.0
"""Beyond that, where no thread of ours can see to it."""
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
SIGNAL_EXIT = 128
# The number, for the stream is None where it was closed before we began; `console/cli/entry.py` has it end at once.
STDIN = 0


def end(code: int) -> NoReturn:
    """Ends now: neither a thread that cannot be joined nor a destructor that blocks may keep a process that is done."""
    logging.shutdown()
    for stream in (sys.__stdout__, sys.__stderr__):
        if stream is not None:
            with suppress(OSError):
                stream.flush()
    os._exit(code)


class StopWatch(threading.Thread):
    """Sets `stop` at the first signal or, where asked, when standard input closes; ends the process at the second.

    Whatever comes on standard input sets `go_on`.

    A thread of its own, woken through a pipe: a Python handler would run in the main thread, which may be inside a
    client library, or hold the very lock that setting the event takes. Also sees to it that a process which was told
    to stop does end.
    """

    def __init__(self, stop: threading.Event, go_on: threading.Event, *, with_stdin: bool) -> None:
        super().__init__(name="pointsman-stop", daemon=True)
        self._stop_event, self._go_on, self._with_stdin = stop, go_on, with_stdin
        self._wake, wakeup = os.pipe()
        os.set_blocking(wakeup, False)
        signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)
        for number in STOP_SIGNALS:
            signal.signal(number, _noted)

    def run(self) -> None:
        watched = [self._wake, *([STDIN] if self._with_stdin else [])]
        deadline: float | None = None
        while True:
            wait = None if deadline is None else max(0.0, deadline - time.monotonic())
            awake, _, _ = select.select(watched, [], [], wait)
            if not awake and deadline is not None:
                self._overdue()
            for source in awake:
                came = os.read(source, 1)
                if source != self._wake:
                    if came:
                        self._go_on.set()
                        continue
                    watched.remove(source)
                elif came[0] not in STOP_SIGNALS:
                    continue
                elif deadline is not None:
                    os._exit(SIGNAL_EXIT + came[0])
                if deadline is None:
                    deadline = time.monotonic() + END_TIMEOUT_S
                    end_in(END_TIMEOUT_S + STUCK_S)  # should this thread not come to it
                    self._stop_event.set()

    @staticmethod
    def _overdue() -> NoReturn:
        get_logger("pointsman.process").error("did not stop in time; ended by force", timeout_s=END_TIMEOUT_S)
        faulthandler.dump_traceback(sys.__stderr__ or 2)
        end(ExitCode.FAILED)


def _noted(_number: int, _frame: FrameType | None) -> None:
    """The wakeup pipe has it already; without a handler the signal would kill."""
