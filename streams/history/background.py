"""Work that may take for ever, in a thread that does not keep the process from ending.

I/O: none of its own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable


class Background:
    """`work`, begun at once."""

    def __init__(self, work: Callable[[], object], name: str) -> None:
        self._work = work
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._work()
        except BaseException as error:  # noqa: BLE001 - `done` raises it, in the thread that can end the process
            self._error = error

    def done(self, timeout_s: float = 0.0) -> bool:
        """Whether the work has ended, after `timeout_s` at most. Raises what ended it, if it failed."""
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            return False
        if self._error is not None:
            raise self._error
        return True
