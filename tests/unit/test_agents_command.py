"""Agents of kind `command` as real processes that do everything a program can do wrong; and that nothing is left."""

from __future__ import annotations

import asyncio
import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from agents.calls import Caller
from agents.contract import EMPTY_CONTEXT
from agents.outcome import Outcome
from agents.runners.child import KEEPER
from agents.runners.command import PATIENCE, CommandRunner, Restarts
from agents.runners.lines import LINE_BYTES_MAX, LINES_MAX, WINDOW_S, Quota
from agents.sandbox import guarded
from agents.targets import program
from schemas.topology import Agent
from tests.support import agents_program
from tests.support.agents_attempts import attempt_of
from tests.support.waiting import deadline_in

SCRIPT = agents_program.__file__
BARE = [sys.executable, "-I", "-S", SCRIPT]
WAIT_S = 30.0
STATES_OF_THE_DEAD = ("Z", "X")


def alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("utf-8")
    except (FileNotFoundError, ProcessLookupError):  # it may end between the file's opening and its reading
        return False
    return stat.rpartition(")")[2].split()[0] not in STATES_OF_THE_DEAD


async def eventually(condition: Callable[[], bool]) -> None:
    until = deadline_in(WAIT_S)
    while not condition():
        assert time.monotonic() < until, "it did not come true"
        await asyncio.sleep(0.01)


class Bench:
    """One program as an agent."""

    def __init__(self, runner: CommandRunner, caller: Caller, said: list[dict[str, Any]]) -> None:
        self.runner, self._caller, self._said = runner, caller, said

    async def ask(self, text: str, **attempt: Any) -> Outcome:
        (outcome,) = await self._caller.call([attempt_of(text=text, **attempt)], EMPTY_CONTEXT)
        return outcome

    async def payload(self, text: str) -> Any:
        outcome = await self.ask(text)
        assert outcome.payload is not None, outcome
        return json.loads(outcome.payload)

    async def pid(self) -> int:
        return int((await self.ask("pid")).answer or "")

    def lines(self) -> list[str]:
        return [each["line"] for each in self._said if each["event"] == "said by an agent"]

    async def descendants(self) -> list[int]:
        """As the program says them on stderr, itself among them."""
        await eventually(lambda: any(line.startswith("descendants ") for line in self.lines()))
        line = next(line for line in self.lines() if line.startswith("descendants "))
        found: list[int] = json.loads(line.partition(" ")[2])
        return found


Make = Callable[..., Bench]


class Log:
    def __init__(self) -> None:
        self.said: list[dict[str, Any]] = []

    def info(self, event: str, **fields: Any) -> None:
        self.said.append({"event": event, **fields})

    warning = info


@pytest_asyncio.fixture
async def make(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Make]:
    """`make(command=..., **agent)`; what is made is closed, and nothing of it may be left."""
    runners: list[CommandRunner] = []
    callers: list[Caller] = []

    log = Log()
    for module in ("lines", "command"):
        monkeypatch.setattr(f"agents.runners.{module}.log", log)

    def made(command: list[str] | None = None, environ: dict[str, str] | None = None, **fields: Any) -> Bench:
        given = {"kind": "command", "command": command or BARE, "effect": "read", "concurrency": 1, **fields}
        agent = Agent.model_validate(given)
        host = {"PATH": os.environ["PATH"], "SECRET_OF_THE_HOST": "hunter2", **(environ or {})}
        runners.append(CommandRunner("a", agent, guarded(program(agent, host), agent, host)))
        callers.append(Caller(runners[-1], writes=agent.effect == "write"))
        return Bench(runners[-1], callers[-1], log.said)

    yield made
    for caller in callers:
        await caller.close()
    assert _children_of(os.getpid(), SCRIPT) == []


def _children_of(pid: int, script: str) -> list[str]:
    listed = subprocess.run(["ps", "-eo", "ppid=,args="], capture_output=True, text=True, check=True).stdout
    return [line for line in listed.splitlines() if line.split()[0] == str(pid) and script in line]


def ended(outcome: Outcome) -> tuple[str, str | None, str | None]:
    return outcome.kind, outcome.error_class, outcome.error


# What goes well.


async def test_one_run_answers_one_request_after_the_other(make: Make) -> None:
    bench = make(options={"short": True})
    outcome = await bench.ask("echo hello", payload={"a": [1]})
    assert (outcome.kind, outcome.answer, outcome.confidence) == ("COMPLETED", "hello", 0.9)
    assert outcome.payload is not None
    request = json.loads(outcome.payload)
    assert (request["protocol"], request["agent"], request["options"]) == (1, "a", {"short": True})
    assert request["task"]["payload"] == {"a": [1]}
    assert ended(await bench.ask("refuse")) == ("REFUSED", None, "not mine")
    assert ended(await bench.ask("fail")) == ("FAILED", "QUOTA", "no luck")
    assert await bench.pid() == await bench.pid()


