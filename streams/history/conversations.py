"""What one agent was asked and did in one conversation, by primary key: the last of it, and the facts from before.

It holds rows and knows nothing of memory; console/memory/recall.py makes memories of them. I/O: HTTP, the clock.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from schemas.codes import ErrorCode
from schemas.errors import UnreachableError
from streams.history.connection import Connection
from streams.history.migrations import DATABASE
from streams.history.queries import HINT

TIMEOUT_S = 1
KEYS_MAX = 64
"""Conversations in one statement: their names stand in the request's address."""

# A memory is at most some hundred rows, of which copies fold here: FINAL would read the whole conversation's texts.
_KEY = "(tenant, agent_id, conversation_id)"
_MINE = f"{_KEY} IN {{keys:Array(Tuple(String, String, String))}}"
_RECENT = (
    f"{_MINE} AND ordinal >= "
    f"{{floors:Array(Int64)}}[indexOf({{keys:Array(Tuple(String, String, String))}}, (tenant, toString(agent_id), "
    "conversation_id))]"
)
_COLUMNS = (
    *("ordinal", "event_id", "task_id", "attempt", "stage", "kind", "epoch", "answer", "tool_calls", "facts", "error"),
    *("cause_id", "started_us", "finished_us", "tokens_in", "tokens_out", "cost_microusd", "agent_version"),
    *("topic", "partition", "offset"),
)
_WHERE_NEXT = f"""
SELECT '' AS tenant, topic AS name, '' AS conversation_id, max(offset) + 1 AS at
FROM {DATABASE}.conversation_outcomes_log
WHERE topic IN {{topics:Array(String)}} AND partition = {{partition:Int32}}
GROUP BY topic, partition
UNION ALL
SELECT tenant, agent_id, conversation_id, max(ordinal)
FROM {DATABASE}.conversation_outcomes_log
WHERE {_MINE}
GROUP BY tenant, agent_id, conversation_id
"""  # noqa: S608 - constants
_OUTCOMES = f"""
SELECT tenant, agent_id, conversation_id, {", ".join(_COLUMNS)}, t.asked, t.labels, t.there
FROM
(
    SELECT *, toUnixTimestamp64Micro(started_at) AS started_us, toUnixTimestamp64Micro(finished_at) AS finished_us
    FROM {DATABASE}.conversation_outcomes_log
    WHERE {_RECENT}
    ORDER BY ordinal, epoch, offset
    LIMIT 1 BY tenant, agent_id, conversation_id, event_id, epoch
) AS o
LEFT JOIN
(
    SELECT
        tenant, conversation_id, task_id, argMin(text, offset) AS asked, argMin(labels, offset) AS labels, 1 AS there
    FROM {DATABASE}.conversation_tasks_log
    WHERE (tenant, conversation_id, task_id) IN
        (SELECT tenant, conversation_id, task_id FROM {DATABASE}.conversation_outcomes_log WHERE {_RECENT})
    GROUP BY tenant, conversation_id, task_id
) AS t
ON t.tenant = o.tenant AND t.conversation_id = o.conversation_id AND t.task_id = o.task_id
ORDER BY tenant, agent_id, conversation_id, ordinal, epoch
"""  # noqa: S608 - constants
# In each place the newest epoch's: what a fenced host wrote there has pinned nothing.
_FACTS = f"""
SELECT tenant, agent_id, conversation_id, ordinal, argMax((task_id, attempt, stage, finished_us, facts), epoch) AS last
FROM
(
    SELECT *, toUnixTimestamp64Micro(finished_at) AS finished_us
    FROM {DATABASE}.conversation_outcomes_log
    WHERE {_MINE} AND NOT ({_RECENT})
)
GROUP BY tenant, agent_id, conversation_id, ordinal
HAVING notEmpty(last.5)
ORDER BY tenant, agent_id, conversation_id, ordinal DESC
LIMIT {{facts_max:UInt64}} BY tenant, agent_id, conversation_id
"""  # noqa: S608 - constants

_CLAIMS = f"""
SELECT DISTINCT topic, offset, epoch
FROM {DATABASE}.conversation_outcomes_log
WHERE tenant = '' AND agent_id IN {{agents:Array(String)}} AND conversation_id = ''
    AND topic IN {{topics:Array(String)}} AND partition = {{partition:Int32}}
"""  # noqa: S608 - constants

ConversationKey = tuple[str, str, str]
"""Tenant, agent, conversation."""


