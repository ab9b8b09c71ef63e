"""Ends a process when we die, however we die: a kill -9 of the supervisor must not leave a broker behind.

I/O: processes.
"""

from __future__ import annotations

import os
import signal
import subprocess

# Its standard input is a pipe that only we hold; `cat` returns when the kernel closes it.
SCRIPT = """cat >/dev/null
kill -TERM "$1" || exit
for second in 1 2 3 4 5 6 7 8; do sleep 1; kill -0 "$1" || exit; done
kill -KILL "$1"
"""


class Guard:
    """A shell that waits for our end, then ends the process `pid`. `release` it when that process is done."""

    def __init__(self, pid: int) -> None:
        self._shell = subprocess.Popen(
            ["/bin/sh", "-c", SCRIPT, "guard", str(pid)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def release(self) -> None:
        if self._shell.poll() is None:
            os.killpg(self._shell.pid, signal.SIGKILL)
            self._shell.wait()
        if self._shell.stdin is not None:
            self._shell.stdin.close()
