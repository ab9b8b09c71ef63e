"""The page of all commands: what each does, its arguments and flags, and examples. I/O: none."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import Any

from console.cli.failures import ExitCode
from console.cli.help import EXAMPLES, SECTIONS, first_line, leaves
from console.cli.main import program
from console.reference.markdown import made_by, paragraph, table

EXIT_CODES: Mapping[ExitCode, str] = {
    ExitCode.OK: "done",
    ExitCode.FAILED: "failed",
    ExitCode.USAGE: "the command line is wrong",
    ExitCode.UNREACHABLE: "a service cannot be reached",
    ExitCode.NOT_FOUND: "not found",
    ExitCode.INVALID: "a file or a setting is invalid",
    ExitCode.BREACHED: "a threshold of a load test is breached",
    ExitCode.INTERRUPTED: "interrupted",
}


def page() -> str:
    """docs/commands.md."""
    return "\n".join(_lines()).rstrip() + "\n"


def _lines() -> Iterator[str]:
    yield made_by("console/cli/commands/*.py and console/cli/help.py")
    yield "# Commands"
    yield ""
    yield from paragraph(
        "Data go to stdout, everything else to stderr; what programs may rely on is in [output](output.md), codes of "
        "errors are in [codes](codes.md). `--debug` may stand anywhere, and shows where an error was raised."
    )
    commands = sorted(leaves(program()))
    asking = [f"`{path}`" for path, command in commands if any("--yes" in each.opts for each in command.params)]
    yield from paragraph(
        f"These ask before they do what no command takes back, or what reaches far: {', '.join(asking)}. `--yes` says "
        "yes where nobody can be asked, as in a script. The others do not ask: what `agents pause` did, `agents "
        "resume` takes back, and so on."
    )
    yield from table(("command", "does"), _overview(commands))
    yield from table(("exit code", "means"), ((str(code.value), meaning) for code, meaning in EXIT_CODES.items()))
    for path, command in commands:
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


def _overview(commands: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, str]]:
    """In the order of `--help`: by what they are for."""
    order = [name for names in SECTIONS.values() for name in names]
    place = {name: number for number, name in enumerate(order)}
    for path, command in sorted(commands, key=lambda each: place.get(each[0].split()[0], len(order))):
        link = f"pointsman-{path.replace(' ', '-')}"
        yield f"[`pointsman {path}`](#{link})", first_line(command).rstrip(".")


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
