"""Commands that judge parts of the product on data that others made: `eval memory`.

I/O: through the commands.
"""
# ruff: noqa: PLC0415  each command imports its own part when it runs

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from console.cli.output import Output

app = typer.Typer()
eval_app = typer.Typer(
    help="Figures on real data that others made, offline.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(eval_app, name="eval")


@eval_app.callback()
def group() -> None:
    # Keeps `eval` a group while it has one command.
    pass


@eval_app.command()
def memory(
    data: Annotated[Path, typer.Option("--data", metavar="DIR", help="The folder with `bfcl` and `taubench`.")],
    json: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the report here, for programs.")
    ] = None,
) -> None:
    """Show what context windows keep of real dialogues; exit code 1 where they break a promise."""
    from console.cli.evals import eval_memory

    raise typer.Exit(eval_memory(data, json, Output()))
