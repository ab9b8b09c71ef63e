"""The broker of a chaos run: stopped and started in a thread, because that takes seconds and other things are due.

I/O: through the local broker.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from console.local.broker import LocalBroker

START_S = 300.0
END_S = START_S


class Node:
    """A broker that was started. One thread uses it, and calls `tend` often."""

    def __init__(self, broker: LocalBroker) -> None:
        self.is_paused = False
        self._broker = broker
        self._work: _InThread | None = None
        self._due_at: float | None = None

    @property
    def answers(self) -> bool:
        """Whether it runs, and is neither on its way nor stopped."""
        return self._broker.running and not self._is_going and not self.is_paused

    def stop(self, down_s: float, *, clean: bool) -> None:
        """Stops or kills it; it is started again after `down_s`."""
        if self._is_going:
            return
        if clean:
            self._work = _InThread(self._broker.stop)
        else:
            self._broker.kill()
        self.is_paused = False
        self._due_at = time.monotonic() + down_s

    def tend(self, now: float) -> None:
        """Starts it where that is due. Raises what a start raises: ConfigurationError, UnreachableError."""
        if self._work is not None and self._work.error is not None:
            raise self._work.error
        if self._due_at is not None and now >= self._due_at and not self._is_going:
            self._due_at = None
            self._work = _InThread(self._start)

    def close(self) -> None:
        """Ends it at once, whatever it was doing."""
        if self._work is not None:
            self._work.join(END_S)
        self._broker.kill()

    @property
    def _is_going(self) -> bool:
        return self._work is not None and self._work.is_alive()

    def _start(self) -> None:
        """After a kill a node looks through all its logs: on a busy machine that may take longer than a start does."""
        self._broker.start(START_S)


class _InThread(threading.Thread):
    """Work that is under way from the moment that it is made; `error` is what ended it."""

    def __init__(self, work: Callable[[], object]) -> None:
        super().__init__(name="chaos-broker", daemon=True)
        self._work = work
        self.error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self._work()
        except BaseException as error:  # noqa: BLE001  raised again by who tends the fleet
            self.error = error
