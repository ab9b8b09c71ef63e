"""The tutorial, carried out from its first command to its last: in a clone, in the order of the page, word for word.

What is replaced: where the clone comes from, and the packages, which are linked instead of downloaded again.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from tests.support.dev import Dev, processes_of
from tests.support.waiting import deadline_in, until
from tests.unit.test_docs import FENCE, ROOT, page

COMMAND_TIMEOUT_S = 180
RELOAD_S = 90
HISTORY_S = 60  # how far the store may be behind on a machine that does much else
ASKS_HISTORY = ("pointsman task show", "pointsman history")
STAYS_UP = "make dev"
EXIT_CODE = re.compile(r"# exit code (\d+)$")

# What the page says that these show; by a part of the command.
SHOWN = {
    "Q3 revenue for EMEA": ("COMPLETED", "financial_query"),
    "show tutorial-1": ("tutorial-1", "policy"),
    "unittest": ("OK",),
    "agents test": ("COMPLETED", "Mondego has 14 seats."),
    "for 12 people?": ("COMPLETED", "Mondego has 14 seats."),
    "validate": ("routes.rooms_agent.agents[0]", "rooms_agent?", "T203"),
    "explain": ("T203",),
    "show tutorial-2": ("REFUSED", "DEGRADED"),
    "ask.py": ("Tagus has 4 seats.", "Douro has 8 seats.", "Sado has 40 seats.", "DEGRADED"),
    "show tables": ("agent_events", "results"),
    "FROM agent_events WHERE": ("REFUSED", "seats."),
    "JOIN": ("no room is large enough for 500", "no room is large enough for 100"),
}


class Reader:
    """Who follows the page with two terminals: one that keeps the pipeline, one for everything else."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("POINTSMAN_", "PYTHON", "VIRTUAL_ENV", "MAKE", "MFLAGS"))
        }
        self._dev: Dev | None = None
        self.shown: set[str] = set()

    def follow(self, language: str, text: str) -> None:
        """One block of the page."""
        if language == "sh" and text.startswith(STAYS_UP):
            self._stay_up(text.strip())
        elif language == "sh":
            for line in text.splitlines():
                self._run(line)
        elif language == "python":
            name = text.splitlines()[0].removeprefix("# ")
            self._save(name, text)
        else:
            assert language == "diff"
            self._change(text)

    def close(self) -> None:
        if self._dev is not None:
            self._end(self._dev)

    # ------------------------------------------------------------------ the terminal for everything else

    def _run(self, line: str) -> None:
        if line.startswith("cd "):
            self._folder /= line.removeprefix("cd ")
        elif line.startswith(". "):
            assert (self._folder / line.removeprefix(". ")).is_file()
            self._environment["PATH"] = f"{self._folder / '.venv' / 'bin'}:{self._environment['PATH']}"
        else:
            saves = self._saves()
            said = self._read(line) if line.startswith(ASKS_HISTORY) else self._call(line)
            if line.startswith("git clone"):
                link_packages(self._folder / line.rsplit(maxsplit=1)[-1])
            if "--add" in line:
                self._await_reload("topology.yaml", saves)
            for part, words in SHOWN.items():
                if part in line:
                    self.shown.add(part)
                    assert missing(words, said) == [], f"{line}\n{said}"

    def _read(self, line: str) -> str:
        """What the history says, asked again while it is behind, as somebody would who was told that it may be."""
        words = [word for part, words in SHOWN.items() if part in line for word in words]
        deadline = deadline_in(HISTORY_S)
        while True:
            done = self._shell(line)
            there = done.returncode == 0 and not missing(words, done.stdout)
            if there or time.monotonic() > deadline:
                return self._checked(line, done)
            time.sleep(1)

    def _call(self, line: str) -> str:
        return self._checked(line, self._shell(line))

    def _checked(self, line: str, done: subprocess.CompletedProcess[str]) -> str:
        wanted = EXIT_CODE.search(line)
        assert done.returncode == (int(wanted[1]) if wanted else 0), f"{line}\n{done.stdout}"
        return done.stdout

    def _shell(self, line: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["sh", "-c", line.replace("REPOSITORY", str(ROOT))],
            cwd=self._folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=COMMAND_TIMEOUT_S,
            check=False,
        )

    # ------------------------------------------------------------------ the editor

    def _save(self, name: str, text: str) -> None:
        path, saves = self._folder / name, self._saves()
        watched = path.exists() and name.endswith("_agent.py") and not name.startswith("test_")
        path.write_text(text)
        if watched:
            self._await_reload(name, saves)

    def _change(self, text: str) -> None:
        """A diff of one place: what is taken out stands there once."""
        header, *lines = text.splitlines()
        name = header.removeprefix("--- ")
        path, saves = self._folder / name, self._saves()
        old = "\n".join(line[1:] for line in lines if line.startswith("-"))
        new = "\n".join(line[1:] for line in lines if line.startswith("+"))
        content = path.read_text()
        assert content.count(old) == 1, f"{name} does not have, or not once:\n{old}"
        path.write_text(content.replace(old, new))
        self._await_reload(name, saves)

    # ------------------------------------------------------------------ the terminal that keeps the pipeline

    def _stay_up(self, command: str) -> None:
        """Starts it, after Ctrl-C where it ran already; takes over what it asks to export."""
        if self._dev is not None:
            self._end(self._dev)
        log = self._folder.parent / f"dev-{time.monotonic_ns()}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                ["sh", "-c", f"exec {command}"],
                cwd=self._folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        self._dev = Dev(process, log)
        self._dev.wait_until_ready()
        self._environment.update(re.findall(r"^ +export (\w+)=(\S+)$", self._dev.said, re.MULTILINE))

    def _end(self, dev: Dev) -> None:
        """Ctrl-C, as a terminal gives it: to make and to what it runs."""
        self._dev = None
        try:
            os.killpg(dev.process.pid, signal.SIGINT)
            dev.end()
            assert dev.said.rstrip().splitlines()[-1].startswith(("stopped", "make:")), dev.said
            assert "stopped" in dev.said
        finally:
            if dev.process.poll() is None:
                os.killpg(dev.process.pid, signal.SIGKILL)
                dev.process.wait()

    def _saves(self) -> int:
        return 0 if self._dev is None else len(re.findall(r" saved[:,]", self._dev.said))

    def _await_reload(self, name: str, saves: int) -> None:
        """The verdict on a save takes the time of the restart that it may call for."""
        dev = self._dev
        assert dev is not None
        until(lambda: self._saves() > saves, RELOAD_S)
        assert name in dev.said


