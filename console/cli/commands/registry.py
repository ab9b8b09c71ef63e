"""Commands about schemas: `registry`, which serves the project's, and `schemas push`, which takes them to another one.

I/O: through the commands.
"""
# ruff: noqa: PLC0415  each command imports its own part when it runs

from __future__ import annotations

from typing import Annotated

import typer

from console.cli.flags import Hold, Output_, ReadyFile, StopWithStdin, TopologyFile, deployment_of
from console.cli.output import Format, Output

app = typer.Typer()
schemas_app = typer.Typer(
    help="The project's schemas in a registry of the producers'.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(schemas_app, name="schemas")


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


@schemas_app.command()
def push(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what is there and what is missing.")] = False,
    subject: Annotated[
        str | None, typer.Option("--subject", help="Default: the topic of submissions, with -value.")
    ] = None,
    topology: TopologyFile = None,
    output: Output_ = Format.TABLE,
) -> None:
    """Register the task's schemas in the registry that POINTSMAN_SCHEMA_REGISTRY names."""
    from console.cli.schemas import push_schemas

    deployment = deployment_of(topology=topology)
    raise typer.Exit(push_schemas(deployment, subject, dry_run=dry_run, form=output, out=Output()))
