"""What every way of being wrong is held against: an exit code, words, no traceback, an end, and nothing left behind.

I/O: processes, /proc.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self
from uuid import uuid4

import pytest

from tests.support.console import Said
from tests.support.waiting import PATIENCE, deadline_in

REPOSITORY = Path(__file__).resolve().parents[2]
# Whatever a process starts inherits it, so that an orphan is found whatever it is called.
MARK = "POINTSMAN_TEST_MARK"
END_S = 60.0
GONE_S = 20.0
CODE = re.compile(r"\[[ET]\d{3}\]")


@dataclass(frozen=True)
class Wrong:
    """One way of being wrong. `{place}` in words, values and fragments is the test's own folder."""

    name: str
    words: Sequence[str]
    code: int
    says: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    stdin: bytes = b""

    def at(self, place: Path, **more: str) -> Wrong:
        """The same with its folder, and other names, filled in."""

        def filled(text: str) -> str:
            for name, value in {"place": str(place), **more}.items():
                text = text.replace(f"{{{name}}}", value)
            return text

        return Wrong(
            self.name,
            [filled(word) for word in self.words],
            self.code,
            [filled(text) for text in self.says],
            {name: filled(value) for name, value in self.env.items()},
            self.stdin,
        )


def table(rows: Sequence[Wrong]) -> pytest.MarkDecorator:
    """One test a row."""
    assert len({row.name for row in rows}) == len(rows)
    return pytest.mark.parametrize("row", rows, ids=[row.name for row in rows])


def judge(row: Wrong, said: Said) -> None:
    """Code and words are as the row has them; what every failure owes is there."""
    told = f"{said.code}\n--- stdout\n{said.out}\n--- stderr\n{said.err}"
    assert said.code == row.code, told
    for fragment in row.says:
        assert fragment in said.out + said.err, f"{fragment!r} is not in\n{told}"
    for noise in ("Traceback", "Exception ignored", ": Unexpected ", "Exception in thread"):
        assert noise not in said.out + said.err, told
    if any(line.startswith("pointsman") for line in said.err.splitlines()):
        # A short code to look up, and the way to put it right: whatever is wrong.
        assert CODE.search(said.err), told


class Process:
    """A command as a shell starts it, in a session of its own, marked with all that it starts."""

    def __init__(
        self,
        words: Sequence[str],
        folder: Path,
        env: Mapping[str, str] | None = None,
        *,
        launcher: Sequence[str] = (),
        cwd: Path = REPOSITORY,
        stdin: int = subprocess.DEVNULL,
    ) -> None:
        self.mark = uuid4().hex
        self._out, self._err = (folder / f"{self.mark[:8]}.{name}" for name in ("out", "err"))
        command = [*launcher, sys.executable, "-m", "console.cli.entry", *words]
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                command,
                stdin=stdin,
                stdout=out,
                stderr=err,
                cwd=cwd,
                env={**os.environ, "PYTHONPATH": str(cwd), **(env or {}), MARK: self.mark},
                start_new_session=True,
            )

    @property
    def out(self) -> str:
        return self._out.read_text(errors="replace")

    @property
    def err(self) -> str:
        return self._err.read_text(errors="replace")

    def wait_for(self, condition: Callable[[], bool], what: str, seconds: float = END_S) -> None:
        """Raises AssertionError where it does not come about, or the process ends before."""
        deadline = deadline_in(seconds)
        while not condition():
            assert self.process.poll() is None, f"ended before {what}\n{self.out}\n{self.err}"
            assert time.monotonic() < deadline, f"{what} did not come\n{self.out}\n{self.err}"
            time.sleep(0.02)

    def interrupt(self, times: int = 1, apart_s: float = 0.3) -> None:
        """Ctrl-C, as a terminal sends it to what it runs."""
        for number in range(times):
            if number:
                time.sleep(apart_s)
            if self.process.poll() is None:
                self.process.send_signal(signal.SIGINT)

    def ended(self, seconds: float = END_S) -> Said:
        """What it said, once it has ended and whatever it started has, too."""
        code = self.process.wait(PATIENCE * seconds)
        deadline = deadline_in(GONE_S)
        while left := orphans(self.mark):
            assert time.monotonic() < deadline, f"left behind: {left}\n{self.out}\n{self.err}"
            time.sleep(0.05)
        return Said(code, self.out, self.err)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_raised: object) -> None:
        for pid in [*orphans(self.mark), *([self.process.pid] if self.process.poll() is None else [])]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.process.wait()


def orphans(mark: str) -> dict[int, str]:
    """Processes that carry the mark and are no zombies, with their command lines."""
    wanted = f"{MARK}={mark}".encode()
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            try:
                if wanted in (folder / "environ").read_bytes().split(b"\0"):
                    command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                    found[int(folder.name)] = command
            except OSError:
                continue  # it has ended meanwhile, or is not ours to look at
    return found


def run(row: Wrong, folder: Path, **more: object) -> Said:
    """The row as a process of its own, to its end."""
    with Process(row.words, folder, row.env, **more) as process:  # type: ignore[arg-type]
        return process.ended()


@contextmanager
def private_mount(options: str, at: Path) -> Iterator[Sequence[str]]:
    """A launcher that mounts something at a folder for one process and its children alone; it goes with them.

    Skips the test where mounting is not allowed.
    """
    at.mkdir(exist_ok=True)
    launcher = ["unshare", "--mount", "sh", "-c", f'mount {options} "$0" && exec "$@"', str(at)]
    tried = subprocess.run([*launcher, "true"], capture_output=True, text=True, check=False)
    if tried.returncode != 0:
        pytest.skip(f"no mount of a test's own is possible here: {tried.stderr.strip()}")
    yield launcher
