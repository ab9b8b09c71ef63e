"""Reports of the history for people without SQL: a view by its name, and flags that choose its rows.

Any view is one; which flags it takes shows in its columns. I/O: ClickHouse.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from console.cli.failures import NotFoundError, UsageError
from schemas.codes import ErrorCode
from schemas.nearest import suggest
from streams.history.queries import History, Table

ROWS = 50
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# When a row happened, the first of these that a view has.
_TIMES = ("at", "minute", "day", "decided_at", "finished_at", "routed_at", "submitted_at", "appended_at")
# What each view that people open first shows; the others hold each fact once, as docs/architecture.md says.
SHOWS: Mapping[str, str] = {
    "task_timeline": "one row for each fact of a task: its whole life",
    "results": "how each task ended, with votes and costs",
    "agent_minute": "outcomes, durations, cost and tokens, by agent and minute",
    "cascades": "failed attempts that were handed on",
    "conflicts": "panels that disagreed, and how it ended",
    "calibration": "how sure each agent was, and how often its panel agreed with it",
    "spend": "cost and tokens, by day, tenant and intent",
    "dead": "dead letters, and when they went back",
    "redriven": "dead letters that went back, and what became of them",
    "fenced_events": "what hosts wrote that had lost their inbox",
    "tasks": "what was submitted",
    "dispatches": "who was asked what, and why",
    "agent_events": "what agents did",
    "orchestrator_events": "what was decided beside: cascades, conflicts, escalations, breakers",
}


@dataclass(frozen=True, slots=True)
class Filters:
    """Which rows, and how many of the latest; None: all. Times are milliseconds since the epoch."""

    since_ms: int | None = None
    until_ms: int | None = None
    agent: str | None = None
    tenant: str | None = None
    limit: int | None = None

    def limited(self, rows: int) -> Filters:
        return replace(self, limit=rows)

    def stated(self) -> list[str]:
        """The flags that were given."""
        names = {"--since": self.since_ms, "--until": self.until_ms, "--agent": self.agent, "--tenant": self.tenant}
        return [name for name, value in {**names, "--limit": self.limit}.items() if value is not None]


@dataclass(slots=True)
class Query:
    """A statement and the values of its placeholders."""

    sql: str
    parameters: dict[str, Any] = field(default_factory=dict)


def is_name(text: str) -> bool:
    """Whether this names a report, and is no SQL."""
    return _NAME.fullmatch(text.strip()) is not None


def listed(history: History) -> Table:
    """Every report, with what it shows and the flags that choose its rows."""
    found = history.query(
        "SELECT t.name, groupArray(c.name) FROM system.tables AS t"
        " LEFT JOIN system.columns AS c ON c.database = t.database AND c.table = t.name"
        " WHERE t.database = currentDatabase() AND t.engine = 'View' GROUP BY t.name ORDER BY t.name"
    ).rows
    order = list(SHOWS)
    rows = [(name, SHOWS.get(name, ""), ", ".join(_flags(columns))) for name, columns in found]
    rows.sort(key=lambda row: order.index(row[0]) if row[0] in order else len(order))
    return Table(("report", "shows", "flags"), rows)


def report(history: History, name: str, filters: Filters, *, latest_first: bool) -> Query:
    """The statement of a report. Without a limit and unordered it is read as it comes, whatever its size.

    Raises NotFoundError where there is no such view, UsageError for a flag that it has no column for.
    """
    columns = [
        row[0]
        for row in history.query(
            "SELECT name FROM system.columns WHERE database = currentDatabase() AND table = {name:String}"
            " ORDER BY position",
            {"name": name},
        ).rows
    ]
    if not columns:
        names = [row[0] for row in listed(history).rows]
        raise NotFoundError(
            f"The history has no report {name}{suggest(name, names)}. `pointsman history` lists them.",
            code=ErrorCode.NO_REPORT,
        )
    taken = _flags(columns)
    wrong = [flag for flag in filters.stated() if flag not in taken]
    if wrong:
        raise UsageError(
            f"Report {name} cannot be chosen from by {', '.join(wrong)}: it takes {', '.join(taken)}.",
            code=ErrorCode.FLAG_VALUE,
        )
    query = Query(f"SELECT * FROM {name}")  # noqa: S608 - a name that the history has
    conditions = list(_conditions(columns, filters, query.parameters))
    if conditions:
        query.sql += f" WHERE {' AND '.join(conditions)}"
    when = _time_of(columns)
    if latest_first and when is not None:
        query.sql += f" ORDER BY {when} DESC"
    if filters.limit is not None:
        query.sql += " LIMIT {limit:UInt64}"
        query.parameters["limit"] = filters.limit
    return query


def _conditions(columns: list[str], filters: Filters, parameters: dict[str, Any]) -> Iterator[str]:
    when = _time_of(columns)
    for name, sign, moment_ms in (("since", ">=", filters.since_ms), ("until", "<", filters.until_ms)):
        if moment_ms is not None:
            parameters[name] = datetime.fromtimestamp(moment_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
            bound = f"toDateTime64({{{name}:String}}, 6, 'UTC')"
            yield f"{when} {sign} {f'toDate({bound})' if when == 'day' else bound}"
    if filters.agent is not None:
        parameters["agent"] = filters.agent
        yield _of_agent(columns)
    if filters.tenant is not None:
        parameters["tenant"] = filters.tenant
        yield "tenant = {tenant:String}"


def _of_agent(columns: list[str]) -> str:
    if "agent_id" in columns:
        return "agent_id = {agent:String}"
    asked = [f"has({name}, {{agent:String}})" for name in ("agents", "dissent") if name in columns]
    voted = ["arrayExists(vote -> vote.agent_id = {agent:String}, votes)"] if "votes" in columns else []
    return f"({' OR '.join([*asked, *voted])})"


def _time_of(columns: list[str]) -> str | None:
    return next((name for name in _TIMES if name in columns), None)


def _flags(columns: list[str]) -> list[str]:
    """The flags that a view of these columns takes."""
    timed = ["--since", "--until"] if _time_of(columns) is not None else []
    agent = ["--agent"] if {"agent_id", "agents", "votes"} & set(columns) else []
    return [*timed, *agent, *(["--tenant"] if "tenant" in columns else []), "--limit"]
