"""Commands that are one process of the pipeline: `worker`, `host`, `store`.

I/O: through the commands.
"""
# ruff: noqa: PLC0415  each command imports its own part when it runs

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from console.cli.flags import (
    Broker,
    ClickHouse,
    Hold,
    HostSlot,
    MetricsPort,
    ReadyFile,
    StopWithStdin,
    StoreSlot,
    TopologyFile,
    WorkerSlot,
    deployment_of,
)

app = typer.Typer()


@app.command()
def worker(
    broker: Broker = None,
    topology: TopologyFile = None,
    clickhouse: ClickHouse = None,
    metrics_port: MetricsPort = None,
    worker_slot: WorkerSlot = None,
    ready_file: ReadyFile = None,
    stop_with_stdin: StopWithStdin = False,
    hold: Hold = False,
) -> None:
    """Run one worker: the router and the consensus of its share of the partitions."""
    from console.cli.serve import Life, serve_worker

    deployment = deployment_of(
        broker=broker,
        topology=topology,
        clickhouse=clickhouse,
        metrics_port=metrics_port,
        worker_slot=worker_slot,
    )
    serve_worker(deployment, Life(ready_file, stop_with_stdin=stop_with_stdin, hold=hold))


@app.command()
def host(
    broker: Broker = None,
    topology: TopologyFile = None,
    clickhouse: ClickHouse = None,
    metrics_port: MetricsPort = None,
    host_slot: HostSlot = None,
    ready_file: ReadyFile = None,
    stop_with_stdin: StopWithStdin = False,
    hold: Hold = False,
) -> None:
    """Run one agent host."""
    from console.cli.serve import Life, serve_host

    deployment = deployment_of(
        broker=broker, topology=topology, clickhouse=clickhouse, metrics_port=metrics_port, host_slot=host_slot
    )
    serve_host(deployment, Life(ready_file, stop_with_stdin=stop_with_stdin, hold=hold))


@app.command()
def store(
    broker: Broker = None,
    topology: TopologyFile = None,
    clickhouse: ClickHouse = None,
    data: Annotated[
        Path | None, typer.Option("--data", metavar="DIR", help="Embed ClickHouse over DIR; else use the URL.")
    ] = None,
    metrics_port: MetricsPort = None,
    store_slot: StoreSlot = None,
    ready_file: ReadyFile = None,
    stop_with_stdin: StopWithStdin = False,
    hold: Hold = False,
) -> None:
    """Run the history sink, with ClickHouse embedded where --data is given."""
    from console.cli.serve import Life, serve_store

    deployment = deployment_of(
        broker=broker, topology=topology, clickhouse=clickhouse, metrics_port=metrics_port, store_slot=store_slot
    )
    serve_store(deployment, data, Life(ready_file, stop_with_stdin=stop_with_stdin, hold=hold))
