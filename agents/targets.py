"""What an agent outside of this process is: a service with its headers, or a program with its environment.

Secrets come from the host's environment, and stay out of every repr, message and log. I/O: file metadata, at start.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from schemas.codes import ErrorCode, FaultCode
from schemas.errors import ConfigurationError
from schemas.nearest import nearest
from schemas.topology import Agent
from schemas.topology_agent import Granted

# All that a program has of its environment beside what the topology grants. A Python program would else keep its
# answers in a buffer, and a text that is not ASCII would depend on the machine.
PLAIN_ENVIRONMENT: Mapping[str, str] = {"LANG": "C.UTF-8", "PYTHONUNBUFFERED": "1"}
USUAL_PATH = "/usr/local/bin:/usr/bin:/bin"


class Unfit(NamedTuple):
    """What is wrong with one key of an agent: `("headers", "authorization")`."""

    code: FaultCode
    key: tuple[str | int, ...]
    text: str


class UnfitAgentError(ConfigurationError):
    """All that is wrong with one agent."""

    error_code = ErrorCode.FAULTY_TOPOLOGY

    def __init__(self, faults: Sequence[Unfit]) -> None:
        self.faults = tuple(faults)
        super().__init__("; ".join(fault.text for fault in faults))


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A service."""

    url: str
    headers: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Program:
    """A program: absolute path and arguments, working directory, environment; and what it is kept to.

    `limits` are by the name of the resource, for each of its processes; `protection` is for people.
    """

    words: tuple[str, ...]
    cwd: str
    environment: Mapping[str, str] = field(repr=False)
    limits: Mapping[str, int] = field(default_factory=dict)
    protection: str = ""


def endpoint(agent: Agent, environ: Mapping[str, str]) -> Endpoint:
    """Of an agent of kind `http`. Raises UnfitAgentError."""
    assert agent.url is not None, "the topology is checked"
    headers, faults = _given("headers", agent.headers, environ)
    for name, value in headers.items():
        if not value.isprintable() or not value.isascii():
            text = f"variable {agent.headers[name].env} holds more than one line of ASCII"
            faults.append(Unfit(FaultCode.VARIABLE_UNFIT, ("headers", name), text))
    if faults:
        raise UnfitAgentError(faults)
    return Endpoint(agent.url, headers)


def program(agent: Agent, environ: Mapping[str, str]) -> Program:
    """Of an agent of kind `command`. Raises UnfitAgentError."""
    assert agent.command is not None, "the topology is checked"
    granted, faults = _given("env", agent.env, environ)
    path = environ.get("PATH", USUAL_PATH)
    cwd = Path(agent.cwd or ".").absolute()
    if not cwd.is_dir():
        faults.append(Unfit(FaultCode.NO_FOLDER, ("cwd",), f"there is no folder {cwd}"))
    found = _find(agent.command[0], cwd, path)
    if found is None:
        faults.append(Unfit(FaultCode.NO_PROGRAM, ("command", 0), _no_program(agent.command[0], cwd, path)))
    if faults or found is None:
        raise UnfitAgentError(faults)
    return Program((found, *agent.command[1:]), str(cwd), {"PATH": path, **PLAIN_ENVIRONMENT, **granted})


def _given(key: str, granted: Mapping[str, Granted], environ: Mapping[str, str]) -> tuple[dict[str, str], list[Unfit]]:
    """Values by name, and what is wrong with the others."""
    values: dict[str, str] = {}
    faults: list[Unfit] = []
    for name, each in granted.items():
        if each.env is None:
            values[name] = each.value or ""
        elif environ.get(each.env):
            values[name] = each.prefix + environ[each.env]
        else:
            text = f"variable {each.env} is not set where the host runs{_near(each.env, environ)}"
            faults.append(Unfit(FaultCode.VARIABLE_UNSET, (key, name), text))
    return values, faults


def _near(name: str, choices: Mapping[str, str]) -> str:
    written = {choice.lower(): choice for choice in choices if choice != name}
    found = nearest(name, written)
    return "" if found is None else f"; did you mean {written[found]}?"


def _find(word: str, cwd: Path, path: str) -> str | None:
    if "/" in word:
        candidate = cwd / word
        return str(candidate) if candidate.is_file() and os.access(candidate, os.X_OK) else None
    found = shutil.which(word, path=path)
    return None if found is None else str(Path(found).absolute())


def _no_program(word: str, cwd: Path, path: str) -> str:
    if "/" in word:
        if (cwd / word).is_file():
            return f"{cwd / word} is no program that may be run: chmod +x it, or name its interpreter first"
        return f"there is no program {cwd / word}"
    folders = [Path(folder) for folder in path.split(os.pathsep) if Path(folder).is_dir()]
    found = nearest(word, {each.name for folder in folders for each in folder.iterdir() if os.access(each, os.X_OK)})
    return f"there is no program {word} on PATH" + (f"; did you mean {found}?" if found else "")
