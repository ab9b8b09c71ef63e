"""The page of all commands: what each does, its arguments and flags, and examples. I/O: none."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any

import typer.main

from console.cli.help import EXAMPLES, leaves
from console.cli.main import app
from console.reference.markdown import made_by, paragraph, table


def page() -> str:
    """docs/commands.md."""
    return "\n".join(_lines()).rstrip() + "\n"


def _lines() -> Iterator[str]:
    yield made_by("console/cli/commands/*.py and console/cli/help.py")
    yield "# Commands"
    yield ""
    yield from paragraph(
        "`pointsman --help` lists them by what they are for. Data go to stdout, everything else to stderr; what "
        "programs may rely on is in [output](output.md), exit codes are in the README, error codes in "
        "[codes](codes.md). `--debug` may stand anywhere, and shows where an error was raised."
    )
    for path, command in sorted(leaves(typer.main.get_command(app))):
        yield f"## pointsman {path}"
        yield ""
        yield from paragraph(" ".join(str(command.help or "").split()))
        shown = [parameter for parameter in command.params if not getattr(parameter, "hidden", False)]
        if shown:
            yield from table(("argument or flag", "default", "means"), map(_row, shown))
        if path in EXAMPLES:
            yield "```sh"
            yield from EXAMPLES[path]
            yield "```"
            yield ""


def _row(parameter: Any) -> tuple[str, str, str]:
    is_flag, is_argument = getattr(parameter, "is_flag", False), not parameter.opts[0].startswith("-")
    value = _value(parameter, is_argument=is_argument)
    name = f"**{value}**" if is_argument else f"`{', '.join(parameter.opts)}{'' if is_flag else f' {value}'}`"
    default = parameter.default
    shown = "" if is_flag or default is None else f"`{getattr(default, 'value', default)}`"
    return name, "**required**" if parameter.required else shown, " ".join(str(parameter.help or "").split())


def _value(parameter: Any, *, is_argument: bool) -> str:
    """What stands for the value: its own word, the choices, or its type."""
    kind = parameter.type_descriptor.annotation
    if isinstance(kind, type) and issubclass(kind, Enum):
        return "|".join(each.value for each in kind)
    if parameter.metavar or is_argument:
        return str(parameter.metavar or parameter.name).upper()
    return {int: "N", float: "X", Path: "PATH"}.get(kind, "TEXT")