async def test_a_request_larger_than_a_pipe_gets_through(make: Make) -> None:
    text = "\N{SNOWMAN}" * 300_000
    assert (await make(response_bytes_max=8_000_000).ask(f"echo {text}")).answer == text


@pytest.fixture
def many_files() -> Iterator[None]:
    """This process holds so many that a new one's number is above 1023, where `select` ends."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(2_000, hard)), hard))
    with ExitStack() as held:
        while held.enter_context(Path(os.devnull).open("rb")).fileno() < 1_100:
            pass
        yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_a_host_that_holds_many_files_runs_programs_as_others_do(many_files: None, make: Make) -> None:
    bench = make()
    assert ended(await bench.ask("echo hello")) == ("COMPLETED", None, None)
    await bench.ask("descend-and-exit")
    pids = await bench.descendants()
    await eventually(lambda: not any(map(alive, pids)))


async def test_as_many_runs_as_calls_and_no_more_than_allowed(make: Make) -> None:
    bench = make(concurrency=3)
    outcomes = await asyncio.gather(*(bench.ask("sleep 0.2") for _ in range(7)))
    assert {outcome.answer for outcome in outcomes} == {"awake"}
    started = [each["pid"] for each in bench._said if each["event"] == "program started"]
    assert len(started) == len(set(started)) == 3


async def test_a_program_has_what_it_is_granted_and_nothing_else(make: Make, tmp_path: Path) -> None:
    bench = make(
        cwd=str(tmp_path),
        environ={"TOKEN": "t0ken"},
        env={"A": "b", "TOKEN": {"env": "TOKEN"}},
        memory_mib_max=200,
        files_max=64,
    )
    about = await bench.payload("about")
    environment = about.pop("environment")
    environment.pop("LC_CTYPE", None)  # Python's own doing, where it finds no locale
    assert environment == {
        "PATH": os.environ["PATH"],
        "LANG": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
        "A": "b",
        "TOKEN": "t0ken",
    }
    about.pop("pid")
    assert about == {
        "cwd": str(tmp_path),
        "session": True,
        "files": [0, 1, 2],
        "limits": {"RLIMIT_DATA": 200 * 1024 * 1024, "RLIMIT_NOFILE": 64},
        "modules": [],
    }


async def test_memory_is_bounded(make: Make) -> None:
    bench = make(memory_mib_max=100)
    assert (await bench.ask("memory 20")).answer == str(20 * 1024 * 1024)
    kind, _, error = ended(await bench.ask("memory 500"))
    assert (kind, error) == ("FAILED", "the program ended with status 1 without an answer")
    await eventually(lambda: "MemoryError" in bench.lines())


async def test_a_sandbox_stands_between_keeper_and_program(make: Make, tmp_path: Path) -> None:
    """One that drops its own arguments: what bubblewrap does with them is bubblewrap's."""
    wrapper = tmp_path / "bwrap"
    wrapper.write_text('#!/bin/sh\nwhile [ "$1" != -- ]; do shift; done\nshift\nexec "$@"\n')
    wrapper.chmod(0o755)
    bench = make(environ={"PATH": f"{tmp_path}:{os.environ['PATH']}"}, sandbox="required")
    assert (await bench.ask("echo x")).answer == "x"


# What goes wrong.


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("garbage", "the response is no JSON at character 0"),
        ("number", "answer is a number, not text"),
        ("no-id", "the response has no id"),
        ("other-id", "the response has the id of no request"),
        ("half", "the program ended with status 3 amid its answer"),
        ("huge", "the response is longer than 10000 bytes, response_bytes_max"),
        ("flood", "the response is longer than 10000 bytes, response_bytes_max"),
        ("not-utf8", "the response is not UTF-8 at byte 12"),
        ("exit 0", "the program ended with status 0 without an answer"),
        ("exit 7", "the program ended with status 7 without an answer"),
        ("signal 11", "the program was ended by signal 11 without an answer"),
        ("signal 9", "the program was ended by signal 9 without an answer"),
        ("close-output", "the program closed its output without an answer"),
        ("descend-and-exit", "the program ended with status 4 without an answer"),
    ],
)
async def test_whatever_a_program_does_is_an_outcome_and_the_next_call_is_served(
    make: Make, text: str, why: str
) -> None:
    for effect, error_class in (("read", "INTERNAL"), ("write", "UNKNOWN_OUTCOME")):
        bench = make(effect=effect, response_bytes_max=10_000)
        assert ended(await bench.ask(text)) == ("FAILED", error_class, why)
        assert (await bench.ask("echo on we go")).answer == "on we go"


