"""What one agent was asked and did in one conversation, by primary key: the last of it, and the facts from before.

It holds rows and knows nothing of memory; console/memory/recall.py makes memories of them. I/O: HTTP, the clock.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from schemas.codes import ErrorCode
from schemas.epochs import EPOCH_MAX
from schemas.errors import UnreachableError
from streams.history.connection import Connection
from streams.history.queries import HINT

TIMEOUT_S = 1
KEYS_MAX = 64
"""Conversations in one statement: their names stand in the request's address."""

TASKS_MAX = 2_000
"""Tasks in one statement, likewise."""

# A memory is at most some hundred rows, of which copies fold here: FINAL would read the whole conversation's texts.
_LOG = "conversation_outcomes_log"
_KEYS = "{keys:Array(Tuple(String, String, String))}"
_MINE = f"(tenant, agent_id, conversation_id) IN {_KEYS}"
_COLUMNS = (
    *("ordinal", "event_id", "task_id", "attempt", "stage", "kind", "epoch", "answer", "tool_calls", "facts", "error"),
    *("cause_id", "toUnixTimestamp64Micro(started_at)", "toUnixTimestamp64Micro(finished_at)", "tokens_in"),
    *("tokens_out", "cost_microusd", "agent_version", "topic", "partition", "offset"),
)
_NO_FACTS = "CAST([], 'Array(Tuple(Int64, String, Int32, String, Int64, Array(String), Int64, String, Int32, Int64))')"
# How far each log has been read, before all else. Then, of each conversation, how many interactions it has, and the
# facts of those that are not read whole, also what a fenced host wrote: claims, which come later, tell.
_WHERE_NEXT = f"""
SELECT '' AS tenant, topic AS name, '' AS conversation_id, max(offset) + 1 AS at, {_NO_FACTS} AS facts
FROM {_LOG}
WHERE topic IN {{topics:Array(String)}} AND partition = {{partition:Int32}}
GROUP BY topic, partition
UNION ALL
SELECT
    tenant, agent_id, conversation_id, max(ordinal) AS at,
    arraySlice(
        arrayReverseSort(arrayDistinct(arrayFilter(
            each -> each.1 <= at - {{last:Int64}},
            groupArrayIf(
                (
                    ordinal, task_id, attempt, toString(stage), toUnixTimestamp64Micro(finished_at), facts, epoch,
                    toString(topic), partition, offset
                ),
                notEmpty(facts)
            )
        ))),
        1, {{facts_max:Int64}}
    )
FROM {_LOG}
WHERE {_MINE} AND epoch <= {EPOCH_MAX}
GROUP BY tenant, agent_id, conversation_id
"""  # noqa: S608 - constants
# With them the claims, out of the same parts as what stands behind them, and what models made of these interactions:
# their ordinals are negative (0017), the last that each stands for. The bounds by `least` are for the primary key.
_OUTCOMES = f"""
SELECT tenant, agent_id, conversation_id, {", ".join(_COLUMNS)}, summary
FROM {_LOG}
WHERE {_MINE} AND (ordinal >= {{least:Int64}} OR ordinal <= -{{least:Int64}} OR ordinal = 0) AND if(
    kind = 'NOTE' AND ordinal = 0,
    topic IN {{topics:Array(String)}} AND partition = {{partition:Int32}},
    abs(ordinal) >= {{floors:Array(Int64)}}[indexOf({_KEYS}, (tenant, toString(agent_id), conversation_id))]
)
"""  # noqa: S608 - constants
_TASKS = """
SELECT tenant, conversation_id, task_id, offset, text, labels
FROM conversation_tasks_log
WHERE (tenant, conversation_id) IN {conversations:Array(Tuple(String, String))}
    AND task_id IN {tasks:Array(String)}
"""
# The key names a granule or two of each part. To think about which columns to read first takes longer than to read all.
_SETTINGS = {"optimize_move_to_prewhere": "0", "max_streams_for_merge_tree_reading": "1"}

NOTE = "NOTE"
"""The kind of a claim, or of what a model made, among outcomes."""

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
    """The facts of an older answer, and where it stands."""

    ordinal: int
    task_id: str
    attempt: int
    stage: str
    at: int
    facts: tuple[str, ...]
    epoch: int
    topic: str
    partition: int
    offset: int


class _Task(NamedTuple):
    """What a submission asked, and where it stands."""

    offset: int
    text: str | None
    labels: Mapping[str, str]


_UNKNOWN = _Task(-1, None, {})


class StoredModel(NamedTuple):
    """What a model made of interactions, as the note in the agent's log has it."""

    epoch: int
    summary: str
    topic: str
    partition: int
    offset: int


