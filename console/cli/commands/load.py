"""Commands that measure: `load run`, `report`, `compare`, `scenarios`.

I/O: through the commands.
"""
# ruff: noqa: PLC0415  each command imports its own part when it runs

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from console.cli.flags import Broker, Output_, TopologyFile, deployment_of
from console.cli.output import Format, Output

app = typer.Typer()
load_app = typer.Typer(
    help="Load tests: so many tasks, on schedule, audited.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(load_app, name="load")


class Delivery(StrEnum):
    """The value of `--delivery`."""

    AT_LEAST_ONCE = "at_least_once"
    EXACTLY_ONCE = "exactly_once"


ReportFile = Annotated[Path, typer.Argument(metavar="FILE", help="Made by `pointsman load run --json`.")]


@load_app.command()
def run(
    scenario: Annotated[str, typer.Argument(help="A name of `pointsman load scenarios`, or a file of your own.")],
    broker: Broker = None,
    clickhouse: Annotated[
        str | None, typer.Option("--clickhouse", metavar="URL", help="Keep the history in a ClickHouse of your own.")
    ] = None,
    topology: TopologyFile = None,
    attach: Annotated[
        bool,
        typer.Option(
            "--attach", help="Load the deployment that runs at these addresses, its real agents, and start nothing."
        ),
    ] = False,
    rate: Annotated[
        float | None, typer.Option("--rate", min=0.1, metavar="TASKS", help="Tasks a second; one makes 4 to 5 events.")
    ] = None,
    duration: Annotated[
        float | None, typer.Option("--duration", min=1, metavar="SECONDS", help="Of the measured part.")
    ] = None,
    warm_up: Annotated[
        float | None, typer.Option("--warm-up", min=0, metavar="SECONDS", help="Before it; not measured.")
    ] = None,
    delivery: Annotated[Delivery | None, typer.Option("--delivery", help="Default: as the topology says.")] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Other tasks; the same seed gives the same bytes.")] = 1,
    settle: Annotated[
        float, typer.Option("--settle", min=1, metavar="SECONDS", help="Longest wait for what is left at the end.")
    ] = 120.0,
    json: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the report as JSON.")] = None,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write the report as a page with charts.")
    ] = None,
) -> None:
    """Run a load test, audit it and print its report; exit code 99 where a threshold is breached."""
    from console.load.run import Wishes, run_load
    from loadtest.scenario import load

    wishes = Wishes(
        own_broker=broker is None,
        own_clickhouse=clickhouse is None,
        attach=attach,
        delivery=None if delivery is None else delivery.value,
        seed=seed,
        settle_s=settle,
        json_file=json,
        html_file=html,
        command=" ".join(["pointsman", *sys.argv[1:]]),
    )
    deployment = deployment_of(broker=broker, clickhouse=clickhouse, topology=topology)
    raise typer.Exit(run_load(scenario, load(scenario).changed(rate, duration, warm_up), deployment, wishes, Output()))


@load_app.command()
def report(
    file: ReportFile,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write it as a page with charts, too.")
    ] = None,
) -> None:
    """Print a report again, with the exit code of its run."""
    from console.load.compare import read_report
    from console.load.html import write_html
    from console.load.run import verdict
    from console.load.text import print_report

    document = read_report(file)
    if html is not None:
        write_html(document, html)
    print_report(document, Output())
    raise typer.Exit(verdict(document))


@load_app.command()
def compare(a: ReportFile, b: ReportFile, output: Output_ = Format.TABLE) -> None:
    """Print the ratios of two reports, b to a, and warn of all that makes them differ."""
    from console.load.compare import COLUMNS, compared, differences, read_report

    out = Output()
    documents = read_report(a), read_report(b)
    out.records(compared(*documents), COLUMNS, output)
    for warning in differences(*documents):
        out.note(f"warning: {warning}")


@load_app.command()
def scenarios(output: Output_ = Format.TABLE) -> None:
    """List the scenarios that come with pointsman."""
    from loadtest.scenario import load, names

    found = [(name, load(name)) for name in names()]
    rows = [
        {
            "scenario": name,
            "tasks_per_second": each.rate,
            "seconds": sum(stage.seconds for stage in each.measured_stages()),
            "about": each.about,
        }
        for name, each in found
    ]
    Output().records(rows, ("scenario", "tasks_per_second", "seconds", "about"), output)
