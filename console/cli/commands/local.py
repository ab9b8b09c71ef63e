"""Commands that run the whole pipeline on this machine: `dev`, `demo`.

I/O: through the commands.
"""
# ruff: noqa: PLC0415  each command imports its own part when it runs

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from console.cli.flags import Broker, TopologyFile, deployment_of
from console.cli.output import Output

app = typer.Typer()


@app.command()
def dev(
    broker: Broker = None,
    topology: TopologyFile = None,
    data: Annotated[Path, typer.Option("--data", metavar="DIR", help="Kept between starts.")] = Path(".pointsman"),
) -> None:
    """Run broker, store, worker and host here until Ctrl-C."""
    from console.cli.dev import run_dev

    run_dev(deployment_of(broker=broker, topology=topology), data, own_broker=broker is None, out=Output())


@app.command()
def demo(
    broker: Broker = None,
    topology: TopologyFile = None,
    keep: Annotated[
        Path | None, typer.Option("--keep", metavar="DIR", help="Keep data and logs here; default: a temporary folder.")
    ] = None,
) -> None:
    """Run real tasks through everything, print what happened, and audit it."""
    from console.demo.run import run_demo

    raise typer.Exit(
        run_demo(deployment_of(broker=broker, topology=topology), own_broker=broker is None, keep=keep, out=Output())
    )
