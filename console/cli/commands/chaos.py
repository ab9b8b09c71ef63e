"""Commands that break a deployment on purpose: `chaos run`, `chaos plans`.

I/O: through the commands.
"""
# ruff: noqa: PLC0415  each command imports its own part when it runs

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from console.cli.flags import Broker, ClickHouse, Output_, TopologyFile, deployment_of
from console.cli.output import Format, Output

app = typer.Typer()
chaos_app = typer.Typer(
    help="Faults on order, under load, and an audit of what became of it.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(chaos_app, name="chaos")


@chaos_app.command("run")
def run_(
    plan: Annotated[str, typer.Argument(metavar="[PLAN]", help="One of `chaos plans`, or a file.")] = "night",
    seed: Annotated[int, typer.Option("--seed", min=0, metavar="N", help="Decides what is left to chance.")] = 1,
    seeds: Annotated[
        int, typer.Option("--seeds", min=1, metavar="N", help="So many runs, with this seed and those after it.")
    ] = 1,
    rate: Annotated[
        float | None, typer.Option("--rate", min=0.1, metavar="X", help="Tasks a second; default: the plan's.")
    ] = None,
    duration: Annotated[
        float | None, typer.Option("--duration", min=1, metavar="SECONDS", help="Load at least so long, likewise.")
    ] = None,
    json: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the report here, for programs.")
    ] = None,
    target: Annotated[
        bool, typer.Option("--target", help="On the deployment that runs at --broker, and not on one of its own.")
    ] = False,
    pid: Annotated[
        list[str] | None,
        typer.Option(
            "--pid",
            metavar="KIND=PID",
            help="With --target: a worker, host or store of this machine that may be killed; may be repeated.",
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="With --target: do not ask.")] = False,
    broker: Broker = None,
    clickhouse: ClickHouse = None,
    topology: TopologyFile = None,
    keep: Annotated[
        Path | None, typer.Option("--keep", metavar="DIR", help="Keep data and logs here; default: of failures alone.")
    ] = None,
) -> None:
    """Break a deployment of its own on purpose, under load; exit code 1 where it broke a promise."""
    from console.cli.chaos import Wishes, run_chaos, run_on_target
    from console.cli.failures import UsageError
    from schemas.codes import ErrorCode

    wishes = Wishes(plan, seed, seeds, rate, duration, json, keep)
    if target:
        deployment = deployment_of(broker=broker, clickhouse=clickhouse, topology=topology)
        raise typer.Exit(run_on_target(wishes, deployment, pid or [], yes=yes, out=Output()))
    if pid or yes or broker or clickhouse or topology:
        text = "--pid, --yes, --broker, --clickhouse and --topology are of a deployment that runs: add --target."
        raise UsageError(text, code=ErrorCode.FLAGS_CONTRADICT)
    raise typer.Exit(run_chaos(wishes, Output()))


@chaos_app.command()
def plans(output: Output_ = Format.TABLE) -> None:
    """List the plans that come with the command."""
    from console.cli.chaos import list_plans

    list_plans(output, Output())
