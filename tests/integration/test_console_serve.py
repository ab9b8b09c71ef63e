"""How the one-process commands end: when asked, when asked twice, when nobody is left, and when something hangs."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from console.cli.failures import ExitCode
from console.cli.stopping import END_TIMEOUT_S
from console.local.child import Child, ProcessEndedError
from console.local.holders import holder_of
from tests.support.waiting import PATIENCE, deadline_in, until

# A process of `_serve` whose work is one of these.
WORK = {
    "obedient": "ready({'work': name}); stop.wait()",
    "deaf": "ready({'work': name}); threading.Event().wait()",
    "leaves_a_thread": "threading.Thread(target=threading.Event().wait).start(); ready({}); stop.wait()",
    "returns": "ready({})",
    "fails": "raise DeliveryError('a.topic', 3, 'no reason')",
}
SCRIPT = """
import sys, threading
from pathlib import Path
from console.cli.deployment import load
from console.cli.serve import Life, _serve
from schemas.errors import DeliveryError

name, work, broker, ready_file = sys.argv[1:]
def run(ready, stop):
    exec(work)
_serve(name, load({"broker": broker, "metrics_port": 0}), run, Life(Path(ready_file), stop_with_stdin=True))
"""


class Process:
    """A served process, and what it announced."""

    def __init__(self, process: subprocess.Popen[str], ready: Path) -> None:
        self.process, self._ready = process, ready

    def announced(self) -> dict[str, object]:
        until(lambda: self._ready.exists() or self.process.poll() is not None, 60)
        said: dict[str, object] = json.loads(self._ready.read_text())
        return said

    def end(self, seconds: float = 20) -> tuple[int, str]:
        """Exit status, and what it said."""
        self.process.wait(timeout=PATIENCE * seconds)
        assert self.process.stderr is not None
        return self.process.returncode, self.process.stderr.read()


@contextmanager
def served(work: str, broker: str, folder: Path, repository: Path) -> Iterator[Process]:
    ready = folder / "ready.json"
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, work, WORK[work], broker, str(ready)],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=repository,
    )
    try:
        yield Process(process, ready)
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stderr):
            assert pipe is not None
            pipe.close()


@pytest.mark.broker
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("work", ["obedient", "leaves_a_thread"])
def test_a_signal_ends_it_cleanly(
    work: str, number: signal.Signals, broker: str, tmp_path: Path, repository: Path
) -> None:
    with served(work, broker, tmp_path, repository) as running:
        announced = running.announced()
        assert announced["pid"] == running.process.pid
        assert isinstance(announced["metrics"], int)
        assert (holder := holder_of(announced["metrics"])) is not None
        assert holder.pid == running.process.pid
        running.process.send_signal(number)
        code, err = running.end(seconds=END_TIMEOUT_S)
        assert code == ExitCode.OK, err
        assert json.loads(err.splitlines()[-1])["event"] == "stopped"


@pytest.mark.broker
def test_it_ends_when_its_supervisor_is_gone(broker: str, tmp_path: Path, repository: Path) -> None:
    with served("obedient", broker, tmp_path, repository) as running:
        running.announced()
        assert running.process.stdin is not None
        running.process.stdin.close()
        code, _ = running.end()
        assert code == ExitCode.OK


@pytest.mark.broker
def test_what_does_not_stop_is_ended_by_force_and_says_where_it_hung(
    broker: str, tmp_path: Path, repository: Path
) -> None:
    with served("deaf", broker, tmp_path, repository) as running:
        running.announced()
        running.process.terminate()
        code, err = running.end(seconds=END_TIMEOUT_S + 10)
        assert code == ExitCode.FAILED
        assert "did not stop in time" in err
        assert "threading.py" in err


@pytest.mark.broker
def test_a_second_signal_ends_it_at_once(broker: str, tmp_path: Path, repository: Path) -> None:
    with served("deaf", broker, tmp_path, repository) as running:
        running.announced()
        running.process.terminate()
        time.sleep(0.2)  # two signals that are pending together are one
        running.process.send_signal(signal.SIGINT)
        code, _ = running.end(seconds=END_TIMEOUT_S - 1)
        assert code == 128 + signal.SIGINT


@pytest.mark.broker
@pytest.mark.parametrize(
    ("work", "words"),
    [("returns", "ended though nobody told it to"), ("fails", "3 record(s) to a.topic were not delivered: no reason")],
)
def test_an_end_that_nobody_asked_for_is_a_failure(
    work: str, words: str, broker: str, tmp_path: Path, repository: Path
) -> None:
    with served(work, broker, tmp_path, repository) as running:
        code, err = running.end(seconds=60)
        assert code == ExitCode.FAILED
        assert err.splitlines()[-1].startswith(f"pointsman {work}: ")
        assert words in err.splitlines()[-1]
        failed = [json.loads(line) for line in err.splitlines()[:-1]]
        assert [line["event"] for line in failed][-1] == "failed"


def python(folder: Path, script: str) -> Child:
    return Child("thing", [sys.executable, "-c", script], folder / "thing.log", folder / "thing.json", {})


def test_a_child_is_ready_when_it_says_so_and_killed_when_it_does_not_stop(tmp_path: Path) -> None:
    ready = tmp_path / "thing.json"
    ready.write_text('{"left": "by the run before"}')
    script = f"""
import pathlib, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
pathlib.Path({str(ready)!r}).write_text('{{"up": 1}}')
time.sleep(600)
"""
    child = python(tmp_path, script)
    child.start()
    until(lambda: child.ready() == {"up": 1}, 20)
    child.terminate()
    assert child.wait(time.monotonic() + 0.3) is False
    assert not child.running


def test_a_child_that_dies_is_told_with_the_end_of_its_log(tmp_path: Path) -> None:
    child = python(
        tmp_path, "import sys; print('line', *range(40), sep='\\n', file=sys.stderr); sys.exit('my last words')"
    )
    child.start()
    assert child.wait(deadline_in(20)) is True
    with pytest.raises(ProcessEndedError, match="ended with status 1") as raised:
        child.check()
    said = str(raised.value)
    assert "my last words" in said
    assert "39" in said
    assert "\n1\n" not in said
    assert str(tmp_path / "thing.log") in said

    again = python(tmp_path, "pass")
    again.start()
    assert again.wait(deadline_in(20)) is True
    assert "my last words" in (tmp_path / "thing.previous.log").read_text()
    assert (tmp_path / "thing.log").read_text() == ""
