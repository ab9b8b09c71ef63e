"""What an agent of the topology is: its code, service or program, found and checked before anything starts.

I/O: imports the modules that the topology names, from the working directory among other places; looks for programs.
"""

from __future__ import annotations

import importlib
import inspect
import os
import pkgutil
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from types import ModuleType
from typing import Any, cast

from agents.sandbox import guarded
from agents.targets import Endpoint, Program, Unfit, UnfitAgentError, endpoint, program
from schemas.codes import FaultCode
from schemas.errors import Fault, TopologyError
from schemas.nearest import suggest
from schemas.topology import Agent, Topology
from schemas.topology_agent import Summarising
from schemas.topology_yaml import KeyPath

Code = Callable[..., Any]
Target = Code | Endpoint | Program

# What each kind of function is called with; its options follow as keyword arguments.
PARAMETERS: Mapping[str, tuple[str, ...]] = {"python": ("task", "context"), "batch": ("rows",)}
SUMMARISER_PARAMETERS = ("span",)


class UncallableError(UnfitAgentError):
    """What an agent's entry names cannot be called; `key` says which key of the entry is to be mended."""

    def __init__(self, fault_code: FaultCode, text: str, key: KeyPath = ("run",)) -> None:
        super().__init__([Unfit(fault_code, key, text)])


def resolve(topology: Topology) -> dict[str, Target]:
    """What every agent is, ready to be called. Raises TopologyError with all that is wrong at once."""
    found, faults = look_up(topology)
    if faults:
        raise TopologyError(topology.source, tuple(faults))
    return found


def look_up(topology: Topology) -> tuple[dict[str, Target], list[Fault]]:
    """Every agent that can be called, and what is wrong with the others, each at its place in the file."""
    found: dict[str, Target] = {}
    faults: list[Fault] = []
    for name in topology.agents:
        try:
            found[name] = resolve_one(topology, name)
        except TopologyError as error:
            faults += error.faults
    return found, faults


def resolve_one(topology: Topology, name: str) -> Target:
    """What this agent is. Raises TopologyError with all that is wrong with it, each at its place in the file."""
    agent = topology.agents[name]
    try:
        if agent.summary is not None:
            summariser_of(agent.summary)
        return resolve_agent(agent)
    except UnfitAgentError as error:
        faults = [topology.fault(code, ("agents", name, *key), text) for code, key, text in error.faults]
    raise TopologyError(topology.source, tuple(faults)) from None


def resolve_agent(agent: Agent) -> Target:
    """What one agent is: its code, service or program. Raises UnfitAgentError."""
    match agent.kind:
        case "http":
            return endpoint(agent, os.environ)
        case "command":
            return guarded(program(agent, os.environ), agent, os.environ)
        case _:
            return code_of(agent)


def code_of(agent: Agent) -> Code:
    """The function of an agent of kind `python` or `batch`, with its options bound. Raises UncallableError."""
    assert agent.run is not None, "the topology is checked"
    code = _function(agent.run)
    _check_signature(agent.run, agent.options, PARAMETERS[agent.kind], f"it is of kind {agent.kind}", code)
    if agent.kind == "batch" and is_async(code):
        said = f"{agent.run} is async; an agent of kind batch is a plain function"
        raise UncallableError(FaultCode.ASYNC_BATCH, said)
    return partial(code, **agent.options)


def summarisers(topology: Topology) -> dict[str, Code]:
    """What sums up for each agent that has somebody for it; to be asked once `resolve` found no fault."""
    agents = topology.agents.items()
    return {name: summariser_of(agent.summary) for name, agent in agents if agent.summary is not None}


def summariser_of(summary: Summarising) -> Code:
    """The function that sums up, with its options bound. Raises UncallableError."""
    try:
        code = _function(summary.run)
        _check_signature(summary.run, summary.options, SUMMARISER_PARAMETERS, "it sums up", code)
    except UncallableError as error:
        ((fault_code, key, text),) = error.faults
        raise UncallableError(fault_code, text, ("summary", *key)) from error
    return partial(code, **summary.options)


