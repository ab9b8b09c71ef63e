"""The door of the command line: Ctrl-C is heard wherever it comes."""

from __future__ import annotations

import subprocess
import sys

UNHEARD = """
import os, signal, sys, time, weakref
from console.cli import entry
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it

class Lock:
    pass

def gone(_):
    os.kill(os.getpid(), signal.SIGINT)  # handled in here, where nothing can be raised

lock = Lock()
held = weakref.ref(lock, gone)
if HOOKED:
    sys.unraisablehook = entry.tell_again
try:
    del lock
    time.sleep(WAITED_S)
    print("unheard")
except KeyboardInterrupt:
    print("heard")
"""
TOLD = """
import sys
from console.cli import entry
sys.unraisablehook = entry.tell_again

class Broken:
    def __del__(self):
        raise ValueError("told")

Broken()
"""


def _ran(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)


def test_an_interrupt_that_cannot_be_raised_where_it_comes_is_raised_later() -> None:
    lost = _ran(UNHEARD.replace("HOOKED", "False").replace("WAITED_S", "0.2"))
    assert (lost.stdout, "KeyboardInterrupt" in lost.stderr) == ("unheard\n", True), "else there is nothing to mend"
    heard = _ran(UNHEARD.replace("HOOKED", "True").replace("WAITED_S", "30"))
    assert (heard.stdout, heard.stderr) == ("heard\n", "")


def test_what_else_cannot_be_raised_is_told_as_ever() -> None:
    assert "ValueError: told" in _ran(TOLD).stderr
