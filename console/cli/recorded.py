"""Finished tasks as the history has them, in the form in which they can be decided anew: `streams.core.replay`.

I/O: ClickHouse, through the history.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from schemas.records import record, table
from streams.core.columns import Submissions
from streams.core.replay import Call, Recorded, Told
from streams.core.task import TaskKey
from streams.history.queries import History

CHUNK_TASKS = 1_000
_FLOOR = "BREAKER_FLOOR"
_SUBMITTED = record("TaskSubmitted").arrow.names
_EVENT = (
    *("event_id", "kind", "answer", "vote_key", "payload", "confidence", "citations", "error_class", "error"),
    *("tokens_in", "tokens_out", "cost_microusd"),
)


@dataclass(frozen=True)
class Ended:
    """One finished task as it was; `calls` in their order, `took_ms` from the first decision to the result."""

    key: TaskKey
    calls: tuple[Call, ...]
    intent: str | None
    status: str
    reason: str
    cost_microusd: int
    tokens: int
    took_ms: int
    route_version: str


@dataclass(frozen=True)
class Chunk:
    """Some tasks: what is decided anew, and, in the same order, what became of them."""

    submissions: Submissions
    recorded: Sequence[Recorded]
    ended: Sequence[Ended]


@dataclass
class _Breakers:
    """When each breaker changed its phase."""

    times: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    phases: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    @classmethod
    def read(cls, history: History) -> _Breakers:
        found = cls()
        changes = "SELECT agent_id, state, toUnixTimestamp64Milli(appended_at) AS at_ms FROM breaker_states"
        for agent, phase, at_ms in history.query(f"{changes} ORDER BY at_ms, offset").rows:
            found.times[agent].append(at_ms)
            found.phases[agent].append(phase)
        return found

    def blocked(self, at_ms: int) -> frozenset[str]:
        latest = {agent: bisect_right(times, at_ms) - 1 for agent, times in self.times.items()}
        return frozenset(
            agent for agent, place in latest.items() if place >= 0 and self.phases[agent][place] != "CLOSED"
        )


def chunks(history: History, since_ms: int, until_ms: int, limit: int) -> Iterator[Chunk]:
    """The latest `limit` tasks that ended within a time, oldest first. Raises UnreachableError, QueryError."""
    rows = history.query(
        "SELECT tenant, task_id, status, reason, intent, cost_microusd, tokens, toUnixTimestamp64Milli(decided_at),"
        " route_version FROM results WHERE decided_at >= fromUnixTimestamp64Milli({since:Int64})"
        " AND decided_at < fromUnixTimestamp64Milli({until:Int64}) ORDER BY decided_at DESC LIMIT {limit:UInt64}",
        {"since": since_ms, "until": until_ms, "limit": limit},
    ).rows[::-1]
    breakers = _Breakers.read(history)
    for first in range(0, len(rows), CHUNK_TASKS):
        part = rows[first : first + CHUNK_TASKS]
        yield _chunk(history, {(row[0], row[1]): row[2:] for row in part}, breakers)


def _chunk(history: History, results: Mapping[TaskKey, tuple[Any, ...]], breakers: _Breakers) -> Chunk:
    tasks = _by_task(history, results, ", ".join(_submitted()), "tasks", "offset")
    dispatches = _by_task(
        history,
        results,
        "agent_id, stage, attempt, reason, intent, toUnixTimestamp64Milli(routed_at) AS at_ms",
        "dispatches",
        "attempt",
    )
    events = _by_task(
        history,
        results,
        f"agent_id, stage, attempt, {', '.join(_EVENT)}, toUnixTimestamp64Micro(started_at) AS started_at,"
        " toUnixTimestamp64Micro(finished_at) AS finished_at, toUnixTimestamp64Milli(appended_at) AS at_ms",
        "agent_events",
        "at_ms",
        " AND kind IN ('COMPLETED', 'FAILED', 'REFUSED')",
    )
    keys = [key for key in results if key in tasks]
    submitted = [tasks[key][0] for key in keys]
    recorded, ended = [], []
    for row, key in enumerate(keys):
        status, reason, intent, cost, tokens, decided_ms, version = results[key]
        asked = dispatches.get(key, [])
        at_ms = asked[0]["at_ms"] if asked else decided_ms
        told = _told(submitted[row], asked, events.get(key, []))
        open_ = breakers.blocked(at_ms) - {each["agent_id"] for each in asked if each["reason"] != _FLOOR}
        recorded.append(Recorded(row, at_ms, told, open_))
        calls = tuple(Call(each["agent_id"], each["stage"]) for each in asked)
        ended.append(Ended(key, calls, intent, status, reason, cost, tokens, decided_ms - at_ms, version))
    return Chunk(_submissions(submitted), recorded, ended)


def _submitted() -> Iterator[str]:
    for name in _SUBMITTED:
        yield "toUnixTimestamp64Micro(submitted_at) AS submitted_at" if name == "submitted_at" else name


def _by_task(
    history: History, keys: Mapping[TaskKey, Any], columns: str, view: str, order: str, more: str = ""
) -> dict[TaskKey, list[dict[str, Any]]]:
    found: dict[TaskKey, list[dict[str, Any]]] = defaultdict(list)
    whose = "" if view == "tasks" else "tenant, task_id, "
    answer = history.query(
        f"SELECT {whose}{columns} FROM {view} WHERE tenant IN {{tenants:Array(String)}}"  # noqa: S608 - constants
        f" AND task_id IN {{ids:Array(String)}}{more} ORDER BY {order}",
        {"tenants": sorted({tenant for tenant, _ in keys}), "ids": [task_id for _, task_id in keys]},
    )
    for row in answer.rows:
        values = dict(zip(answer.columns, row, strict=True))
        found[values["tenant"], values["task_id"]].append(values)
    return found


def _submissions(rows: Sequence[Mapping[str, Any]]) -> Submissions:
    columns = {name: [row[name] for row in rows] for name in _SUBMITTED}
    columns["labels"] = [list(row["labels"].items()) for row in rows]
    n = len(rows)
    return Submissions(
        batch=table("TaskSubmitted", columns, n),
        keys=[(row["conversation_id"] or row["task_id"]).encode() for row in rows],
        frames=[b""] * n,
        datums=[b""] * n,
        offsets=list(range(n)),
        appended_ms=[row["submitted_at"] // 1000 for row in rows],
    )


def _told(
    task: Mapping[str, Any], asked: Sequence[Mapping[str, Any]], events: Sequence[Mapping[str, Any]]
) -> dict[Call, Told]:
    """What each call came to, by its first outcome; a call without one was met with silence."""
    names = ("task_id", "tenant", "conversation_id", "root_id", "cause_id", "depth", "traceparent", "submitted_at")
    identity = {name: task[name] for name in names} | {"labels": list(task["labels"].items()), "deadline_ms": 0}
    told: dict[Call, Told] = {}
    for dispatch in asked:
        call = Call(dispatch["agent_id"], dispatch["stage"])
        mine = (
            event
            for event in events
            if (event["agent_id"], event["stage"], event["attempt"]) == (*call, dispatch["attempt"])
        )
        event = next(mine, None)
        if event is None:
            told.setdefault(call, Told(None))
            continue
        body = {name: event[name] for name in (*_EVENT, "started_at", "finished_at")} | {"task": identity}
        told.setdefault(call, Told(body, max(0, event["at_ms"] - dispatch["at_ms"])))
    return told