async def test_a_second_line_is_taken_for_no_other_requests_answer(make: Make) -> None:
    bench = make()
    for _ in range(3):
        assert (await bench.ask("twice")).answer == "first"
    assert (await bench.ask("echo x")).answer == "x"
    assert len([each for each in bench._said if each["event"] == "program started"]) == 1


async def test_repeats_without_end_are_ended(make: Make) -> None:
    bench = make()
    outcome = await bench.ask("echo x")
    earlier = json.loads(outcome.payload or "")["id"]
    assert ended(await bench.ask(f"repeat {earlier}")) == (
        "FAILED",
        "INTERNAL",
        "the program repeats answers to earlier requests without end",
    )


async def test_a_program_that_leaves_after_its_answer_costs_nothing(make: Make) -> None:
    bench = make()
    for _ in range(4):
        assert (await bench.ask("last-word")).answer == "bye"
        await eventually(lambda: not any(child.runs for child in bench.runner._idle))


async def test_a_program_that_goes_deaf_between_two_calls_costs_the_second_its_time_and_no_more(make: Make) -> None:
    bench = make()
    assert (await bench.ask("close-input")).answer == "deaf from now on"
    call = asyncio.ensure_future(bench.ask("echo x"))
    await asyncio.sleep(0.3)
    assert not call.done(), "it still runs, and may yet answer"
    call.cancel()
    await call
    assert (await bench.ask("echo y")).answer == "y"


async def test_a_program_that_is_not_there_any_more_is_not_reached(make: Make, tmp_path: Path) -> None:
    tool = tmp_path / "tool"
    tool.write_text("#!/nowhere/at/all\n")
    tool.chmod(0o755)
    bench = make([str(tool)], effect="write")
    missing = "the program cannot be started: No such file or directory"
    assert ended(await bench.ask("x")) == ("FAILED", "UNREACHABLE", missing)


async def test_a_program_that_ends_again_and_again_is_started_ever_later(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RESTART_S", "RESTART_S_MAX"):
        monkeypatch.setattr(f"agents.runners.command.{name}", 1_000.0)
    bench = make(effect="write")
    for _ in range(PATIENCE):
        assert (await bench.ask("exit 1")).error_class == "UNKNOWN_OUTCOME"
    kind, error_class, error = ended(await bench.ask("echo x"))
    assert (kind, error_class) == ("FAILED", "UNREACHABLE"), "nothing was done: it was not even started"
    assert re.fullmatch(r"the program ended 2 times without an answer; no new start for \d+\.\d s", error or "")
    monkeypatch.setattr(bench.runner._restarts, "_not_before_s", 0.0)
    assert (await bench.ask("echo x")).answer == "x"


def test_the_wait_doubles_to_a_bound_and_one_answer_ends_it() -> None:
    restarts = Restarts()
    waits = []
    for _ in range(30):
        restarts.ended(100.0, answered=0)
        waits.append(round(restarts.wait_s(100.0), 3))
    assert waits[:5] == [0.0, 0.1, 0.2, 0.4, 0.8]
    assert waits[-1] == 10.0
    assert restarts.wait_s(110.0) == 0.0
    restarts.ended(100.0, answered=1)
    assert restarts.wait_s(100.0) == 0.0


# Nothing is left.


async def test_a_call_that_is_cut_off_leaves_no_process(make: Make) -> None:
    bench = make()
    call = asyncio.ensure_future(bench.ask("descend-and-hang"))
    pids = await bench.descendants()
    assert len(pids) == 4
    assert all(map(alive, pids))
    call.cancel()
    assert (await call).kind == "FAILED"
    await eventually(lambda: not any(map(alive, pids)))
    assert (await bench.ask("echo x")).answer == "x"


async def test_a_call_that_is_cut_off_while_its_program_starts_leaves_no_process(make: Make) -> None:
    bench = make()
    for _ in range(5):
        call = asyncio.ensure_future(bench.ask("sleep 1000"))
        await asyncio.sleep(0.01)
        call.cancel()
        await call
    assert (await bench.ask("echo x")).answer == "x"
    await eventually(lambda: len(bench.runner._children) == 1 and not bench.runner._background)


async def test_a_program_that_ends_leaves_no_process(make: Make) -> None:
    bench = make()
    await bench.ask("descend-and-exit")
    pids = await bench.descendants()
    await eventually(lambda: not any(map(alive, pids)))


async def test_a_place_is_free_only_once_nothing_of_its_run_is_left(make: Make) -> None:
    bench = make(concurrency=1)
    call = asyncio.ensure_future(bench.ask("descend-and-hang"))
    pids = await bench.descendants()
    call.cancel()
    await call
    assert bench.runner._places.locked()
    await bench.ask("echo x")
    assert not any(map(alive, pids))


async def test_the_end_of_the_host_is_quick_and_leaves_no_process_however_deaf(make: Make) -> None:
    polite, deaf = make(), make()
    pids = [await polite.pid(), int((await deaf.ask("ignore-the-end")).answer or "")]
    for bench in (polite, deaf):
        began = time.monotonic()
        await bench.runner.close()
        assert time.monotonic() - began < WAIT_S / 3
    assert not any(map(alive, pids))


async def test_a_keeper_that_is_killed_takes_its_program_along(make: Make) -> None:
    """Not whatever left the program's group: that is what the keeper is for. It is killed by nobody but an operator."""
    bench = make()
    error = "the program ended with its keeper without an answer"
    assert ended(await bench.ask("kill-keeper")) == ("FAILED", "INTERNAL", error)
    own, plain, *others = await bench.descendants()
    await eventually(lambda: not alive(own) and not alive(plain))
    for pid in others:
        os.kill(pid, signal.SIGKILL)


async def test_a_keeper_that_is_killed_with_its_host_takes_its_program_along() -> None:
    ours, theirs = socket.socketpair()
    spec = {"words": ["/bin/sleep", "1000"], "cwd": "/", "limits": {}, "control": theirs.fileno()}
    keeper = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-S", KEEPER, json.dumps(spec)), stdin=subprocess.PIPE, pass_fds=[theirs.fileno()]
    )
    theirs.close()
    pid = json.loads(await asyncio.to_thread(ours.recv, 100))["pid"]
    assert alive(pid)
    keeper.kill()
    ours.close()
    await keeper.wait()
    await eventually(lambda: not alive(pid))


