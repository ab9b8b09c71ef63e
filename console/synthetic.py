"""Millions of whole lives of tasks as rows of the history, made by ClickHouse itself: for measuring at size.

The same seed gives the same rows. Task n is submitted n steps after the beginning, so that rows come as they would
have: in time, by block. Of all tasks 15 % go to a panel of two, of which a tenth disagree; 5 % of the others fail first
and are answered by the next agent; one task in a hundred is written twice. A few conversations are very long, as in
life. I/O: ClickHouse.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from schemas.topology import Topology

TENANTS = ("default", "default", "default", "acme", "globex", "initech")
CONVERSATIONS = 200_000
INTERACTIONS_PER_TASK = 1.2
SPAN_DAYS = 30
BLOCK_TASKS = 500_000
REPEATED_PER_TASKS = 100
CLAIMS = 6  # hosts that had each agent's log one after the other
PARTITIONS = 4
# Behind all offsets that the lives have.
REPEATS_AT = 1_000_000_000_000

# What every table's rows are made from: one row a task, then one an attempt. `h` draws, by name, from 0 to 999,999.
_TASKS = """
    SELECT
        number AS n,
        lower(hex(reinterpret(sipHash128(number, {seed}), 'FixedString(16)'))) AS task_id,
        {tenants}[1 + sipHash64(n, 't') % {tenants_count}] AS tenant,
        concat('c', toString(toUInt32(pow(h(n, 'c') / 1e6, 2) * {conversations}))) AS conversation_id,
        toDateTime64({began}, 6, 'UTC') + toIntervalMicrosecond(toUInt64(n * {step_us})) AS submitted_at,
        {intents}[1 + sipHash64(n, 'i') % {intents_count}] AS intent,
        round(h(n, 'f') / 1e6, 2) AS sure,
        h(n, 'k') < 150000 AS is_panel, NOT is_panel AND h(n, 'x') < 50000 AS is_cascade,
        is_panel AND h(n, 'd') < 100000 AS is_conflict,
        arrayMap(a -> {agents}[1 + (sipHash64(n, 'a') + a) % {agents_count}], if(is_panel, [1, 2], [1 + is_cascade])) AS
            asked,
        submitted_at + toIntervalMillisecond(150 + h(n, 'z') % 900) AS decided_at,
        toInt32(n % {partitions}) AS partition, toInt64(n + {offset}) AS offset
    FROM numbers({first}, {count})
    WHERE n % {every} = 0
"""
_ATTEMPTS = """
    SELECT *,
        arrayJoin(if(is_panel OR is_cascade, [1, 2], [1])) AS attempt,
        {agents}[1 + (sipHash64(n, 'a') + attempt) % {agents_count}] AS agent_id,
        if(is_panel, attempt - 1, 0) AS seat, if(is_panel, 'PANEL', 'SINGLE') AS band,
        is_cascade AND attempt = 1 AS is_failed,
        submitted_at + toIntervalMicrosecond(20000 * if(is_panel, 1, attempt)) AS routed_at,
        routed_at + toIntervalMicrosecond(5000) AS started_at,
        started_at + toIntervalMicrosecond(1000 + pow(h(n, concat('l', toString(attempt))) / 1e6, 4) * 900000) AS
            finished_at
    FROM ({tasks})
"""
_DRAWS = "WITH (a, b) -> sipHash64(a, b) % 1000000 AS h"
_CLAIMS = """
    (tenant, task_id, event_id, kind, agent_id, reason, epoch, topic, partition, offset, appended_at)
    SELECT '', '', concat('claim ', agent, toString(p), ' ', toString(e)), 'NOTE', agent, 'CLAIMED', 1 + e,
        concat({prefix}, agent, {events}), p, intDiv(e * {all} + {claims} - 1, {claims}) - 1,
        toDateTime64({began}, 3, 'UTC') + toIntervalSecond(intDiv(e * {span_s}, {claims}))
    FROM (SELECT arrayJoin({agents}) AS agent, arrayJoin(range({partitions})) AS p, arrayJoin(range({claims})) AS e)