class Found(NamedTuple):
    """`outcomes` by place, with copies that hosts of other epochs wrote; `facts` of those before, oldest first, with
    copies, too; `models` of the same interactions as `outcomes`."""

    outcomes: tuple[StoredOutcome, ...]
    facts: tuple[StoredFacts, ...] = ()
    models: tuple[StoredModel, ...] = ()


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
        claims: defaultdict[str, set[tuple[int, int]]] = defaultdict(set)
        logs = {"topics": sorted(topics), "partition": partition}
        wanted = sorted(keys)
        for start in range(0, len(wanted), KEYS_MAX):
            counts: dict[ConversationKey, int] = {}
            facts: dict[ConversationKey, Sequence[StoredFacts]] = {}
            asked = {**logs, "keys": wanted[start : start + KEYS_MAX], "last": last, "facts_max": facts_max}
            for tenant, name, conversation_id, at, said in self._query(_WHERE_NEXT, asked):
                if conversation_id or tenant:
                    key = tenant, name, conversation_id
                    counts[key] = at
                    facts[key] = [StoredFacts._make((*each[:5], tuple(each[5]), *each[6:])) for each in reversed(said)]
                else:
                    through[name] = min(at, through.get(name, at))  # the earliest answer holds for all
            if counts:
                floors = {key: max(at - last + 1, 1) for key, at in counts.items()}
                outcomes, models = self._outcomes(floors, logs, claims)
                found |= {key: Found(tuple(outcomes[key]), tuple(facts[key]), tuple(models[key])) for key in counts}
        return Reading(found, through, {topic: sorted(places) for topic, places in claims.items()})

    def close(self) -> None:
        self._history.close()

    def _outcomes(
        self,
        floors: Mapping[ConversationKey, int],
        logs: Mapping[str, Any],
        claims: defaultdict[str, set[tuple[int, int]]],
    ) -> tuple[Mapping[ConversationKey, Sequence[StoredOutcome]], Mapping[ConversationKey, Collection[StoredModel]]]:
        """Of each conversation from its floor on, copies folded. Claims are added to `claims`."""
        keys = {**floors, **{("", key[1], ""): 1 for key in floors if ("", key[1], "") not in floors}}
        outcomes: defaultdict[ConversationKey, list[StoredOutcome]] = defaultdict(list)
        models: defaultdict[ConversationKey, set[StoredModel]] = defaultdict(set)
        asked = {**logs, "keys": list(keys), "floors": list(keys.values()), "least": min(floors.values())}
        for row in self._query(_OUTCOMES, asked):
            *values, summary = row[3:]
            each, key = StoredOutcome._make([*values, None, {}]), (row[0], row[1], row[2])
            if each.kind != NOTE:
                if key in floors:
                    outcomes[key].append(each)
            elif summary is None:
                claims[each.topic].add((each.offset, each.epoch))
            elif key in floors:
                models[key].add(StoredModel(each.epoch, summary, each.topic, each.partition, each.offset))
        tasks = self._tasks({(*key[::2], each.task_id) for key, found in outcomes.items() for each in found})
        for key, found in outcomes.items():
            found.sort(key=lambda each: (each.ordinal, each.epoch, each.offset))
            first = {(each.event_id, each.epoch): each for each in reversed(found)}
            outcomes[key] = [
                each._replace(facts=tuple(each.facts), asked=text, labels=labels)
                for each in found
                if first[each.event_id, each.epoch] is each
                for _, text, labels in [tasks.get((*key[::2], each.task_id), _UNKNOWN)]
            ]
        return outcomes, {key: sorted(models[key], key=lambda each: (each.topic, each.offset)) for key in floors}

    def _tasks(self, wanted: Collection[tuple[str, str, str]]) -> Mapping[tuple[str, str, str], _Task]:
        """What was asked, by tenant, conversation and task: of several submissions the first."""
        found: dict[tuple[str, str, str], _Task] = {}
        ordered = sorted(wanted)
        for start in range(0, len(ordered), TASKS_MAX):
            part = ordered[start : start + TASKS_MAX]
            asked = {"conversations": sorted({key[:2] for key in part}), "tasks": sorted({key[2] for key in part})}
            for *key, offset, text, labels in self._query(_TASKS, asked):
                tenant, conversation_id, task_id = key
                known = found.get((tenant, conversation_id, task_id))
                if known is None or offset < known.offset:
                    found[tenant, conversation_id, task_id] = _Task(offset, text, labels)
        return found

    def _query(self, sql: str, parameters: Mapping[str, Any]) -> Sequence[Sequence[Any]]:
        if time.monotonic() > self._until:
            why = f"it took more than {self._timeout_s:g} s"
            raise UnreachableError("ClickHouse", self._history.url, why, HINT, code=ErrorCode.NO_CLICKHOUSE)
        return self._history.look_up(sql, parameters, _SETTINGS)
