"""The `pointsman` command: its parts, and the one place where errors become exit codes.

Each part of `console/cli/commands` states the flags of a few commands, and imports what they run when it runs, so that
`--help` answers at once. I/O: through the commands.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer
import typer.main

from console.cli.commands import local, registry, serve, topology, work
from console.cli.failures import ExitCode, exit_code, explain
from console.cli.output import Output

app = typer.Typer(
    name="pointsman",
    help="Dumb agents, smart orchestration: task events in, results out, on Kafka, with history in ClickHouse.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for part in (work, topology, local, serve, registry):
    app.add_typer(part.app)


@app.callback()
def root(
    context: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    context.obj["debug"] = debug


def run(arguments: Sequence[str], output: Output | None = None) -> int:
    """Runs one command line; gives its exit code. Nothing is raised but what `--debug` lets through on stderr."""
    out = output or Output()
    state: dict[str, bool] = {}
    command = typer.main.get_command(app)
    try:
        status = command.main(list(arguments), prog_name="pointsman", standalone_mode=False, obj=state)
    except typer.TyperException as error:
        # No arguments at all: the message is the help text, and standing alone it is no error to explain.
        if message := error.format_message():
            out.note(f"pointsman: {message}" if arguments else message)
        if arguments:
            out.note("Try `pointsman --help`, or `pointsman COMMAND --help`.")
        return error.exit_code
    except (typer.Abort, KeyboardInterrupt):
        return ExitCode.INTERRUPTED
    except SystemExit:
        # Raised by Typer alone, for a closed pipe: the reader of our output has had enough.
        return ExitCode.OK
    except Exception as error:  # noqa: BLE001  the last resort: everything becomes an exit code
        if state.get("debug"):
            import traceback  # noqa: PLC0415  for debugging alone

            traceback.print_exception(error, file=out.err)
        out.note(f"pointsman: {explain(error)}")
        return exit_code(error)
    return status if isinstance(status, int) else ExitCode.OK


def main() -> int:
    """Entry point of the `pointsman` script and of `python -m console.cli.main`."""
    return int(run(sys.argv[1:]))


if __name__ == "__main__":
    sys.exit(main())
