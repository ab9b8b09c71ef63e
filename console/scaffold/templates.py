"""What `pointsman init agent` writes: files of each kind of agent, and the lines of the topology that name it.

I/O: reads the templates beside it.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path, PurePosixPath
from string import Template

HERE = Path(__file__).parent
LINES = "topology.yaml.tmpl"


class Kind(StrEnum):
    """The value of `--kind`."""

    PYTHON = "python"
    HTTP = "http"
    COMMAND = "command"


def files(kind: Kind, name: str) -> dict[PurePosixPath, str]:
    """Path and text of each file. A python agent is a module beside its test; the others have a folder."""
    folder = PurePosixPath() if kind is Kind.PYTHON else PurePosixPath(name)
    return {
        folder / path.name.removesuffix(".tmpl").replace("NAME", name): _filled(path, name)
        for path in sorted((HERE / kind).glob("*.py.tmpl"))
    }


def lines(kind: Kind, name: str) -> str:
    """The sections `agents` and `routes`, with this agent alone."""
    return _filled(HERE / kind / LINES, name)


def _filled(path: Path, name: str) -> str:
    return Template(path.read_text("utf-8")).substitute(name=name, phrase=name.replace("_", " "))
