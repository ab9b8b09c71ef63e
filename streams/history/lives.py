"""One task's whole life and what hangs on it: votes, dead letters and redrives before it, its cause, what it caused.

I/O: ClickHouse, through the history.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from streams.history.queries import LOOK_UP, History

SUBMITTED, RESULT = "SUBMITTED", "RESULT"
# Kinds of rows that no fact of the task itself is: those of `task_timeline` are facts.
DEAD_LETTER, REDRIVEN, VOTE, CAUSE, CHILD = "DEAD_LETTER", "REDRIVEN", "VOTE", "CAUSE", "CHILD"
AGREED, DISSENTED = "AGREED", "DISSENTED"
CHILDREN_MAX = 200
REDRIVES_MAX = 20

Row = dict[str, Any]


def life(history: History, rows: list[Row]) -> list[Row]:
    """The rows of `task_timeline` of one task, in order, and around them rows of the same form: what it was redriven
    from and what caused it before it, the votes behind its result, the tasks that it caused last."""
    first = rows[0]
    around = [*_before(history, first), *_cause(history, first)] if first["kind"] == SUBMITTED else []
    votes = [vote for row in rows if row["kind"] == RESULT for vote in _votes(history, row)]
    told = {(row["topic"], row["partition"], row["offset"]) for row in around}
    void = [row for row in _letters(history, first) if (row["topic"], row["partition"], row["offset"]) not in told]
    return [*around, *rows, *votes, *void, *_children(history, first)]


def _row(like: Row, **said: Any) -> Row:
    """A row of the form of `like`, of the same task, that says nothing else."""
    blank = {name: "" if isinstance(value, str) else None for name, value in like.items()}
    numbers = {"attempt": 0, "seat": 0, "cost_microusd": 0, "tokens": 0, "step": like["step"], "rank": like["rank"]}
    whose = {name: like[name] for name in ("tenant", "task_id", "topic", "partition", "offset", "appended_at", "at")}
    return {**blank, **numbers, **whose, **said}


def _asked(history: History, sql: str, **parameters: Any) -> Iterator[Mapping[str, Any]]:
    table = history.query(sql, parameters, LOOK_UP)
    return (dict(zip(table.columns, row, strict=True)) for row in table.rows)


def _of_task(history: History, row: Row, columns: str, view: str) -> Iterator[Mapping[str, Any]]:
    """What a view holds of the task of a row."""
    where = "tenant = {tenant:String} AND task_id = {task_id:String}"
    sql = f"SELECT {columns} FROM {view} WHERE {where}"  # noqa: S608 - constants of this module
    return _asked(history, sql, tenant=row["tenant"], task_id=row["task_id"])


def _before(history: History, submitted: Row) -> list[Row]:
    """The dead letter that the task's record was, and its way back, as often as that happened; oldest first."""
    found: list[Row] = []
    place = (submitted["topic"], submitted["partition"], submitted["offset"])
    for _ in range(REDRIVES_MAX):
        redrive = next(
            _asked(
                history,
                "SELECT at, attempt, changed, origin_topic, origin_partition, origin_offset FROM redrives"
                " WHERE origin_topic = {topic:String} AND origin_partition = {partition:Int64}"
                " AND to_offset = {offset:Int64} LIMIT 1",
                **dict(zip(("topic", "partition", "offset"), place, strict=True)),
            ),
            None,
        )
        if redrive is None:
            break
        changed = f"changed {redrive['changed']}" if redrive["changed"] else ""
        said = _row(submitted, kind=REDRIVEN, at=redrive["at"], attempt=redrive["attempt"], detail=changed)
        place = (redrive["origin_topic"], redrive["origin_partition"], redrive["origin_offset"])
        found = [*_letters(history, submitted, place), said, *found]
    return found


def _letters(history: History, first: Row, origin: tuple[str, int, int] | None = None) -> list[Row]:
    """The dead letter of a record; without one, those whose key is the task's id: what was said of it and is void."""
    where, asked = (
        ("key = {key:String}", {"key": first["task_id"]})
        if origin is None
        else (
            "origin_topic = {topic:String} AND origin_partition = {partition:Int64} AND origin_offset = {offset:Int64}",
            dict(zip(("topic", "partition", "offset"), origin, strict=True)),
        )
    )
    columns = "appended_at, reason, detail, component, origin_topic, partition, offset, topic"
    sql = f"SELECT {columns} FROM dead_letters WHERE {where} ORDER BY appended_at LIMIT {REDRIVES_MAX}"  # noqa: S608 - constants
    return [
        _row(
            first,
            kind=DEAD_LETTER,
            at=letter["appended_at"],
            appended_at=letter["appended_at"],
            reason=letter["reason"],
            detail=f"{letter['component']}, of {letter['origin_topic']}: {letter['detail']}",
            **{name: letter[name] for name in ("topic", "partition", "offset")},
        )
        for letter in _asked(history, sql, **asked)
    ]


def _cause(history: History, submitted: Row) -> list[Row]:
    """The task that this one was caused by."""
    rows = _of_task(history, submitted, "cause_id, root_id, depth", "tasks")
    return [
        _row(
            submitted,
            kind=CAUSE,
            task_id=row["cause_id"],
            detail=f"depth {row['depth']}" + (f", root {row['root_id']}" if row["root_id"] else ""),
        )
        for row in rows
        if row["cause_id"]
    ]


def _votes(history: History, result: Row) -> list[Row]:
    rows = _of_task(history, result, "votes, dissent", "results")
    return [
        _row(
            result,
            kind=VOTE,
            status=DISSENTED if vote["agent_id"] in row["dissent"] else AGREED if result["agent_id"] else "",
            agent_id=vote["agent_id"],
            confidence=vote["confidence"],
            detail=f"weight {vote['weight']:.3g}",
            vote_key=vote["vote"],
        )
        for row in rows
        for vote in row["votes"]
    ]


def _children(history: History, first: Row) -> list[Row]:
    """What the task caused, and how that ended; the earliest CHILDREN_MAX."""
    rows = _asked(
        history,
        "SELECT t.task_id AS task_id, t.submitted_at AS at, t.text AS detail, r.status AS status, r.reason AS reason,"
        " r.cost_microusd AS cost_microusd, r.tokens AS tokens, t.topic AS topic, t.partition AS partition,"
        " t.offset AS offset, t.appended_at AS appended_at, r.decided_at AS decided_at"
        " FROM (SELECT * FROM tasks WHERE tenant = {tenant:String} AND cause_id = {task_id:String}) AS t"
        " LEFT JOIN (SELECT tenant, task_id, status, reason, cost_microusd, tokens, decided_at FROM results WHERE"
        " (tenant, task_id) IN (SELECT tenant, task_id FROM tasks_log WHERE tenant = {tenant:String}"
        " AND cause_id = {task_id:String})) AS r ON r.tenant = t.tenant AND r.task_id = t.task_id"
        " ORDER BY t.submitted_at LIMIT {most:UInt32}",
        tenant=first["tenant"],
        task_id=first["task_id"],
        most=CHILDREN_MAX,
    )
    return [
        _row(first, kind=CHILD, **{name: value for name, value in row.items() if name != "decided_at"}) for row in rows
    ]
