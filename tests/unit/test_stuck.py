"""A process whose interpreter stands still ends all the same: real ones, in which C code keeps it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.waiting import patient_s

CLOSING = """
import ctypes, sys, time
from streams.transport import bounded, stuck
bounded.STUCK_S = 0.3

class Consumer:
    def close(self):
        if "stuck" in sys.argv:
            ctypes.PyDLL(None).pause()  # a PyDLL keeps the interpreter

if "serves" in sys.argv:
    stuck.end_if_stuck()
print(bounded.close(Consumer(), 0.2), flush=True)
time.sleep(1.0)
print("alive")
"""

STOPPING = """
import ctypes, os, signal, threading
from console.cli import stopping
stopping.END_TIMEOUT_S, stopping.STUCK_S = 0.3, 0.2
stop = threading.Event()
stopping.StopWatch(stop, threading.Event(), with_stdin=False).start()
os.kill(os.getpid(), signal.SIGTERM)
stop.wait()
ctypes.PyDLL(None).pause()
"""


def _run(program: str, *arguments: str, timeout_s: float = 20.0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=patient_s(timeout_s), check=False)


def test_a_close_that_keeps_the_interpreter_ends_a_process_that_serves_and_tells_where() -> None:
    done = _run(CLOSING, "stuck", "serves")
    assert done.returncode == 1
    assert "in close" in done.stderr


def test_it_would_hang_for_ever() -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        _run(CLOSING, "stuck", timeout_s=1.0)


def test_one_that_ends_in_time_ends_nothing() -> None:
    assert _run(CLOSING, "serves").stdout.split() == ["True", "alive"]


def test_a_process_that_was_told_to_stop_ends_though_its_own_watch_cannot_go_on() -> None:
    done = _run(STOPPING)
    assert done.returncode == 1
    assert "Timeout" in done.stderr