class StoredOutcome(NamedTuple):
    """A row of the history: an outcome, and what was asked. `asked` is None where the submission is not stored yet, or
    no more. Times are in microseconds since the epoch, costs in millionths of a dollar."""

    ordinal: int
    event_id: str
    task_id: str
    attempt: int
    stage: str
    kind: str
    epoch: int
    answer: str | None
    tool_calls: str | None
    facts: tuple[str, ...]
    error: str | None
    cause_id: str | None
    started_at: int
    finished_at: int
    tokens_in: int
    tokens_out: int
    cost_microusd: int
    agent_version: str
    topic: str
    partition: int
    offset: int
    asked: str | None
    labels: Mapping[str, str]


class StoredFacts(NamedTuple):
    """The facts of an older answer."""

    ordinal: int
    task_id: str
    attempt: int
    stage: str
    at: int
    facts: tuple[str, ...]


class Found(NamedTuple):
    """`outcomes` by place, with copies that hosts of other epochs wrote; `facts` of those before, oldest first."""

    outcomes: tuple[StoredOutcome, ...]
    facts: tuple[StoredFacts, ...] = ()


class Reading(NamedTuple):
    """`through`: how far the history has read each agent's log, by topic: the offset behind the last interaction or
    claim; all that stands before it is in `found`. `claims`: offset and epoch of those in each log."""

    found: Mapping[ConversationKey, Found]
    through: Mapping[str, int]
    claims: Mapping[str, Sequence[tuple[int, int]]]


class Conversations:
    """Reads one history; one thread at a time.

    `timeout_s` is what each answer may take, and after which no other is asked for: a reading ends within twice that.
    """

    def __init__(self, url: str, user: str = "default", password: str = "", timeout_s: float = TIMEOUT_S) -> None:
        self._history = Connection(
            url,
            user,
            password,
            database=DATABASE,
            connect_timeout=timeout_s,
            send_receive_timeout=timeout_s,
            query_retries=0,
        )
        self._timeout_s, self._until = timeout_s, 0.0

    def read(
        self, keys: Collection[ConversationKey], topics: Collection[str], partition: int, last: int, facts_max: int
    ) -> Reading:
        """Of each conversation the interactions from `last` before its end on, by ordinal, and up to `facts_max` older
        answers that have facts. `topics` are the logs of their agents.

        Raises UnreachableError, QueryError.
        """
        self._until = time.monotonic() + self._timeout_s
        found: dict[ConversationKey, Found] = {}
        through: dict[str, int] = {}
        logs = {"topics": sorted(topics), "partition": partition}
        wanted = sorted(keys)
        for start in range(0, len(wanted), KEYS_MAX):
            counts = {}
            asked = {**logs, "keys": wanted[start : start + KEYS_MAX]}
            for tenant, name, conversation_id, at in self._query(_WHERE_NEXT, asked):
                if conversation_id or tenant:
                    counts[tenant, name, conversation_id] = at
                else:
                    through[name] = min(at, through.get(name, at))  # the earliest answer holds for all
            if counts:
                found |= self._found(counts, last, facts_max)
        # Asked last: they are there before anything that stands behind them.
        claims: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
        for topic, offset, epoch in self._query(_CLAIMS, {**logs, "agents": sorted({key[1] for key in keys})}):
            claims[topic].append((offset, epoch))
        return Reading(found, through, claims)

    def close(self) -> None:
        self._history.close()

    def _found(self, counts: Mapping[ConversationKey, int], last: int, facts_max: int) -> dict[ConversationKey, Found]:
        keys = list(counts)
        asked: dict[str, Any] = {"keys": keys, "floors": [max(counts[key] - last + 1, 1) for key in keys]}
        outcomes: defaultdict[ConversationKey, list[StoredOutcome]] = defaultdict(list)
        for row in self._query(_OUTCOMES, asked):
            *values, text, labels, there = row[3:]
            each = StoredOutcome._make([*values, text if there else None, labels])
            outcomes[row[0], row[1], row[2]].append(each._replace(facts=tuple(each.facts)))
        facts: defaultdict[ConversationKey, list[StoredFacts]] = defaultdict(list)
        if max(asked["floors"]) > 1:
            for *key, ordinal, (task_id, attempt, stage, at, said) in self._query(
                _FACTS, {**asked, "facts_max": facts_max}
            ):
                tenant, agent_id, conversation_id = key
                facts[tenant, agent_id, conversation_id].append(
                    StoredFacts(ordinal, task_id, attempt, stage, at, tuple(said))
                )
        return {key: Found(tuple(outcomes[key]), tuple(facts[key][::-1])) for key in keys}

    def _query(self, sql: str, parameters: Mapping[str, Any]) -> Sequence[Sequence[Any]]:
        if time.monotonic() > self._until:
            why = f"it took more than {self._timeout_s:g} s"
            raise UnreachableError("ClickHouse", self._history.url, why, HINT, code=ErrorCode.NO_CLICKHOUSE)
        return self._history.look_up(sql, parameters)
