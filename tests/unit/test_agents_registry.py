"""Which code an agent is, and what is said when it is none."""

from __future__ import annotations

import asyncio
import importlib
import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from agents.builtin import echo
from agents.contract import EMPTY_CONTEXT, Span, Task
from agents.registry import code_of, is_async, look_up, resolve, summarisers
from agents.targets import Endpoint, Program
from schemas.errors import ConfigurationError, TopologyError
from schemas.topology import Agent, load_topology
from tests.support.agents_bench import make_topology


def agent(run: str, **fields: Any) -> Agent:
    return Agent.model_validate({"run": run, "effect": "read", **fields})


def refusal(run: str, **fields: Any) -> str:
    with pytest.raises(ConfigurationError) as raised:
        code_of(agent(run, **fields))
    return str(raised.value)


def test_the_shipped_topology_names_code_that_can_be_called(repository: Path) -> None:
    topology = load_topology(repository / "topology.yaml")
    assert set(resolve(topology)) == set(topology.agents)
    assert len(topology.agents) == 12


def test_options_are_bound() -> None:
    code = code_of(agent("agents.builtin.echo:reply", options={"confidence": 0.1}))
    answer = asyncio.run(code(Task("t", "hello"), EMPTY_CONTEXT))
    assert (answer.text, answer.confidence) == ("hello", 0.1)


def test_a_module_or_function_that_is_not_there_is_said_with_the_nearest_name() -> None:
    assert refusal("agents.builtin.ecko:reply") == "there is no module agents.builtin.ecko; did you mean echo?"
    assert refusal("agents.builtin.echo:repli") == ("agents.builtin.echo has no function repli; did you mean reply?")
    assert refusal("agnets.builtin.echo:reply") == "there is no module agnets; did you mean agents?"
    assert "looked up in the working directory and PYTHONPATH" in refusal("zzqqxx:run")
    assert refusal("agents.builtin.figures:SOURCE") == "agents.builtin.figures:SOURCE is no function but str"


def test_of_two_edits_within_a_second_the_later_one_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    path = tmp_path / "edited_twice.py"
    for value in ("1", "2"):
        path.write_text(f"async def run(task, context): return {value}\n")
        os.utime(path, (1_000_000_000, 1_000_000_000))
        importlib.invalidate_caches()
        code = code_of(agent("edited_twice:run"))
        assert asyncio.run(code(None, None)) == int(value)
        del sys.modules["edited_twice"]
    assert not sys.dont_write_bytecode


def test_a_wrong_signature_is_said() -> None:
    assert "takes no option confidense; did you mean confidence?" in refusal(
        "agents.builtin.echo:reply", options={"confidense": 1.0}
    )
    assert "must take (task, context) and its options, for it is of kind python" in refusal(
        "agents.builtin.faults:as_rows"
    )
    assert "must take (rows) and its options, for it is of kind batch" in refusal(
        "agents.builtin.echo:reply", kind="batch"
    )
    # Names of the parameters are the author's; their number is not.
    assert code_of(agent("tests.unit.test_agents_registry:_other_names"))("a", "b") == "ab"


def test_an_async_function_is_no_batch_agent() -> None:
    assert "is async" in refusal("tests.unit.test_agents_registry:_async_rows", kind="batch")


def test_all_faults_are_said_at_once() -> None:
    topology = make_topology("", {"a": {"run": "nowhere.at_all:f"}, "b": {}, "c": {"run": "agents.builtin.echo:no"}})
    with pytest.raises(TopologyError) as raised:
        resolve(topology)
    assert [fault.path for fault in raised.value.faults] == ["agents.a.run", "agents.c.run"]


