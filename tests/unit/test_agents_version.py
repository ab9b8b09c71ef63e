"""What makes another version of an agent: whatever its answers depend on, and nothing else."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest

from agents.version import Declared, declared, maker_of
from schemas.topology import Agent
from schemas.topology_agent import Summarising


def agent(**fields: Any) -> Agent:
    return Agent.model_validate({"run": "versioned_agent:run", "effect": "read", **fields})


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "versioned_agent.py"
    path.write_text("def run(task, context): ...")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "versioned_agent", raising=False)
    importlib.import_module("versioned_agent")
    return path


def test_the_name_has_the_number_that_people_give_and_a_digest(module: Path) -> None:
    assert module.exists()
    number, _, digest = declared(agent(version="7")).name.partition("+")
    assert (number, len(digest)) == ("7", 8)
    assert declared(agent(version="7")) == declared(agent(version="7"))


SUMMED_UP = ("summary", "summary.file.brief.py")


@pytest.mark.parametrize(
    "changed",
    [
        {"version": "8"},
        {"options": {"model": "large"}},
        {"options": {"model": "small", "prompt": "Be brief."}},
        {"grounded": True},
        {"run": "versioned_agent:other"},
        {"summary": {"run": "agents.builtin.brief:brief"}},
    ],
)
def test_what_answers_depend_on_makes_another_version(module: Path, changed: dict[str, Any]) -> None:
    assert module.exists()
    before = declared(agent(version="7", options={"model": "small"}))
    after = declared(agent(**{"version": "7", "options": {"model": "small"}, **changed}))
    assert before.name != after.name
    assert differing(before, after) <= {"version", "options.model", "options.prompt", "grounded", "run", *SUMMED_UP}
    assert differing(before, after)


@pytest.mark.parametrize("same", [{"timeout_ms": 9}, {"concurrency": 3}, {"accuracy": 0.7}, {"description": "new"}])
def test_how_it_is_called_and_told_of_makes_none(module: Path, same: dict[str, Any]) -> None:
    assert module.exists()
    assert declared(agent()) == declared(agent(**same))


def test_who_sums_up_has_a_version_of_its_own(module: Path) -> None:
    before = maker_of(Summarising(run="versioned_agent:run", version="3"))
    assert before.startswith("versioned_agent:run 3+")
    assert maker_of(Summarising(run="versioned_agent:run", version="3")) == before
    assert maker_of(Summarising(run="versioned_agent:run", version="3", options={"words": 3})) != before
    module.write_text(module.read_text() + "\n# another\n")
    assert maker_of(Summarising(run="versioned_agent:run", version="3")) != before


def test_one_changed_line_of_its_module_is_another_version(module: Path) -> None:
    before = declared(agent())
    module.write_text("def run(task, context): ...  # now with another prompt")
    after = declared(agent())
    assert differing(before, after) == {"file.versioned_agent.py"}
    assert before.name != after.name


def test_of_a_program_the_files_that_its_command_names_count(tmp_path: Path) -> None:
    program = Agent.model_validate(
        {"kind": "command", "effect": "read", "command": ["python3", "agent.py", "--fast"], "cwd": str(tmp_path)}
    )
    before = declared(program)
    (tmp_path / "agent.py").write_text("print(1)")
    assert differing(before, declared(program)) == {"file.agent.py"}


def test_no_value_of_a_variable_or_header_is_told() -> None:
    program = Agent.model_validate(
        {
            "kind": "command",
            "effect": "read",
            "command": ["x"],
            "env": {"LEVEL": "nobody's business", "KEY": {"env": "K"}},
        }
    )
    told = declared(program)
    assert "business" not in str(told)
    assert told.parts["env"].startswith("sha256:")


def differing(one: Declared, other: Declared) -> set[str]:
    return {name for name in one.parts.keys() | other.parts.keys() if one.parts.get(name) != other.parts.get(name)}
