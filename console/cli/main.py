"""The `pointsman` command: its parts, and the one place where errors become exit codes.

Each part of `console/cli/commands` states the flags of a few commands, and imports what they run when it runs, so that
`--help` answers at once. I/O: through the commands.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import cache
from typing import Annotated, Any

import typer
import typer.main

from console.cli import completion
from console.cli.commands import (
    about,
    agents,
    chaos,
    dead_letters,
    evals,
    load,
    local,
    memory,
    reference,
    registry,
    serve,
    topics,
    topology,
    work,
)
from console.cli.entry import main
from console.cli.failures import ExitCode, UsageError, exit_code, explain
from console.cli.help import Sections, with_examples
from console.cli.output import Output, is_screen
from console.cli.usage import usage_fault
from console.cli.values import UTF_8, encodable, printable
from schemas.codes import ErrorCode
from schemas.errors import PointsmanError, TopologyError

__all__ = ["app", "main", "run"]

app = typer.Typer(
    cls=Sections,
    name="pointsman",
    help="Dumb agents, smart orchestration: task events in, results out, on Kafka, with history in ClickHouse.",
    epilog="`pointsman COMMAND --help` says more of each.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for part in (
    work,
    dead_letters,
    topology,
    agents,
    memory,
    topics,
    reference,
    chaos,
    evals,
    load,
    local,
    serve,
    registry,
    about,
):
    app.add_typer(part.app)

DEBUG = "--debug"


def _say_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version  # noqa: PLC0415  `--help` must answer at once

        Output().line(f"pointsman {version('pointsman')}")
        raise typer.Exit


@app.callback()
def root(
    debug: Annotated[bool, typer.Option(DEBUG, help="Show the traceback of an error. May stand anywhere.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    # Both have had their effect: what stands here is for `--help`.
    pass


@cache
def program() -> Any:
    """All commands and their help, built once a process."""
    return with_examples(typer.main.get_command(app))


def run(arguments: Sequence[str], output: Output | None = None) -> int:
    """Runs one command line; gives its exit code. Nothing is raised but what `--debug` lets through on stderr."""
    out = output or Output()
    command = program()
    if completion.is_asked():
        return completion.answer(command)
    words, debug = _without_debug(arguments)
    try:
        _require_text(words)
        status = command.main(words, prog_name="pointsman", standalone_mode=False)
    except typer.TyperException as error:
        out.note(usage_fault(error, words))
        return error.exit_code
    except (typer.Abort, KeyboardInterrupt):
        return ExitCode.INTERRUPTED
    except (SystemExit, BrokenPipeError):
        # Typer ends so where a pipe is closed: the reader of our output has had enough.
        return ExitCode.OK
    except Exception as error:  # noqa: BLE001  the last resort: everything becomes an exit code
        if debug:
            import traceback  # noqa: PLC0415  for debugging alone

            out.note("".join(traceback.format_exception(error)))
        _tell(error, out)
        return exit_code(error)
    return status if isinstance(status, int) else ExitCode.OK


def _tell(error: Exception, out: Output) -> None:
    """What went wrong, in the words of `explain`; faults of a topology with their places; on a screen, how to ask."""
    on_screen = is_screen(out.err)
    if isinstance(error, TopologyError):
        from console.cli.faults import lines_of  # noqa: PLC0415  `--help` must answer at once

        out.note("\n".join((f"pointsman: {error.headline}", *lines_of(error, on_screen=on_screen))))
    else:
        out.note(f"pointsman: {explain(error)}")
    if on_screen and isinstance(error, PointsmanError):
        code = error.faults[0].code if isinstance(error, TopologyError) else error.error_code
        out.note(f"`pointsman explain {code}` says more.")


def _without_debug(arguments: Sequence[str]) -> tuple[list[str], bool]:
    """The command line less `--debug`, wherever it stands: it is thought of last."""
    words = list(arguments)
    flags = words[: words.index("--")] if "--" in words else words
    if DEBUG not in flags:
        return words, False
    return [word for word in flags if word != DEBUG] + words[len(flags) :], True


def _require_text(words: Sequence[str]) -> None:
    """Raises UsageError for what is no text in the encoding of this process."""
    for number, word in enumerate(words, 1):
        if word != encodable(word, UTF_8):
            raise UsageError(
                f"Argument {number} ({printable(word)}) is no text in the encoding of this locale, "
                f"{sys.getfilesystemencoding()}. Pass UTF-8, and set a UTF-8 locale: LC_ALL=C.UTF-8",
                code=ErrorCode.NO_TEXT,
            )


if __name__ == "__main__":
    sys.exit(main())
