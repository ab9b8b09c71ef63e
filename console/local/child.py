"""One supervised process: started with its output in a log, watched, stopped within a bound.

I/O: processes, files.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from console.local.interrupts import shielded
from schemas.codes import ErrorCode
from schemas.errors import PointsmanError

HELD = "held"  # as console/cli/serve.py announces it
LOG_TAIL_LINES = 15
LOG_TAIL_BYTES = 16_384


def tail(path: Path, lines: int = LOG_TAIL_LINES, since: int = 0) -> str:
    """The last lines of a log, of what was written after its first `since` bytes; empty when there is none."""
    try:
        with path.open("rb") as log:
            log.seek(max(since, path.stat().st_size - LOG_TAIL_BYTES))
            text = log.read().decode("utf-8", "replace")
    except OSError:
        return ""
    return "\n".join(text.strip().splitlines()[-lines:])


def previous(log: Path) -> Path:
    """Where a log is kept when its process is started again."""
    return log.with_suffix(".previous.log")


class ProcessEndedError(PointsmanError):
    """A process that should have stayed up has ended, or never got ready (`status` None).

    `words` are its last: what it told people, or else the end of its log.
    """

    error_code = ErrorCode.PROCESS_ENDED

    def __init__(self, name: str, status: int | None, log: Path, words: str, hint: str | None = None) -> None:
        self.name, self.status, self.log, self.words = name, status, log, words
        self.headline = f"The {name} process {_ended(status)}"
        said = f"Its last words:\n{words}" if words else "It said nothing."
        lines = (f"{self.headline}. {said}", hint, f"The whole log: {log}")
        super().__init__("\n".join(filter(None, lines)))

    @classmethod
    def of(cls, name: str, status: int | None, log: Path, hint: str | None = None) -> ProcessEndedError:
        """A process of ours."""
        return cls(name, status, log, explanation(name, log) or tail(log), hint)


def explanation(name: str, log: Path) -> str:
    """What a process of ours told people at its end, after its last line of log; empty where it did not."""
    _, found, told = f"\n{tail(log, LOG_TAIL_BYTES)}".rpartition(f"\npointsman {name}: ")
    return told if found else ""


def _ended(status: int | None) -> str:
    if status is None:
        return "did not get ready in time"
    if status < 0:
        return f"was ended by signal {-status}"
    return f"ended with status {status}"


class Child:
    """A process in a session of its own, so that a Ctrl-C at the terminal reaches the supervisor alone.

    Its standard input is a pipe whose other end lives in this process: `--stop-with-stdin` makes it end when we die,
    however we die. It says that it serves by writing JSON to its ready file. Each start begins a new log; the one
    before is kept beside it. `inherit` are descriptors that stay open in it.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log_path: Path,
        ready_path: Path,
        environment: Mapping[str, str],
        inherit: Sequence[int] = (),
    ) -> None:
        self.name, self.log_path = name, log_path
        self._command, self._ready_path, self._environment = list(command), ready_path, dict(environment)
        self._inherit = tuple(inherit)
        self.asked_to_end = False
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def status(self) -> int | None:
        """Exit status, below 0 that of a signal; None while it runs, or before its start."""
        return self._process.poll() if self._process else None

    def start(self) -> None:
        self._ready_path.unlink(missing_ok=True)
        self._keep_log()
        self.asked_to_end = False
        with self.log_path.open("ab") as log, shielded():
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=self._environment,
                pass_fds=self._inherit,
            )

    def ready(self) -> dict[str, object] | None:
        """What the process announced; None while it is still starting.

        Raises ProcessEndedError when it never will.
        """
        announced = self._announced()
        return None if announced is None or announced.get(HELD) else announced

    def held(self) -> dict[str, object] | None:
        """What a process that was started with `--hold` announced once it waits for its release. Raises as `ready`."""
        announced = self._announced()
        return announced if announced and announced.get(HELD) else None

    def release(self) -> None:
        """Lets a held process serve. That it is gone shows elsewhere."""
        assert self._process is not None
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.write(b"\n")
            self._process.stdin.flush()

    def succeed(self, log_path: Path, ready_path: Path) -> None:
        """Takes these names from the one whose place it has taken, whose log is kept beside them."""
        self._ready_path.replace(ready_path)
        log, self.log_path, self._ready_path = self.log_path, log_path, ready_path
        self._keep_log()
        log.replace(log_path)

    def _keep_log(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            self.log_path.replace(previous(self.log_path))

    def _announced(self) -> dict[str, object] | None:
        self.check()
        try:
            announced = json.loads(self._ready_path.read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            return None
        return announced if isinstance(announced, dict) else {}

    def check(self) -> None:
        """Raises ProcessEndedError when the process has ended."""
        if self._process is not None and (status := self._process.poll()) is not None:
            raise ProcessEndedError.of(self.name, status, self.log_path)

    def terminate(self) -> None:
        self.asked_to_end = True
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL for the process and for whatever it started in its session."""
        self._signal(signal.SIGKILL)

    def wait(self, until: float) -> bool:
        """Waits for the end until the monotonic time `until`, then kills; whether it ended by itself."""
        if self._process is None:
            return True
        ended = True
        try:
            self._process.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            ended = False
            self.kill()
            self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()
        return ended

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, number)
