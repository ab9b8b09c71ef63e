"""Keeps an agent's program: starts it within its limits, lets nothing of it outlive the call, the program or the host.

A process of its own between the host and the program, run as a script by a bare interpreter; it may import nothing of
ours. The host holds the other end of `control`: a byte means kill now, its end means that the host is gone or done, and
then the program, whose input has ended as well, gets GRACE_S to leave by itself. In any case all that descends from the
program is killed, whatever session or parent it took: on Linux orphans become children of this process.

Told on `control`, a line of JSON each: {"pid": N} once the program runs, or {"error": TEXT}; {"status": N} when it has
ended, below 0 for a signal. I/O: processes.
"""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

GRACE_S = 0.5
KILL_S = 3.0  # what cannot be killed by then (a process stuck in the kernel, or another user's) is left
POLL_S = 0.002
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
CANNOT_START = 127


def main() -> None:
    spec: dict[str, Any] = json.loads(sys.argv[1])
    control: int = spec["control"]
    os.set_inheritable(control, False)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the host alone says when
    adopts = _prctl(PR_SET_CHILD_SUBREAPER, 1)
    woken, wake = os.pipe()
    for end in (woken, wake):
        os.set_blocking(end, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    pid = _start(spec)
    if isinstance(pid, str):
        _tell(control, error=pid)
        return
    nothing = os.open(os.devnull, os.O_RDWR)
    for ours in range(3):  # else the pipes would not end with the program
        os.dup2(nothing, ours)
    _tell(control, pid=pid)
    status = _watch(pid, control, woken)
    left = _kill_tree(pid, adopts=adopts)
    _tell(control, status=left.get(pid, -signal.SIGKILL) if status is None else status)


def _start(spec: dict[str, Any]) -> int | str:
    """The program's pid, or why it cannot be started."""
    reading, writing = os.pipe()  # it closes by itself once the program runs
    pid = os.fork()
    if pid == 0:
        _become(spec, writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        error = pipe.read().decode(errors="replace")
    if error:
        os.waitpid(pid, 0)
        return error
    return pid


def _become(spec: dict[str, Any], writing: int) -> NoReturn:
    """In the forked child: the program."""
    try:
        os.setsid()  # its signals to its own group must not meet this process
        for name, value in spec["limits"].items():
            _limit(getattr(resource, name), value)
        _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # should this process be killed itself
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        os.chdir(spec["cwd"])
        os.execv(spec["words"][0], spec["words"])  # noqa: S606  that is what it is for
    except BaseException as error:  # noqa: BLE001  two processes must not go on from here
        os.write(writing, (getattr(error, "strerror", None) or str(error) or type(error).__name__).encode())
    os._exit(CANNOT_START)


def _limit(name: int, value: int) -> None:
    _, hard = resource.getrlimit(name)
    most = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(name, (most, most))


def _watch(pid: int, control: int, woken: int) -> int | None:
    """Returns when nothing of the program may go on; its status, where it has ended by itself."""
    listening, until = [control, woken], None
    while True:
        wait_s = None if until is None else max(0.0, until - time.monotonic())
        ready = _readable(listening, wait_s)
        if woken in ready:
            os.read(woken, 4096)
        if pid in (ended := _reaped()):
            return ended[pid]
        if control in ready:
            try:
                said = os.read(control, 64)
            except ConnectionError:
                said = b""
            if said:
                return None
            listening, until = [woken], time.monotonic() + GRACE_S
        if until is not None and time.monotonic() >= until:
            return None


def _readable(files: Iterable[int], wait_s: float | None) -> set[int]:
    """Those of which something can be read, or that have ended; none after this time.

    `select` takes no number above 1023: `control` has the host's, which may hold thousands of connections.
    """
    poll = select.poll()
    for each in files:
        poll.register(each, select.POLLIN)
    return {each for each, _ in poll.poll(None if wait_s is None else wait_s * 1000)}


def _kill_tree(pid: int, *, adopts: bool) -> dict[int, int]:
    """Kills and reaps all descendants; gives the statuses of those that ended. `pid` leads the program's group."""
    gone: dict[int, int] = {}
    until = time.monotonic() + KILL_S
    for number in (signal.SIGSTOP, signal.SIGKILL):  # first none may fork any more
        hit: set[int] = set()
        while new := _descendants() - hit:
            for each in new:
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(each, number)
            hit |= new
            if time.monotonic() > until:
                break
    if not adopts or not hit:  # no such system, or no /proc: then at least the group
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)
    while time.monotonic() < until:
        try:
            gone |= _reaped(none_left=True)
        except ChildProcessError:
            break
        time.sleep(POLL_S)
    return gone


def _descendants() -> set[int]:
    """Of this process, as /proc has them."""
    children: dict[int, list[int]] = {}
    proc = Path("/proc")
    for folder in proc.iterdir() if proc.is_dir() else ():
        if folder.name.isdecimal():
            with suppress(OSError):
                # pid (name) state ppid: the name may hold anything, brackets too.
                parent = int((folder / "stat").read_bytes().rpartition(b")")[2].split()[1])
                children.setdefault(parent, []).append(int(folder.name))
    found: set[int] = set()
    new = [os.getpid()]
    while new:
        new = [child for parent in new for child in children.get(parent, ()) if child not in found]
        found |= set(new)
    return found


def _reaped(*, none_left: bool = False) -> dict[int, int]:
    """Children that have ended, and how. Raises ChildProcessError where there are none at all, if that is asked for."""
    found: dict[int, int] = {}
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            if none_left and not found:
                raise
            return found
        if pid == 0:
            return found
        found[pid] = os.waitstatus_to_exitcode(status)


def _prctl(option: int, value: int) -> bool:
    """Whether this system has it: Linux does."""
    if not sys.platform.startswith("linux"):
        return False
    import ctypes  # noqa: PLC0415  where there is no libc of this form, it is not asked for one

    return bool(ctypes.CDLL(None).prctl(option, value, 0, 0, 0) == 0)


def _tell(control: int, **said: int | str) -> None:
    with suppress(OSError):  # whoever listened is gone
        os.write(control, json.dumps(said).encode() + b"\n")


if __name__ == "__main__":
    main()
