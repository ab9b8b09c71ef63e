"""Commands about the topology file: `validate`.

I/O: through the commands.
"""
# ruff: noqa: PLC0415  each command imports its own part when it runs

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from console.cli.flags import Output_, settings_of
from console.cli.output import Format, Output

app = typer.Typer()


@app.command()
def validate(
    file: Annotated[Path | None, typer.Argument(help="Default: the topology in force.")] = None,
    output: Output_ = Format.TABLE,
) -> None:
    """Check a topology; exit code 5 and every fault at once when it is wrong."""
    from console.cli.validate import validate_topology

    raise typer.Exit(validate_topology(settings_of(topology=file).topology, form=output, out=Output()))