HOST = """
import asyncio, sys
from agents.calls import Caller
from agents.contract import EMPTY_CONTEXT
from agents.runners.command import CommandRunner
from agents.targets import program
from schemas.topology import Agent
from tests.support.agents_attempts import attempt_of
async def main():
    agent = Agent.model_validate({"kind": "command", "command": sys.argv[1:], "effect": "read"})
    caller = Caller(CommandRunner("a", agent, program(agent, {"PATH": "/usr/bin:/bin"})), writes=False)
    (outcome,) = await caller.call([attempt_of(text="descend")], EMPTY_CONTEXT)
    print(outcome.payload, flush=True)
    await caller.call([attempt_of(text="sleep 1000")], EMPTY_CONTEXT)
asyncio.run(main())
"""


async def test_a_host_that_is_killed_leaves_no_process(repository: Path) -> None:
    pids = await asyncio.to_thread(_pids_of_a_killed_host, repository)
    await eventually(lambda: not any(map(alive, pids)))


def _pids_of_a_killed_host(repository: Path) -> list[int]:
    """Of a keeper, its program and three descendants, which all ran when their host was killed."""
    command = [sys.executable, "-c", HOST, *BARE]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=repository) as host:
        try:
            assert host.stdout is not None
            pids: list[int] = json.loads(next(line for line in host.stdout if line.startswith("[")))
            assert len(pids) == 5
            assert all(map(alive, pids))
        finally:
            host.kill()
    return pids


# What it says beside its answers.


async def test_stderr_goes_to_the_log_cut_and_counted(make: Make) -> None:
    bench = make()
    assert (await bench.ask("stderr 1000")).answer == "said"
    assert (await bench.ask("stderr-flood")).answer == "said"
    await bench.runner.close()
    lines = bench.lines()
    assert len(lines) == LINES_MAX
    assert lines[0].startswith("line 0 yyy")
    assert max(map(len, lines)) == LINE_BYTES_MAX
    left_out = [each["lines_left_out"] for each in bench._said if each["event"] == "an agent says too much"]
    assert sum(left_out) == 1000 - LINES_MAX + 1


def test_a_quota_lets_so_many_lines_pass_in_each_window() -> None:
    quota = Quota()
    assert [quota.take(1.0)[0] for _ in range(LINES_MAX + 5)] == [True] * LINES_MAX + [False] * 5
    assert quota.take(1.0 + WINDOW_S) == (True, 5)
    assert quota.rest() == 0
