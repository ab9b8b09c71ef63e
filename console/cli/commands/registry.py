"""Commands about schemas: `registry`, which serves those of the project.

I/O: through the commands.
"""
# ruff: noqa: PLC0415  each command imports its own part when it runs

from __future__ import annotations

from typing import Annotated

import typer

from console.cli.flags import Hold, ReadyFile, StopWithStdin, TopologyFile, deployment_of

app = typer.Typer()


@app.command()
def registry(
    listen: Annotated[
        str, typer.Option("--listen", metavar="HOST:PORT", help="Port 0: a free one.")
    ] = "127.0.0.1:8081",
    topology: TopologyFile = None,
    ready_file: ReadyFile = None,
    stop_with_stdin: StopWithStdin = False,
    hold: Hold = False,
) -> None:
    """Serve the project's schemas as a Confluent-compatible, read-only schema registry."""
    from console.cli.serve import Life, serve_registry

    life = Life(ready_file, stop_with_stdin=stop_with_stdin, hold=hold)
    serve_registry(deployment_of(topology=topology), listen, life)
