"""A `pointsman dev` of its own process, as a terminal runs it.

I/O: processes.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.support.waiting import PATIENCE, deadline_in

START_S = 90
STOP_S = 10


def processes_of(folder: Path) -> list[str]:
    """Command lines of all processes that name this folder, which is nobody else's; this one's are not among them."""
    listed = subprocess.run(["ps", "-axww", "-o", "pid=,command="], capture_output=True, text=True, check=True).stdout
    return [line for line in listed.splitlines() if str(folder) in line and line.split()[0] != str(os.getpid())]


class Dev:
    """A running `pointsman dev`."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process, self._log = process, log

    @property
    def said(self) -> str:
        return self._log.read_text()

    def wait_for(self, words: str, seconds: float = START_S, times: int = 1) -> None:
        """Until it has said this so often; fails when it ends before."""
        deadline = deadline_in(seconds)
        while self.said.count(words) < times:
            assert self.process.poll() is None, self.said
            assert time.monotonic() < deadline, f"waited for {words!r}; it said:\n{self.said}"
            time.sleep(0.02)

    def wait_until_ready(self) -> None:
        self.wait_for("Ready after")

    def setting(self, name: str) -> str:
        """What the banner names: the first word after `name`."""
        found = re.search(rf"^  {name} +(\S+)", self.said, re.MULTILINE)
        assert found is not None, self.said
        return found.group(1)

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGINT)

    def end(self, seconds: float = STOP_S + 10) -> int:
        """Its exit code, once it has ended."""
        return self.process.wait(PATIENCE * seconds)

    def stop(self) -> float:
        """Ctrl-C; gives the seconds until the end."""
        began = time.monotonic()
        self.interrupt()
        self.end()
        return time.monotonic() - began


@contextmanager
def dev(repository: Path, data: Path, *arguments: str, environment: Mapping[str, str] | None = None) -> Iterator[Dev]:
    log = data.parent / f"dev-{time.monotonic_ns()}.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "console.cli.main", "dev", "--data", str(data), *arguments],
            stdout=out,
            stderr=out,
            stdin=subprocess.DEVNULL,
            cwd=repository,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )
    try:
        yield Dev(process, log)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
