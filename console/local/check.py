"""A topology and the code of its agents, checked in a process of their own, which also says of which files they are.

A process that stays up must not import what people edit: it would go on with what it once read. `check` is called
there; `python -m console.local.check TOPOLOGY SOURCE` is the other end. I/O: a process, files, the agents' imports.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from console.local.interrupts import shielded
from schemas.codes import ErrorCode, FaultCode
from schemas.errors import Fault, PointsmanError
from schemas.topology import Topology

# Importing the agents may load half of somebody's models; what hangs is told.
TIMEOUT_S = 60.0
WORDS_MAX = 2_000
# Never edited here, however the environment lies.
FOREIGN = ("site-packages", "dist-packages")


class CheckFailedError(PointsmanError):
    """The checking process gave no answer: an agent's module ended or held it."""

    error_code = ErrorCode.CODE_NOT_CHECKED

    def __init__(self, why: str) -> None:
        super().__init__(f"the agents' code could not be checked: {why}")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is wrong, and the files that the topology's agents are made of, those that are missing among them."""

    faults: tuple[Fault, ...]
    files: frozenset[Path]


def check(snapshot: Path, source: str, environment: Mapping[str, str], timeout_s: float | None = None) -> Verdict:
    """Of the topology in `snapshot`, which people know as `source`. Raises CheckFailedError."""
    limit_s = TIMEOUT_S if timeout_s is None else timeout_s
    command = [sys.executable, "-m", "console.local.check", str(snapshot), source]
    with shielded():
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(environment),
            start_new_session=True,
        )
    try:
        out, err = process.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        raise CheckFailedError(f"importing it took longer than {limit_s:.0f} s") from None
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
    try:
        said = json.loads(out)
    except ValueError:
        words = err.decode(errors="replace").strip()[-WORDS_MAX:]
        raise CheckFailedError(f"its process ended with status {process.returncode}. {words}".rstrip()) from None
    faults = (Fault(**{**fault, "code": FaultCode(fault["code"])}) for fault in said["faults"])
    return Verdict(tuple(faults), frozenset(map(Path, said["files"])))


def main(snapshot: str, source: str) -> None:
    """Prints the verdict as JSON; whatever the agents' modules print goes to stderr."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    from agents.registry import look_up  # noqa: PLC0415  after what is printed is turned away
    from schemas.errors import TopologyError  # noqa: PLC0415  as above
    from schemas.topology import parse_topology  # noqa: PLC0415  as above

    executed: set[str] = set()
    try:
        topology = parse_topology(Path(snapshot).read_text("utf-8-sig"), source)
    except TopologyError as error:
        faults, files = list(error.faults), set[Path]()
    else:
        sys.addaudithook(lambda event, details: _note(executed, event, details))
        _, faults = look_up(topology)
        files = {*_edited(executed), *_named(topology)}
    json.dump({"faults": [asdict(fault) for fault in faults], "files": sorted(map(str, files))}, out)
    out.flush()
    os._exit(0)  # a thread that a module started must not keep this process


def _note(executed: set[str], event: str, details: tuple[object, ...]) -> None:
    """Files whose code is compiled or run: also those that fail, which the interpreter forgets."""
    if event == "exec" and (name := getattr(details[0], "co_filename", None)):
        executed.add(name)
    elif event == "compile" and isinstance(details[1], str):
        executed.add(details[1])


def _roots() -> list[Path]:
    """Where modules of the user's own lie."""
    return [Path.cwd(), *(Path(each).absolute() for each in os.environ.get("PYTHONPATH", "").split(os.pathsep) if each)]


def _edited(executed: Iterable[str]) -> Iterator[Path]:
    roots, installed = _roots(), [Path(prefix).resolve() for prefix in {sys.prefix, sys.base_prefix}]
    for name in executed:
        path = Path(name)
        if not path.is_absolute() or path.suffix != ".py" or any(part in FOREIGN for part in path.parts):
            continue
        if any(map(path.is_relative_to, roots)) and not any(map(path.resolve().is_relative_to, installed)):
            yield path


def _named(topology: Topology) -> Iterator[Path]:
    """Where the modules and programs that the topology names are, or would be if they were there."""
    for agent in topology.agents.values():
        if agent.run:
            for root in _roots():
                stem = root.joinpath(*agent.run.partition(":")[0].split("."))
                yield stem.with_suffix(".py")
                yield stem / "__init__.py"
        folder = Path.cwd() / (getattr(agent, "cwd", None) or "")
        for number, word in enumerate(getattr(agent, "command", None) or ()):
            path = folder / word
            if (number == 0 and os.sep in word) or path.is_file():
                yield path


if __name__ == "__main__":
    main(*sys.argv[1:])
