"""One run of an agent's program: its keeper, and the lines that go to it and come back.

I/O: processes, pipes.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from agents.contract import AgentFailed
from agents.outcome import OutcomeUnclear, UnusableAnswer
from agents.runners import keeper
from agents.runners.lines import log_lines
from agents.targets import Program
from agents.wire import read_response
from schemas.reasons import ErrorClass

LAST_WORDS_S = 0.5
STATUS_S = 1.0  # how long is waited for the status of a program that has closed its output
REAP_S = 0.01
KEEPER = str(Path(keeper.__file__).resolve())
REPEATS_MAX = 100  # answers to earlier requests that are passed over while one waits for its own

Spawn = Callable[["Plan"], Awaitable[tuple["subprocess.Popen[bytes]", socket.socket]]]


@dataclass(frozen=True, slots=True)
class Plan:
    """What is run, for whom, and how long a line of its answers may be."""

    agent_id: str
    program: Program
    response_bytes_max: int


class Child:
    """Made by `start`, ended by `end` or `kill`; `gone` returns when nothing of it is left.

    One request is asked at a time. After `ask` has raised, or was cancelled, it has to be killed: which line comes next
    is not known.
    """

    def __init__(self, plan: Plan, process: subprocess.Popen[bytes], control: socket.socket) -> None:
        assert process.stdin is not None
        self._plan, self._process, self._control = plan, process, control
        self._stdin = process.stdin
        os.set_blocking(self._stdin.fileno(), False)
        self._stdout = asyncio.StreamReader(limit=plan.response_bytes_max)
        self._told: dict[str, Any] = {}
        self._started, self._gone = asyncio.Event(), asyncio.Event()
        self._transports: list[asyncio.BaseTransport] = []
        self._earlier: deque[str] = deque(maxlen=REPEATS_MAX)
        self.answered = 0

    @classmethod
    async def start(cls, plan: Plan, spawn: Spawn) -> Child:
        """Returns once the program runs. Raises AgentFailed where it cannot be started."""
        process, control = await spawn(plan)
        child = cls(plan, process, control)
        await child._listen()
        await child._started.wait()
        if "pid" not in child._told:
            why = child._told.get("error", "its keeper ended")
            await child.gone()
            raise AgentFailed(f"the program cannot be started: {why}", ErrorClass.UNREACHABLE)
        return child

    @property
    def pid(self) -> int:
        """The program's own, or bubblewrap's."""
        return int(self._told["pid"])

    @property
    def is_gone(self) -> bool:
        return self._gone.is_set()

    @property
    def runs(self) -> bool:
        """Whether it can be asked: neither it nor its output has ended, as far as is known."""
        return "status" not in self._told and not self._gone.is_set() and not self._stdout.at_eof()

    async def ask(self, request: bytes, request_id: str) -> dict[str, Any]:
        """The response to one request. Raises OutcomeUnclear."""
        with suppress(ConnectionError):  # it has closed its input, or has ended: what it said before counts
            await self._send(request + b"\n")
        for _ in range(REPEATS_MAX):
            response = read_response(await self._line())
            said = response.get("id")
            if said == request_id:
                self.answered += 1
                self._earlier.append(request_id)
                return response
            if said not in self._earlier:
                raise UnusableAnswer(f"the response has {'no id' if said is None else 'the id of no request'}")
        raise UnusableAnswer("the program repeats answers to earlier requests without end")

    def end(self) -> None:
        """Its input ends; what is not gone soon after that is killed."""
        with suppress(OSError):
            self._stdin.close()
        with suppress(OSError):
            self._control.shutdown(socket.SHUT_WR)

    def kill(self) -> None:
        """At once, with all that it started."""
        with suppress(OSError):
            self._control.send(b"k")

    async def gone(self) -> None:
        await self._gone.wait()

    async def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        stderr, control = asyncio.StreamReader(), asyncio.StreamReader()
        pipes = ((self._process.stdout, self._stdout), (self._process.stderr, stderr), (self._control, control))
        for pipe, reader in pipes:
            transport, _ = await loop.connect_read_pipe(partial(asyncio.StreamReaderProtocol, reader), pipe)
            self._transports.append(transport)
        self._logging = loop.create_task(log_lines(stderr, self._plan.agent_id))
        self._watching = loop.create_task(self._watch(control))

    async def _watch(self, control: asyncio.StreamReader) -> None:
        """Until the keeper has ended, and with it all that it kept."""
        with suppress(ConnectionError):
            while line := await control.readline():
                self._told |= json.loads(line)
                self._started.set()
        while self._process.poll() is None:  # noqa: ASYNC110  it has ended, or is about to
            await asyncio.sleep(REAP_S)
        if "pid" in self._told and "status" not in self._told:  # somebody killed the keeper: what is left is its group
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
        self._gone.set()
        self._started.set()
        await asyncio.wait([self._logging], timeout=LAST_WORDS_S)
        with suppress(OSError):
            self._stdin.close()
        for transport in self._transports:
            transport.close()

    async def _send(self, line: bytes) -> None:
        """Raises ConnectionError where nobody reads any more."""
        left, pipe = memoryview(line), self._stdin.fileno()
        while left:
            try:
                left = left[os.write(pipe, left) :]
            except BlockingIOError:
                await _writable(pipe)

    async def _line(self) -> bytes:
        try:
            return await self._stdout.readuntil()
        except asyncio.LimitOverrunError as error:
            most = self._plan.response_bytes_max
            raise UnusableAnswer(f"the response is longer than {most} bytes, response_bytes_max") from error
        except asyncio.IncompleteReadError as error:
            ended = await self._how_it_ended()
            raise OutcomeUnclear(f"{ended} {'amid its answer' if error.partial else 'without an answer'}") from error

    async def _how_it_ended(self) -> str:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._gone.wait(), STATUS_S)
        status = self._told.get("status")
        if status is None:
            return "the program ended with its keeper" if self.is_gone else "the program closed its output"
        how = f"ended with status {status}" if status >= 0 else f"was ended by signal {-status}"
        return f"the program {how}"


def spawn(plan: Plan) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """Starts the keeper, which starts the program; for a thread, since it blocks. Raises AgentFailed.

    The keeper gets the program's environment, and reads nothing from it itself.
    """
    ours, theirs = socket.socketpair()
    program = plan.program
    spec = {"words": program.words, "cwd": program.cwd, "limits": dict(program.limits), "control": theirs.fileno()}
    try:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", KEEPER, json.dumps(spec)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=[theirs.fileno()],
            cwd="/",
            env=dict(program.environment),
            start_new_session=True,
        )
    except OSError as error:
        ours.close()
        raise AgentFailed(f"the program cannot be started: {error.strerror}", ErrorClass.UNREACHABLE) from error
    finally:
        theirs.close()
    return process, ours


async def _writable(pipe: int) -> None:
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    loop.add_writer(pipe, lambda: None if ready.done() else ready.set_result(None))
    try:
        await ready
    finally:
        loop.remove_writer(pipe)
