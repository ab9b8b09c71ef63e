"""`pointsman init agent`: the first files of an agent, and the lines by which a topology knows it.

I/O: writes files in the working directory, and the topology where that is asked for; stdout, stderr.
"""

from __future__ import annotations

import importlib.util
import keyword
import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath

from console.cli.failures import UsageError
from console.cli.output import Output
from console.scaffold.addition import with_agent
from console.scaffold.templates import Kind, files, lines
from schemas.codes import ErrorCode
from schemas.errors import ConfigurationError
from schemas.topology_checks import AGENT_NAME, AGENT_NAME_RULE

TRY = {
    Kind.PYTHON: "python -m unittest test_{name}",
    Kind.HTTP: "python -m unittest discover {name}",
    Kind.COMMAND: "python -m unittest discover {name}",
}


def init_agent(name: str, kind: Kind, *, add_to: Path | None, out: Output) -> None:
    """Writes the files and prints the lines, or adds them to the file that is given. All of it is done, or nothing.

    Raises UsageError for a name that an agent cannot have, ConfigurationError where something is in the way.
    """
    _refuse_name(name, kind)
    made, fragment = files(kind, name), lines(kind, name)
    _refuse_what_is_there(made, name, kind)
    topology = None if add_to is None else _added(add_to, fragment, name)
    _write(made)
    if add_to is not None and topology is not None:
        _replace(add_to, topology)
    out.note(f"wrote {', '.join(map(str, made))}")
    if topology is None:
        out.note("add to topology.yaml (or let it be done: --add), each to the section of its name:")
        out.line(fragment.rstrip("\n"))
    else:
        out.note(f"added {name} to {add_to}")
    if kind is Kind.HTTP:
        out.note(f"then start it: python {name}/service.py 8700")
    out.note(f"then: {TRY[kind].format(name=name)}; pointsman validate; pointsman agents test {name}")


def _refuse_name(name: str, kind: Kind) -> None:
    if not AGENT_NAME.fullmatch(name):
        text = f"{name} is no name of an agent, which is part of topic names: {AGENT_NAME_RULE}."
        raise UsageError(text, code=ErrorCode.FLAG_VALUE)
    if kind is Kind.PYTHON and keyword.iskeyword(name):
        raise UsageError(f"{name} is a word of Python, and cannot name a module.", code=ErrorCode.FLAG_VALUE)


def _refuse_what_is_there(made: Mapping[PurePosixPath, str], name: str, kind: Kind) -> None:
    there = [path for path in map(Path, made) if os.path.lexists(path)]
    if there:
        text = f"Nothing was written, for this is there already: {', '.join(map(str, there))}."
        raise ConfigurationError(text, code=ErrorCode.IN_THE_WAY)
    if kind is not Kind.PYTHON:
        return
    # A module of this name would hide that one from whoever imports it, or the other way round.
    if Path(name).is_dir() or importlib.util.find_spec(name) is not None:
        text = f"Nothing was written: there is a module {name} already; name the agent otherwise, such as {name}_agent."
        raise ConfigurationError(text, code=ErrorCode.IN_THE_WAY)


def _added(path: Path, fragment: str, name: str) -> str:
    if not path.exists():
        raise ConfigurationError(f"There is no topology at {path.resolve()}.", code=ErrorCode.NO_TOPOLOGY)
    with path.open(encoding="utf-8", newline="") as file:
        return with_agent(file.read(), str(path), fragment, name)


def _write(made: Mapping[PurePosixPath, str]) -> None:
    written: list[Path] = []
    try:
        for path, text in ((Path(each), text) for each, text in made.items()):
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("x", encoding="utf-8") as file:
                written.append(path)
                file.write(text)
    except OSError as error:
        for path in written:
            with suppress(OSError):
                path.unlink()
        text = f"Nothing was written: {error.filename}: {error.strerror}."
        raise ConfigurationError(text, code=ErrorCode.IN_THE_WAY) from None


def _replace(path: Path, text: str) -> None:
    """The whole new file or the old one: whoever watches it never sees half of it."""
    target = path.resolve()
    try:
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", newline="", dir=target.parent, prefix=f".{target.name}.", delete=False
        ) as file:
            file.write(text)
        Path(file.name).chmod(target.stat().st_mode)
        Path(file.name).replace(target)
    except OSError as error:
        said = f"{path} could not be changed: {error.strerror}. The agent's files are written; add the lines by hand."
        raise ConfigurationError(said, code=ErrorCode.BY_HAND) from None
