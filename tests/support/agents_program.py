"""A program that does with each request what its text says, for tests of agents of kind `command`.

Run as a script by a bare interpreter. It imports nothing of ours, as nobody's program does.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from typing import Any

HANG_S = 1000


def say(**fields: object) -> None:
    sys.stdout.write(json.dumps(fields) + "\n")
    sys.stdout.flush()


def raw(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def descend() -> list[int]:
    """Starts a process of every sort that could get away; their pids."""
    plain = subprocess.Popen(["sleep", str(HANG_S)])
    session = subprocess.Popen(["sleep", str(HANG_S)], start_new_session=True)
    reading, writing = os.pipe()
    if os.fork() == 0:  # a daemon: its parent ends, its session is its own, and it heeds nothing that it may not heed
        os.setsid()
        if (pid := os.fork()) == 0:
            for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
                signal.signal(number, signal.SIG_IGN)
            time.sleep(HANG_S)
            os._exit(0)
        os.write(writing, str(pid).encode())
        os._exit(0)
    os.wait()
    return [plain.pid, session.pid, int(os.read(reading, 20))]


def about() -> dict[str, object]:
    """What this process sees of its surroundings."""
    limits = {name: resource.getrlimit(getattr(resource, name))[0] for name in ("RLIMIT_DATA", "RLIMIT_NOFILE")}
    return {
        "environment": dict(os.environ),
        "cwd": os.getcwd(),  # noqa: PTH109  as text
        "pid": os.getpid(),
        "session": os.getsid(0) == os.getpid(),
        "files": sorted(int(name) for name in os.listdir("/proc/self/fd"))[:-1],  # noqa: PTH208  without that of the list
        "limits": limits,
        "modules": sorted(name for name in sys.modules if name.startswith(("agents", "schemas", "faust"))),
    }


def serve(request: dict[str, Any]) -> None:  # noqa: C901, PLR0912, PLR0915  a table of everything that can go wrong
    text, mine = request["task"]["text"], request["id"]
    word, _, rest = text.partition(" ")
    match word:
        case "echo":
            say(id=mine, answer=rest, confidence=0.9, payload=request)
        case "pid":
            say(id=mine, answer=str(os.getpid()))
        case "about":
            say(id=mine, answer="", payload=about())
        case "refuse":
            say(id=mine, refused="not mine")
        case "fail":
            say(id=mine, failed="no luck", error_class="QUOTA")
        case "sleep":
            time.sleep(float(rest))
            say(id=mine, answer="awake")
        case "garbage":
            raw("debug: here I am\n")
        case "number":
            say(id=mine, answer=5)
        case "no-id":
            say(answer="x")
        case "other-id":
            say(id="another", answer="x")
        case "twice":
            say(id=mine, answer="first")
            say(id=mine, answer="second")
        case "repeat":
            while True:
                say(id=rest, answer="again")
        case "half":
            raw('{"id": "' + mine + '", "answer": "x')
            sys.exit(3)
        case "huge":
            raw("x" * 10_000_000 + "\n")
        case "flood":
            while True:
                raw("x" * 65_536)
        case "not-utf8":
            sys.stdout.buffer.write(b'{"answer": "\xff"}\n')
            sys.stdout.buffer.flush()
        case "exit":
            sys.exit(int(rest))
        case "last-word":
            say(id=mine, answer="bye")
            sys.exit(0)
        case "signal":
            os.kill(os.getpid(), int(rest))
        case "close-output":
            os.close(1)
            time.sleep(HANG_S)
        case "close-input":
            os.close(0)
            say(id=mine, answer="deaf from now on")
            time.sleep(HANG_S)
        case "close-input-first":
            os.close(0)
            time.sleep(HANG_S)
        case "stderr":
            for number in range(int(rest)):
                sys.stderr.write(f"line {number} {'y' * 2_000}\n")
            say(id=mine, answer="said")
        case "stderr-flood":
            sys.stderr.write("z" * 5_000_000)
            say(id=mine, answer="said")
        case "memory":
            say(id=mine, answer=str(len(bytearray(int(rest) * 1024 * 1024))))
        case "descend":
            say(id=mine, answer="", payload=[os.getppid(), os.getpid(), *descend()])  # the first one is its keeper
        case "descend-and-hang":
            sys.stderr.write(f"descendants {json.dumps([os.getpid(), *descend()])}\n")
            sys.stderr.flush()
            for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
                signal.signal(number, signal.SIG_IGN)
            time.sleep(HANG_S)
        case "descend-and-exit":
            sys.stderr.write(f"descendants {json.dumps([os.getpid(), *descend()])}\n")
            sys.stderr.flush()
            sys.exit(4)
        case "kill-keeper":
            sys.stderr.write(f"descendants {json.dumps([os.getpid(), *descend()])}\n")
            sys.stderr.flush()
            os.kill(os.getppid(), signal.SIGKILL)
            time.sleep(HANG_S)
        case "ignore-the-end":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            say(id=mine, answer=str(os.getpid()))
            time.sleep(HANG_S)
        case _:
            say(id=mine, failed=f"what is {word}?", error_class="WRONG_INPUT")


def main() -> None:
    while line := sys.stdin.readline():
        serve(json.loads(line))


if __name__ == "__main__":
    main()
