"""Whose history a database holds: the first deployment that keeps its history there owns it, and no other may.

Two deployments in one database would share its tables, and a task id that both use would be one fact. I/O: asks
ClickHouse.
"""

from __future__ import annotations

from typing import Any

from schemas.codes import ErrorCode
from schemas.errors import ConfigurationError
from schemas.settings import DATABASE
from schemas.topology import Topology
from streams.transport.telemetry import get_logger

log = get_logger("pointsman.history")

_MADE = """
CREATE TABLE IF NOT EXISTS {database}.owner (prefix String, claimed_at DateTime64(6, 'UTC') DEFAULT now64(6))
ENGINE = MergeTree ORDER BY (claimed_at, prefix)
"""


def own(client: Any, topology: Topology, database: str = DATABASE) -> None:
    """Take the database for this deployment, over a clickhouse-connect client, unless it is so already.

    Of two stores that take it at one time the earlier has it, and both see that. Raises ConfigurationError where it is
    another deployment's, by its record or, where it has none, by the topics of the tasks that it holds.
    """
    client.command(_MADE.format(database=database))
    owner = _owner(client, database)
    if owner is None:
        _refuse_rows_of_others(client, topology, database)
        client.insert(f"{database}.owner", [[topology.prefix]], column_names=["prefix"], settings={"async_insert": 0})
        owner = _owner(client, database)
        log.info("the history is this deployment's from now on", prefix=topology.prefix)
    if owner != topology.prefix:
        raise _refusal(topology, database, f"belongs to the deployment with the prefix {owner!r}")


def _owner(client: Any, database: str) -> str | None:
    rows = client.query(f"SELECT prefix FROM {database}.owner ORDER BY claimed_at, prefix LIMIT 1").result_rows  # noqa: S608 - checked
    return str(rows[0][0]) if rows else None


def _refuse_rows_of_others(client: Any, topology: Topology, database: str) -> None:
    """A history from before there were owners: its tasks tell by their topic whose it is."""
    held = {
        str(topic)
        for (topic,) in client.query(f"SELECT DISTINCT topic FROM {database}.tasks_log LIMIT 100").result_rows  # noqa: S608 - checked
    }
    if held and topology.topics().submitted not in held:
        of = ", ".join(sorted(held)[:3])
        raise _refusal(topology, database, f"holds tasks of {of} and none of this deployment's")


def _refusal(topology: Topology, database: str, why: str) -> ConfigurationError:
    return ConfigurationError(
        f"The history in database {database} of this ClickHouse {why}; this deployment has the prefix "
        f"{topology.prefix!r}. Two deployments in one history would take each other's tasks for their own. Give this "
        "one a database of its own with --clickhouse or POINTSMAN_CLICKHOUSE, as in http://HOST:PORT/NAME; or, if its "
        f"prefix was changed on purpose, drop the table {database}.owner there.",
        code=ErrorCode.HISTORY_OWNER,
    )
