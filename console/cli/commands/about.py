"""Commands about the command itself: `completion`.

I/O: through the commands.
"""
# ruff: noqa: PLC0415  each command imports its own part when it runs

from __future__ import annotations

from typing import Annotated

import typer

from console.cli.completion import Shell
from console.cli.output import Output

app = typer.Typer()


@app.command()
def completion(shell: Annotated[Shell, typer.Argument(metavar="SHELL", help="bash, zsh or fish.")]) -> None:
    """Print the script that makes Tab complete commands, flags and names."""
    from console.cli.completion import script

    Output().line(script(shell))