"""
_TEXT = """
    concat('What was the ', ['revenue', 'margin', 'growth', 'turnover', 'headcount', 'churn'][1 + n % 6], ' of region ',
        toString(h(n, 'r') % 300), ' in quarter ', toString(n % 4 + 1),
        ', and please say in two sentences where that comes from? Case ', hex(sipHash64(n, 'q')))
"""
_ANSWER = """
    concat('The figure is ', toString(h(n, 'v') * 17), ' dollars, as the ledger of the region has it, page ',
        toString(n % 97))
"""
_TASK = ("tenant", "task_id", "conversation_id", "intent", "submitted_at")
_ATTEMPT = ("agent_id", "attempt", "seat", "band", "routed_at")


def _columns(*same: str, at: str, topic: str, **computed: str) -> dict[str, str]:
    """What each column is computed from; `same` stand so in the source."""
    placed = {
        "topic": topic,
        "partition": "partition",
        "offset": "offset",
        "appended_at": f"toDateTime64({at}, 3, 'UTC')",
    }
    return {name: name for name in same} | computed | placed


_TABLES: dict[str, tuple[str, dict[str, str]]] = {
    "tasks_log": (
        "tasks",
        _columns(
            *_TASK,
            text=_TEXT,
            confidence="sure",
            value_tier="'MEDIUM'",
            data_class="'INTERNAL'",
            at="submitted_at",
            topic="{submitted}",
        ),
    ),
    "dispatches_log": (
        "attempts",
        _columns(
            *_TASK,
            *_ATTEMPT,
            stage="'WORK'",
            confidence="sure",
            value_tier="'MEDIUM'",
            panel="if(is_panel, [agent_id], [])",
            chain="[intent, agent_id]",
            reason="multiIf(is_panel, 'PANEL', attempt > 1, 'CASCADE', 'ROUTED')",
            route_version="'v1'",
            attempts="attempt",
            timeout_ms="2000",
            deadline_default_ms="toUnixTimestamp64Milli(submitted_at) + 30000",
            at="routed_at",
            topic="concat({prefix}, agent_id, {inbox})",
        ),
    ),
    "agent_events_log": (
        "attempts",
        _columns(
            *_TASK,
            *_ATTEMPT,
            "started_at",
            "finished_at",
            event_id="lower(hex(reinterpret(sipHash128(n, attempt, 'e'), 'FixedString(16)')))",
            kind="if(is_failed, 'FAILED', 'COMPLETED')",
            stage="'WORK'",
            reason="'ROUTED'",
            route_version="'v1'",
            attempts="attempt",
            timeout_ms="2000",
            agent_version="'1'",
            epoch="1 + toInt64(intDiv(n * {claims}, {all}))",
            answer=f"if(is_failed, NULL, {_ANSWER})",
            vote_key="if(is_failed, NULL, toString(h(n, 'v')))",
            confidence="if(is_failed, NULL, round(0.7 + h(n, 'y') / 4e6, 2))",
            error_class="if(is_failed, 'TIMEOUT', NULL)",
            tokens_in="100 + h(n, 'u') % 800",
            tokens_out="10 + h(n, 'w') % 80",
            cost_microusd="h(n, 'm') % 3000",
            deadline_ms="toUnixTimestamp64Milli(submitted_at) + 30000",
            at="finished_at",
            topic="concat({prefix}, agent_id, {events})",
        ),
    ),
    "orchestrator_events_log": (
        "tasks",
        _columns(
            *_TASK,
            event_id="concat(hex(sipHash64(n, 'o')), hex(sipHash64(n, 'p')))",
            kind="if(is_cascade, 'CASCADED', 'CONFLICT')",
            agent_id="if(is_cascade, {agents}[1 + (sipHash64(n, 'a') + 1) % {agents_count}], NULL)",
            attempt="toInt32(is_cascade)",
            stage="'WORK'",
            reason="if(is_cascade, 'TIMED_OUT', 'NO_CONSENSUS')",
            at="submitted_at + toIntervalMillisecond(60)",
            route_version="'v1'",
            topic="{orchestrator}",
        )
        | {"at": "submitted_at + toIntervalMillisecond(60)"},
    ),
    "results_log": (
        "tasks",
        _columns(
            *_TASK,
            "decided_at",
            status="if(is_conflict, 'ESCALATED', 'COMPLETED')",
            reason="multiIf(is_conflict, 'NO_CONSENSUS', is_panel, 'CONSENSUS', 'ANSWERED')",
            answer=f"if(is_conflict, NULL, {_ANSWER})",
            confidence="round(0.7 + h(n, 'y') / 4e6, 2)",
            agents="if(is_conflict, [], asked)",
            votes="if(is_panel, arrayMap(a -> (a, 'yes', round(0.7 + h(n, a) / 4e6, 2), 1.5), asked), [])",
            attempts="1 + (is_panel OR is_cascade)",
            cost_microusd="h(n, 'm') % 3000",
            tokens="100 + h(n, 'u') % 800",
            route_version="'v1'",
            at="decided_at",
            topic="{results}",
        ),
    ),
}
_ONLY = {"orchestrator_events_log": "is_cascade OR is_conflict"}


@dataclass(frozen=True)
class Lives:
    """How many tasks there are, and whose."""

    topology: Topology
    tasks: int
    began_s: int
    seed: int = 1

    def statements(self, database: str) -> Iterator[str]:
        """The inserts, block by block in the order of time, and last what was written twice, and the claims."""
        for first in range(0, self.tasks, BLOCK_TASKS):
            yield from self._block(database, first, min(BLOCK_TASKS, self.tasks - first), 1, 0)
        yield from self._block(database, 0, self.tasks, REPEATED_PER_TASKS, REPEATS_AT)
        yield from self._claims(database)

    def _block(self, database: str, first: int, count: int, every: int, offset: int) -> Iterator[str]:
        given = self._given() | {"first": first, "count": count, "every": every, "offset": offset}
        tasks = _TASKS.format(**given)
        sources = {"tasks": tasks, "attempts": _ATTEMPTS.format(**given, tasks=tasks)}
        for table, (source, columns) in _TABLES.items():
            names = ", ".join(f"`{name}`" for name in columns)
            values = ", ".join(columns.values()).format(**given)
            where = f"WHERE {_ONLY[table]}" if table in _ONLY else ""
            rows = f"SELECT {values} FROM ({sources[source]}) {where}"  # noqa: S608 - constants of this module
            yield f"INSERT INTO {database}.{table} ({names}) {_DRAWS} {rows}"

    def _claims(self, database: str) -> Iterator[str]:
        yield f"INSERT INTO {database}.agent_events_log {_CLAIMS}".format(**self._given())

    def _given(self) -> dict[str, object]:
        topics, agents = self.topology.topics(), sorted(self.topology.agents)
        prefix, inbox = topics.inbox("?").split("?")
        _, events = topics.events("?").split("?")
        names = {name: _text(getattr(topics, name)) for name in ("submitted", "results", "orchestrator")}
        lists = {"tenants": TENANTS, "intents": list(self.topology.routes), "agents": agents}
        return {
            **names,
            **{name: f"[{', '.join(map(_text, values))}]" for name, values in lists.items()},
            **{f"{name}_count": len(values) for name, values in lists.items()},
            "prefix": _text(prefix),
            "inbox": _text(inbox),
            "events": _text(events),
            "seed": self.seed,
            "began": self.began_s,
            "step_us": SPAN_DAYS * 86_400e6 / self.tasks,
            "span_s": SPAN_DAYS * 86_400,
            "conversations": CONVERSATIONS,
            "claims": CLAIMS,
            "all": self.tasks,
            "partitions": PARTITIONS,
        }


def fill(run: Callable[[str], object], lives: Lives, database: str) -> None:
    """Puts the rows into tables that are there; `run` runs one statement."""
    for statement in lives.statements(database):
        run(statement)


def _text(value: object) -> str:
    return "'" + str(value).replace("\\", "\\\\").replace("'", "\\'") + "'"