def test_code_outside_the_checkout_is_found_in_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_fleet.py").write_text("async def run(task, context):\n    return task.text\n")
    (tmp_path / "my_broken_fleet.py").write_text("import not_there_at_all\n")
    (tmp_path / "my_crooked_fleet.py").write_text("def run(:\n")
    (tmp_path / "my_raising_fleet.py").write_text("raise RuntimeError('no')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [entry for entry in __import__("sys").path if entry])
    found = resolve(make_topology("", {"mine": {"run": "my_fleet:run"}}))["mine"]
    assert callable(found)
    assert is_async(found)
    broken = "module my_broken_fleet cannot be imported: No module named 'not_there_at_all'"
    assert refusal("my_broken_fleet:run") == broken
    assert "my_crooked_fleet.py:1" in refusal("my_crooked_fleet:run")
    raised = "module my_raising_fleet cannot be imported: RuntimeError: no at "
    assert refusal("my_raising_fleet:run") == f"{raised}{tmp_path / 'my_raising_fleet.py'}:1"
    # Else `validate` would end with this module's exit code, and say nothing.
    (tmp_path / "my_leaving_fleet.py").write_text("import sys\n\nsys.exit()\n")
    assert "cannot be imported: SystemExit at " in refusal("my_leaving_fleet:run")


@pytest.mark.parametrize(
    ("summary", "key", "message"),
    [
        ({"run": "agents.builtin.brief:breif"}, "run", "has no function breif; did you mean brief?"),
        ({"run": "agents.builtin.nowhere:brief"}, "run", "there is no module agents.builtin.nowhere"),
        ({"run": "agents.builtin.echo:reply"}, "run", "must take (span) and its options, for it sums up"),
        ({"run": "agents.builtin.brief:brief", "options": {"word": 3}}, "options.word", "did you mean words?"),
    ],
)
def test_who_sums_up_is_checked_before_anything_starts(summary: dict[str, Any], key: str, message: str) -> None:
    (fault,) = look_up(make_topology("", {"a": {"summary": summary}}))[1]
    assert fault.path == f"agents.a.summary.{key}"
    assert message in fault.message


def test_who_sums_up_is_called_with_its_options() -> None:
    summary = {"run": "agents.builtin.brief:brief", "options": {"opening": "Before"}}
    codes = summarisers(make_topology("", {"a": {"summary": summary}, "b": {}}))
    assert list(codes) == ["a"]
    assert codes["a"](Span((), ("The budget is 5,000.",), 100, "")) == "Before: \nThe budget is 5,000."


def test_what_runs_in_a_thread_and_what_does_not() -> None:
    class Called:
        async def __call__(self, task: Task, context: object) -> None: ...

    assert is_async(partial(echo.reply))
    assert is_async(Called())
    assert not is_async(echo.reply_batch)


def _other_names(a: str, b: str) -> str:
    return a + b


async def _async_rows(rows: object) -> None: ...


# Services and programs.


def told(monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], **fields: Any) -> dict[str, str]:
    """What is wrong with an agent, by key, where the host has this environment."""
    monkeypatch.setattr("os.environ", environ)
    _, faults = look_up(make_topology("", {"a": {"run": None, **fields}}))
    return {fault.path.removeprefix("agents.a."): fault.message for fault in faults}


def test_a_services_headers_come_from_the_environment_and_stay_out_of_sight(monkeypatch: pytest.MonkeyPatch) -> None:
    service = {"kind": "http", "url": "http://x/", "headers": {"a": "b", "c": {"env": "TOKEN", "prefix": "Bearer "}}}
    monkeypatch.setattr("os.environ", {"TOKEN": "hunter2"})
    found = resolve(make_topology("", {"a": {"run": None, **service}}))["a"]
    assert found == Endpoint("http://x/", {"a": "b", "c": "Bearer hunter2"})
    assert "hunter2" not in repr(found)
    unset = "variable TOKEN is not set where the host runs"
    assert told(monkeypatch, {}, **service) == {"headers.c": unset}
    assert told(monkeypatch, {"TOKEN": ""}, **service) == {"headers.c": unset}
    assert told(monkeypatch, {"TOKENS": "x"}, **service) == {"headers.c": f"{unset}; did you mean TOKENS?"}
    two_lines = told(monkeypatch, {"TOKEN": "hunter2\n"}, **service)
    assert two_lines == {"headers.c": "variable TOKEN holds more than one line of ASCII"}


def test_a_program_is_found_on_the_path_or_from_its_folder_and_has_little_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    tool = tmp_path / "bin" / "tool"
    tool.touch()
    tool.chmod(0o755)
    (tmp_path / "bin" / "text").touch()
    environ = {"PATH": str(tmp_path / "bin"), "HOME": "/root", "KEY": "k"}
    program = {"kind": "command", "command": ["tool", "-x"], "env": {"A": "b", "KEY": {"env": "KEY"}}}
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("os.environ", environ)
    plain = {"PATH": str(tmp_path / "bin"), "LANG": "C.UTF-8", "PYTHONUNBUFFERED": "1"}
    for more, word, cwd in (({}, "tool", ""), ({"cwd": "bin"}, "./tool", "bin"), ({}, "bin/tool", ""), ({}, tool, "")):
        agent = {"run": None, **program, **more, "command": [str(word), "-x"]}
        found = resolve(make_topology("", {"a": agent}))["a"]
        assert isinstance(found, Program)
        assert Path(found.words[0]).resolve() == tool
        assert (found.words[1:], found.cwd) == (("-x",), str(tmp_path / cwd))
        assert found.environment == {**plain, "A": "b", "KEY": "k"}
        assert "'k'" not in repr(found)

    def refused(**fields: Any) -> dict[str, str]:
        return told(monkeypatch, environ, **{**program, **fields})

    assert refused(command=["tol"]) == {"command[0]": "there is no program tol on PATH; did you mean tool?"}
    assert refused(command=["text"]) == {"command[0]": "there is no program text on PATH"}
    assert refused(command=["./tool"]) == {"command[0]": f"there is no program {tmp_path}/tool"}
    assert "chmod +x it, or name its interpreter" in refused(command=["bin/text"])["command[0]"]
    assert refused(cwd="nowhere", command=["tool"]) == {"cwd": f"there is no folder {tmp_path}/nowhere"}
    assert refused(env={"X": {"env": "NOPE"}}) == {"env.X": "variable NOPE is not set where the host runs"}
