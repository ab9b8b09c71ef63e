"""Commands that run the whole pipeline on this machine: `dev`, `demo`; and `doctor`, which says whether it can.

I/O: through the commands.
"""
# ruff: noqa: PLC0415  each command imports its own part when it runs

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from console.cli.flags import Broker, ClickHouse, Output_, TopologyFile, deployment_of
from console.cli.output import Format, Output

app = typer.Typer()


PORT: Any = {"min": 1, "max": 65535, "metavar": "PORT"}


@app.command()
def dev(
    broker: Broker = None,
    clickhouse: Annotated[
        str | None, typer.Option("--clickhouse", metavar="URL", help="Keep the history in a ClickHouse of your own.")
    ] = None,
    topology: TopologyFile = None,
    data: Annotated[Path, typer.Option("--data", metavar="DIR", help="Kept between starts.")] = Path(".pointsman"),
    reload: Annotated[
        bool, typer.Option("--reload", help="Apply the topology and the agents' code when they are saved.")
    ] = False,
    kafka_port: Annotated[
        int | None, typer.Option("--kafka-port", **PORT, help="Default: 9092 where it is free.")
    ] = None,
    clickhouse_port: Annotated[
        int | None, typer.Option("--clickhouse-port", **PORT, help="Default: 8123 where it is free.")
    ] = None,
    registry_port: Annotated[
        int | None, typer.Option("--registry-port", **PORT, help="Default: 8081 where it is free.")
    ] = None,
) -> None:
    """Run broker, store, schema registry, worker and host here until Ctrl-C."""
    from console.cli.dev import Wishes, run_dev
    from console.local.ports import Ports

    wishes = Wishes(
        data,
        own_broker=broker is None,
        own_clickhouse=clickhouse is None,
        ports=Ports(broker=kafka_port or 0, clickhouse=clickhouse_port or 0, registry=registry_port or 0),
        reload=reload,
    )
    run_dev(deployment_of(broker=broker, clickhouse=clickhouse, topology=topology), wishes, Output())


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


@app.command()
def doctor(
    broker: Broker = None,
    clickhouse: ClickHouse = None,
    topology: TopologyFile = None,
    data: Annotated[Path, typer.Option("--data", metavar="DIR", help="Where dev would keep its data.")] = Path(
        ".pointsman"
    ),
    output: Output_ = Format.TABLE,
) -> None:
    """Check every prerequisite and every configured service, each with its fix; exit code 0 when nothing fails."""
    from console.cli.doctor import run_doctor

    flags = {"broker": broker, "clickhouse": clickhouse, "topology": topology}
    raise typer.Exit(run_doctor(flags, data, output, Output()))
