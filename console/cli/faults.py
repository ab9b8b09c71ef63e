"""Faults of a topology as compilers show them: one line each for a pipe, and the line of the file below it on a screen.

A line that may hold a secret is not shown. I/O: reads the topology file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.cells import cell_len

from console.cli.output import printable
from schemas.errors import Fault, TopologyError
from schemas.topology_words import SECRETIVE, SECRETIVE_AGENT_KEYS

SHOWN_MAX = 96  # characters of a line
BEFORE_MAX = 40  # of them before the place
_KEY = re.compile(r"""^(?P<indent>[\s-]*)["']?(?P<key>[\w.-]+)["']?\s*:""")
_SECRETIVE = re.compile(rf"""\b({"|".join((SECRETIVE, *sorted(SECRETIVE_AGENT_KEYS)))})["']?\s*:""")
_SECRET = re.compile(
    r"password|passwd|secret|token|credential|authorization|api.?key|private.?key|\.pem", re.IGNORECASE
)


def lines_of(error: TopologyError, *, on_screen: bool) -> Iterator[str]:
    """`FILE:LINE:COLUMN: KEY: MESSAGE [CODE]` for each fault; on a screen with the place in the file below it."""
    source = _read(error.source) if on_screen else []
    for fault in error.faults:
        yield fault.of(error.source)
        yield from _excerpt(fault, source)


def _read(path: str) -> Sequence[str]:
    """The file's lines, split as YAML counts them; none where it is no file that can be read."""
    try:
        return Path(path).read_text("utf-8-sig").split("\n")
    except (OSError, ValueError):
        return []


def _excerpt(fault: Fault, source: Sequence[str]) -> Iterator[str]:
    if not 0 < fault.line <= len(source) or fault.column < 1 or _may_hold_a_secret(source, fault.line - 1):
        return
    line = source[fault.line - 1].rstrip("\r").replace("\t", " ")
    start = max(0, fault.column - 1 - BEFORE_MAX) if len(line) > SHOWN_MAX else 0
    end = start + SHOWN_MAX
    before, meant = line[start : fault.column - 1], line[fault.column - 1 : min(fault.column - 1 + fault.width, end)]
    dots = "..." if start else ""
    number = f"{fault.line:>5}"
    yield f"{number} | {dots}{printable(line[start:end])}{'...' if end < len(line) else ''}"
    blank = " " * cell_len(dots + printable(before))
    yield f"{' ' * len(number)} | {blank}{'^' * max(1, cell_len(printable(meant)))}"


def _may_hold_a_secret(source: Sequence[str], at: int) -> bool:
    """Whether the line, or a key that it stands under, is one whose values are never repeated."""
    if _SECRET.search(source[at]) or _SECRETIVE.search(source[at]):
        return True
    indent = _indent(source[at])
    for line in reversed(source[:at]):
        found = _KEY.match(line)
        if found and len(found["indent"]) < indent:
            if found["key"] in (SECRETIVE, *SECRETIVE_AGENT_KEYS):
                return True
            indent = len(found["indent"])
    return False


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(" -"))
