"""Commands about schemas: `registry`, which serves the project's, and `schemas`, which shows them or takes them away.

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
    help="Shapes of what goes in and out: shown, or registered elsewhere.", no_args_is_help=True, rich_markup_mode=None
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


@schemas_app.command("list")
def list_(output: Output_ = Format.TABLE) -> None:
    """List the schemas: the topology's, and each record's with its id."""
    from console.cli.schema import list_schemas

    list_schemas(form=output, out=Output())


@schemas_app.command()
def show(name: Annotated[str, typer.Argument(help="topology, or a record such as TaskSubmitted.")]) -> None:
    """Print the JSON Schema of the topology, or the Avro schema of a record."""
    from console.cli.schema import show_schema

    show_schema(name, out=Output())
