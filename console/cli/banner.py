"""What `pointsman dev` shows once it serves: where everything is, and what of it survives a restart.

I/O: reads the environment, and the table of mounted file systems.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from console.cli.deployment import Deployment
from console.local.data import VOLATILE, filesystem_of
from console.local.services import Site
from console.local.supervisor import Endpoints
from schemas.nearby import DIRECTORY as NEARBY
from schemas.registry import REGISTRY
from schemas.settings import PREFIX, Settings, database_of


def banner(deployment: Deployment, site: Site, at: Endpoints, *, had_data: bool) -> Iterator[str]:
    """Its lines."""
    topology, topics = deployment.topology, deployment.topology.topics()
    kafka = "started here" if site.own_broker else "yours"
    clickhouse = "started here" if site.own_clickhouse else f"yours, user {site.settings.clickhouse_user}"
    database = f"database {database_of(at.clickhouse)}"
    lines = {
        "Kafka": f"{at.broker}  ({kafka}; topics {topics.submitted}, {topics.results}, ...)",
        "ClickHouse": f"{at.clickhouse}  ({clickhouse}; {database}; `pointsman history SQL`, curl, any client)",
        "metrics": "  ".join(f"{name} {url}" for name, url in at.metrics.items()),
        "schema registry": f"{at.registry}  (Confluent's API, reading; Avro schemas and their ids, as in {REGISTRY})",
        "topology": f"{deployment.topology_path.resolve()}  "
        f"({len(topology.agents)} agents, {len(topology.routes)} routes, version {topology.version})",
        "data": f"{site.directory}  ({'found from an earlier start' if had_data else 'new'})",
        "data survives a restart": survival(site),
    }
    width = max(map(len, lines))
    yield "pointsman dev"
    for name, value in lines.items():
        yield f"  {name.ljust(width)}  {value}"
    yield from (f"  export {variable}={value}" for variable, value in to_export(site.directory, at))
    yield f'  Try, in another terminal: {our_command()} submit "find the Q3 revenue for EMEA" --wait'


def survival(site: Site) -> str:
    """Whether the records and the history are there again after the next start."""
    if not site.own_broker and not site.own_clickhouse:
        return "as your Kafka and your ClickHouse keep them"
    ours = (
        "yes" if site.own_broker and site.own_clickhouse else "the topics do" if site.own_broker else "the history does"
    )
    if (kind := filesystem_of(site.directory)) in VOLATILE:
        ours = f"{ours}, but not that of the {VOLATILE[kind]}: --data lies on {kind}"
    if not site.own_broker:
        return f"{ours}; the topics as your Kafka keeps them"
    return ours if site.own_clickhouse else f"{ours}; the history as your ClickHouse keeps it"


def to_export(directory: Path, at: Endpoints) -> Iterator[tuple[str, str]]:
    """Variables, with values, without which commands in this folder would ask somebody else."""
    settings = Settings.resolve({}, os.environ, at.settings if directory == NEARBY.resolve() else {})
    for name, value in at.settings.items():
        if getattr(settings, name) != value:
            yield f"{PREFIX}{name.upper()}", value


def our_command() -> str:
    """What a shell calls this program by: its name where PATH leads to it, else its path."""
    ours = Path(sys.executable).parent / "pointsman"
    found = shutil.which("pointsman")
    if not ours.exists() or (found is not None and Path(found).samefile(ours)):
        return "pointsman"
    return str(ours.relative_to(Path.cwd()) if ours.is_relative_to(Path.cwd()) else ours)