def _function(run: str) -> Code:
    module_name, _, function_name = run.partition(":")
    module = _module(module_name)
    code = getattr(module, function_name, None)
    if code is None:
        names = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
        raise UncallableError(
            FaultCode.NO_FUNCTION, f"{module_name} has no function {function_name}{suggest(function_name, names)}"
        )
    if not callable(code):
        raise UncallableError(FaultCode.NOT_CALLABLE, f"{run} is no function but {type(code).__name__}")
    return cast("Code", code)


def is_async(code: Code) -> bool:
    """Whether calling it gives a coroutine; what does not runs in a thread."""
    inner = code.func if isinstance(code, partial) else code
    return inspect.iscoroutinefunction(inner) or inspect.iscoroutinefunction(getattr(inner, "__call__", None))  # noqa: B004  not whether it can be called, but how


def _module(name: str) -> ModuleType:
    # A console script has its own folder on the path in the place of the working directory.
    if (here := os.getcwd()) not in sys.path:  # noqa: PTH109  the path wants text
        sys.path.append(here)
    try:
        with _uncompiled():
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            said = f"there is no module {error.name}{_nearest_module(error.name)}"
            raise UncallableError(FaultCode.NO_MODULE, said) from error
        raise UncallableError(FaultCode.MODULE_FAILS, f"module {name} cannot be imported: {error}") from error
    except SyntaxError as error:
        where = f"{error.filename}:{error.lineno}:{error.offset}"
        raise UncallableError(
            FaultCode.MODULE_FAILS, f"module {name} cannot be imported: {where}: {error.msg}"
        ) from error
    except (Exception, SystemExit) as error:  # a module may raise anything while it is imported
        raise UncallableError(FaultCode.MODULE_FAILS, f"module {name} cannot be imported: {_raised(error)}") from error


@contextmanager
def _uncompiled() -> Iterator[None]:
    """Leaves no compiled module behind: Python takes one for current whose source has the same size and second, and of
    two edits within a second the later one would never run."""
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        yield
    finally:
        sys.dont_write_bytecode = before


def _raised(error: BaseException) -> str:
    """Name, text and place of an error, on one line."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    text = " ".join(str(error).split())
    return f"{type(error).__name__}{f': {text}' if text else ''} at {frame.filename}:{frame.lineno}"


def _nearest_module(name: str) -> str:
    parent, _, last = name.rpartition(".")
    if not parent:
        near = suggest(name, [found.name for found in pkgutil.iter_modules()])
        # Whatever is installed is no help as a list.
        return near if near.startswith("; did") else "; modules are looked up in the working directory and PYTHONPATH"
    package = importlib.import_module(parent)
    names = [found.name for found in pkgutil.iter_modules(getattr(package, "__path__", []))]
    return suggest(last, names)


def _check_signature(run: str, options: Mapping[str, object], given: Sequence[str], why: str, code: Code) -> None:
    try:
        signature = inspect.signature(code)
    except (TypeError, ValueError):  # built in: the call itself will tell
        return
    keywords = [
        name for name, parameter in list(signature.parameters.items())[len(given) :] if _takes_keyword(parameter)
    ]
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in signature.parameters.values())
    for option in options:
        if option not in keywords and not takes_any:
            said = f"{run} takes no option {option}{suggest(option, keywords)}"
            raise UncallableError(FaultCode.UNKNOWN_OPTION, said, ("options", option))
    try:
        signature.bind(*given, **options)
    except TypeError as error:
        wanted = ", ".join(given)
        said = f"{run} must take ({wanted}) and its options, for {why}: {error}"
        raise UncallableError(FaultCode.WRONG_SIGNATURE, said) from error


def _takes_keyword(parameter: inspect.Parameter) -> bool:
    return parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
