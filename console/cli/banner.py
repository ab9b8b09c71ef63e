"""What `pointsman dev` shows once it serves: where everything is, and what of it survives a restart.

I/O: reads the table of mounted file systems.
"""

from __future__ import annotations

from collections.abc import Iterator

from console.cli.deployment import Deployment
from console.local.data import VOLATILE, filesystem_of
from console.local.services import Site
from console.local.supervisor import Endpoints
from schemas.registry import REGISTRY
from schemas.settings import Settings


def banner(deployment: Deployment, site: Site, at: Endpoints, *, had_data: bool) -> Iterator[str]:
    """Its lines."""
    topology, topics = deployment.topology, deployment.topology.topics()
    kafka = "started here" if site.own_broker else "yours"
    clickhouse = "started here" if site.own_clickhouse else f"yours, user {site.settings.clickhouse_user}"
    lines = {
        "Kafka": f"{at.broker}  ({kafka}; topics {topics.submitted}, {topics.results}, ...)",
        "ClickHouse": f"{at.clickhouse}  ({clickhouse}; database pointsman; `pointsman history SQL`, curl, any client)",
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
    for variable, value, usual in _settings_to_state(at):
        if value != usual:
            yield f"  export {variable}={value}"
    yield '  Try: pointsman submit "find the Q3 revenue for EMEA" --wait'


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


def _settings_to_state(at: Endpoints) -> Iterator[tuple[str, str, str]]:
    """Variable, value, and the default that makes stating it unnecessary."""
    usual = Settings()
    yield "POINTSMAN_BROKER", at.broker, usual.broker
    yield "POINTSMAN_CLICKHOUSE", at.clickhouse, usual.clickhouse