def missing(words: Iterable[str], said: str) -> list[str]:
    return [word for word in words if word not in said]


def link_packages(clone: Path) -> None:
    """The virtual environment and the jars of this repository, so that `make setup` finds little to do.

    Links, for a copy is more than a gigabyte; but what `make` touches, and what names its place, must be the clone's.
    """
    for name in (".venv", "ops/broker/lib", "docs/examples/agents/pint/.venv"):
        shutil.copytree(ROOT / name, clone / name, symlinks=True, copy_function=link)
    for name in (".venv", "docs/examples/agents/pint/.venv"):
        for stamp in (clone / name / ".installed", clone / name / ".compiled"):
            stamp.unlink(missing_ok=True)
        for script in (clone / name / "bin").iterdir():
            if script.is_file() and not script.is_symlink():
                place_anew(script, clone)
    for name in (".complete", ".archived"):  # in their order: an archive is of the jars
        stamp = clone / "ops/broker/lib" / name
        stamp.unlink(missing_ok=True)
        stamp.touch()


def place_anew(script: Path, clone: Path) -> None:
    content = script.read_bytes()
    script.unlink()
    script.write_bytes(content.replace(str(ROOT).encode(), str(clone).encode()))
    script.chmod(0o755)


def link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copy2(source, target)


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    reader = Reader(tmp_path)
    try:
        yield reader
    finally:
        reader.close()
        assert processes_of(tmp_path) == []


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_tutorial(reader: Reader) -> None:
    for language, text in FENCE.findall(page("docs/tutorial.md")):
        reader.follow(language, text)
    assert reader.shown == set(SHOWN), "the page no longer has the command"
