"""Whose history a database holds: the first deployment that keeps its history there owns it, and no other may.

Two deployments in one database would share its tables, and a task id that both use would be one fact. I/O: asks
ClickHouse.
"""

from __future__ import annotations

from typing import Any

from schemas.codes import ErrorCode
from schemas.errors import ConfigurationError
from schemas.topology import Topology
from streams.history.migrations import DATABASE
from streams.transport.telemetry import get_logger

log = get_logger("pointsman.history")

TABLE = f"{DATABASE}.owner"
_MADE = f"""
CREATE TABLE IF NOT EXISTS {TABLE} (prefix String, claimed_at DateTime64(6, 'UTC') DEFAULT now64(6))
ENGINE = MergeTree ORDER BY (claimed_at, prefix)
"""


def own(client: Any, topology: Topology) -> None:
    """Take the database for this deployment, over a clickhouse-connect client, unless it is so already.

    Of two stores that take it at one time the earlier has it, and both see that. Raises ConfigurationError where it is
    another deployment's, by its record or, where it has none, by the topics of the tasks that it holds.
    """
    client.command(_MADE)
    owner = _owner(client)
    if owner is None:
        _refuse_rows_of_others(client, topology)
        client.insert(TABLE, [[topology.prefix]], column_names=["prefix"], settings={"async_insert": 0})
        owner = _owner(client)
        log.info("the history is this deployment's from now on", prefix=topology.prefix)
    if owner != topology.prefix:
        raise _refusal(topology, f"belongs to the deployment with the prefix {owner!r}")


def _owner(client: Any) -> str | None:
    rows = client.query(f"SELECT prefix FROM {TABLE} ORDER BY claimed_at, prefix LIMIT 1").result_rows  # noqa: S608 - a constant
    return str(rows[0][0]) if rows else None


def _refuse_rows_of_others(client: Any, topology: Topology) -> None:
    """A history from before there were owners: its tasks tell by their topic whose it is."""
    held = {
        str(topic)
        for (topic,) in client.query(f"SELECT DISTINCT topic FROM {DATABASE}.tasks_log LIMIT 100").result_rows  # noqa: S608 - a constant
    }
    if held and topology.topics().submitted not in held:
        raise _refusal(topology, f"holds tasks of {', '.join(sorted(held)[:3])} and none of this deployment's")


def _refusal(topology: Topology, why: str) -> ConfigurationError:
    return ConfigurationError(
        f"The history in database {DATABASE} of this ClickHouse {why}; this deployment has the prefix "
        f"{topology.prefix!r}. Two deployments in one history would take each other's tasks for their own. Give this "
        "one a ClickHouse of its own with --clickhouse or POINTSMAN_CLICKHOUSE; or, if its prefix was changed on "
        f"purpose, drop the table {TABLE} there.",
        code=ErrorCode.HISTORY_OWNER,
    )
