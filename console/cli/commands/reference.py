"""Commands that say what things mean: `explain`.

I/O: through the commands.
"""
# ruff: noqa: PLC0415  each command imports its own part when it runs

from __future__ import annotations

from typing import Annotated

import typer

from console.cli.flags import Output_
from console.cli.output import Format, Output

app = typer.Typer()


@app.command()
def explain(
    code: Annotated[
        str | None, typer.Argument(help="As it stands at the end of a message, or in a result. Default: list all.")
    ] = None,
    output: Output_ = Format.TABLE,
) -> None:
    """Say what a code means, why it is met, and what to do."""
    from console.cli.explain import explain_code

    explain_code(code, form=output, out=Output())
