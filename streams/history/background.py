"""Work that may take for ever, in a thread that does not keep the process from ending.

I/O: none of its own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue


class Job:
    """A piece of work, under way or ended."""

    def __init__(self, work: Callable[[], object]) -> None:
        self._work = work
        self._ended = threading.Event()
        self._error: BaseException | None = None

    def run(self) -> None:
        try:
            self._work()
        except BaseException as error:  # noqa: BLE001 - `done` raises it, in the thread that can end the process
            self._error = error
        self._ended.set()

    def done(self, timeout_s: float = 0.0) -> bool:
        """Whether the work has ended, after `timeout_s` at most. Raises what ended it, if it failed."""
        if not self._ended.wait(timeout_s):
            return False
        if self._error is not None:
            raise self._error
        return True


class Lane:
    """One thread that does one job after the other.

    One, and not one a job: the C allocator gives each new thread an arena of its own, and keeps what was in it.
    """

    def __init__(self, name: str) -> None:
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            job.run()

    def begin(self, work: Callable[[], object]) -> Job:
        """Do this next."""
        job = Job(work)
        self._jobs.put(job)
        return job

    def close(self) -> None:
        """End the thread once it has done what it was given."""
        self._jobs.put(None)
