"""How long tables keep their rows: what the topology says now becomes each table's TTL, whatever it was before.

ClickHouse drops what is too old in merges of its own time, so a row may be seen for some hours longer. The claims in
agents' logs are kept: what stands behind an old one is void, however old that is. I/O: asks ClickHouse.
"""

from __future__ import annotations

import re
from typing import Any

from schemas.settings import DATABASE
from schemas.topology_history import HistoryPolicy
from streams.transport.telemetry import get_logger

log = get_logger("pointsman.history")

# As ClickHouse shows a table's engine: TTL stands behind the sorting key and before the settings.
_SHOWN = re.compile(r" TTL (?P<ttl>.+?)(?: SETTINGS .*)?$", re.DOTALL)
_UNITS_S = {"Second": 1, "Minute": 60, "Hour": 3600, "Day": 86_400, "Week": 604_800}
_AGE = re.compile(rf"toDateTime\(appended_at\) \+ toInterval(?P<unit>{'|'.join(_UNITS_S)})\((?P<n>\d+)\)")
_CLAIMS = " WHERE NOT ((tenant = '') AND (task_id = ''))"
_KEEPS = {"agent_events_log": _CLAIMS, "conversation_outcomes_log": _CLAIMS}


def retain(client: Any, policy: HistoryPolicy, database: str = DATABASE) -> dict[str, str]:
    """Give each table the TTL of the policy, over a clickhouse-connect client; says what it changed, table by table.

    A shorter time has rows dropped that were kept until now.
    """
    held = dict(
        client.query(
            "SELECT name, engine_full FROM system.tables WHERE database = {database:String}", {"database": database}
        ).result_rows
    )
    changed = {}
    for table, kept_ms in policy.tables():
        before, after = _ttl_of(held.get(table, "")), _ttl(table, kept_ms)
        if table not in held or _same(before, after):
            continue
        change = f"MODIFY TTL {after}" if after else "REMOVE TTL"
        client.command(f"ALTER TABLE {database}.{table} {change}")
        changed[table] = f"{before or 'for ever'} -> {after or 'for ever'}"
        log.info("how long a table keeps its rows has changed", table=table, before=before, after=after)
    return changed


def _ttl(table: str, kept_ms: int | None) -> str:
    """In ClickHouse's own words; empty where rows stay."""
    if kept_ms is None:
        return ""
    return f"toDateTime(appended_at) + toIntervalSecond({-(-kept_ms // 1000)}){_KEEPS.get(table, '')}"


def _ttl_of(engine: str) -> str:
    shown = _SHOWN.search(engine)
    return shown["ttl"] if shown else ""


def _same(before: str, after: str) -> bool:
    return _in_seconds(before) == _in_seconds(after)


def _in_seconds(ttl: str) -> str:
    """Seven days are as many seconds."""

    def seconds(found: re.Match[str]) -> str:
        return f"{int(found['n']) * _UNITS_S[found['unit']]} s"

    return _AGE.sub(seconds, ttl)
