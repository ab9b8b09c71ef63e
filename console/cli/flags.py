"""Flags that several commands take, and what they name: the settings and the topology in force.

I/O: reads the topology file.
"""
# ruff: noqa: PLC0415  `--help` must answer at once

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from console.cli.output import Format

if TYPE_CHECKING:
    from console.cli.deployment import Deployment
    from schemas.settings import Settings


def _slot(kind: str) -> Any:
    said = f"Name of this {kind}'s place, the same when it starts again, no two alike."
    return typer.Option(f"--{kind}-slot", metavar="NAME", help=f"{said} [env: POINTSMAN_{kind.upper()}_SLOT]")


Broker = Annotated[
    str | None, typer.Option("--broker", metavar="HOST:PORT", help="Kafka's bootstrap servers. [env: POINTSMAN_BROKER]")
]
ClickHouse = Annotated[
    str | None, typer.Option("--clickhouse", metavar="URL", help="ClickHouse's address. [env: POINTSMAN_CLICKHOUSE]")
]
TopologyFile = Annotated[
    Path | None, typer.Option("--topology", metavar="FILE", help="Default: topology.yaml. [env: POINTSMAN_TOPOLOGY]")
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask; needed where nobody can be asked.")]
Output_ = Annotated[Format, typer.Option("-o", "--output", help="How data is written.")]
MetricsPort = Annotated[
    int | None,
    typer.Option(
        "--metrics-port", min=0, max=65535, help="Prometheus port, 0: a free one. [env: POINTSMAN_METRICS_PORT]"
    ),
]
WorkerSlot = Annotated[str | None, _slot("worker")]
HostSlot = Annotated[str | None, _slot("host")]
StoreSlot = Annotated[str | None, _slot("store")]
ReadyFile = Annotated[
    Path | None, typer.Option("--ready-file", metavar="FILE", help="Written, as JSON, when the process serves.")
]
StopWithStdin = Annotated[
    bool, typer.Option("--stop-with-stdin", hidden=True, help="End when standard input closes: the supervisor is gone.")
]

Hold = Annotated[
    bool, typer.Option("--hold", hidden=True, help="Load everything, then wait for a line on standard input.")
]


def deployment_of(**flags: object) -> Deployment:
    """Raises ConfigurationError, for the topology with every fault at once."""
    from console.cli.deployment import load

    return load(flags)


def settings_of(**flags: object) -> Settings:
    """Raises ConfigurationError."""
    from console.cli.deployment import load_settings

    return load_settings(flags)
