"""What one agent was asked and did in one conversation, by primary key: the last of it, and the facts from before.

It holds rows and knows nothing of memory; console/memory/recall.py makes memories of them. I/O: HTTP, the clock.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

from schemas.codes import ErrorCode
from schemas.epochs import EPOCH_MAX
from schemas.errors import UnreachableError
from streams.history.connection import Connection
from streams.history.conversation_rows import (
    COLUMNS,
    NOTE,
    ConversationKey,
    Found,
    Parted,
    StoredFacts,
    StoredOutcome,
    parted,
)
from streams.history.queries import HINT

TIMEOUT_S = 1
KEYS_MAX = 64
"""Conversations in one statement: their names stand in the request's address."""

TASKS_MAX = 2_000
"""Tasks in one statement, likewise."""

WHOLE_ROWS = 512
"""Rows of a conversation that are read as a whole, facts and all, in one statement: some times those of a memory. A
longer one is asked about twice."""

# A memory is at most some hundred rows, of which copies fold here: FINAL would read the whole conversation's texts.
_LOG = "conversation_outcomes_log"
_KEYS = "{keys:Array(Tuple(String, String, String))}"
_MINE = f"(tenant, agent_id, conversation_id) IN {_KEYS}"
_HERE = "topic IN {topics:Array(String)} AND partition = {partition:Int32}"
_ASKED = """
SELECT tenant, conversation_id, task_id, toUnixTimestamp64Micro(submitted_at), offset, text, labels
FROM conversation_tasks_log
WHERE (tenant, conversation_id) IN {conversations:Array(Tuple(String, String))}
"""
# How far each log has been read: asked before the outcomes, so that no row is missing before it.
_THROUGH = f"""
SELECT topic, max(offset) + 1
FROM {_LOG}
WHERE {_HERE}
GROUP BY topic, partition
"""  # noqa: S608 - constants
# What was asked may be read before the outcomes or after them: of what the history has no question for, the log tells.
_WHOLE_ASKED = f"{_ASKED}LIMIT {{rows_max:Int64}}"
# With outcomes come the claims, out of the same parts as what stands behind them, and what models made of them.
_WHOLE = f"""
SELECT {", ".join(COLUMNS)}
FROM {_LOG}
WHERE {_MINE} AND (kind != '{NOTE}' OR ordinal != 0 OR {_HERE})
LIMIT {{rows_max:Int64}}
"""  # noqa: S608 - constants
# How many interactions each conversation has, and the facts of those that are not read as outcomes, also what a fenced
# host wrote: claims, which come later, tell.
_EXTENT = f"""
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
# The bounds by `least` are for the primary key.
_END = f"""
SELECT {", ".join(COLUMNS)}
FROM {_LOG}
WHERE {_MINE} AND (ordinal >= {{least:Int64}} OR ordinal <= -{{least:Int64}} OR ordinal = 0) AND if(
    kind = '{NOTE}' AND ordinal = 0,
    {_HERE},
    abs(ordinal) >= {{floors:Array(Int64)}}[indexOf({_KEYS}, (tenant, toString(agent_id), conversation_id))]
)
"""  # noqa: S608 - constants
_TASKS = f"{_ASKED}    AND task_id IN {{tasks:Array(String)}}"
# The key names a granule or two of each part. To think about which columns to read first takes longer than to read all;
# to look for a projection takes longer still. Blocks are small, so that a limit ends the reading soon.
_SETTINGS = {"optimize_move_to_prewhere": "0", "max_streams_for_merge_tree_reading": "1", "max_block_size": "2048"}
_BY_KEY = {**_SETTINGS, "optimize_use_projections": "0", "optimize_use_implicit_projections": "0"}


class _Task(NamedTuple):
    """What a submission asked, and where it stands."""

    offset: int
    text: str | None
    labels: Mapping[str, str]


_UNKNOWN = _Task(-1, None, {})
_Tasks = Mapping[tuple[str, str, str, int], _Task]
"""By tenant, conversation, task and time of submission: an id that comes again is another task."""


Claims = Mapping[str, set[tuple[int, int]]]
"""Offset and epoch of each, by topic."""


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
        bounds = {"connect_timeout": timeout_s, "send_receive_timeout": timeout_s, "query_retries": 0}
        self._history = Connection(url, user, password, **bounds)
        # What was asked does not depend on the other answers: it is on its way beside them.
        self._asking = Connection(url, user, password, **bounds)
        self._beside = ThreadPoolExecutor(1, thread_name_prefix="asked")
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
        here = {"topics": sorted(topics), "partition": partition}
        wanted = sorted(keys)
        for start in range(0, len(wanted), KEYS_MAX):
            some = wanted[start : start + KEYS_MAX]
            asked = self._beside.submit(self._asked, some)
            for topic, offset in self._query(_THROUGH, here, _SETTINGS):
                through[topic] = min(offset, through.get(topic, offset))  # the earliest answer holds for all
            read, said = self._whole(some, here, last, facts_max, asked) or self._ends(some, here, last, facts_max)
            found |= read
            for topic, places in said.items():
                claims[topic] |= places
        return Reading(found, through, {topic: sorted(places) for topic, places in claims.items()})

    def close(self) -> None:
        self._beside.shutdown()
        self._asking.close()
        self._history.close()

    def _asked(self, keys: Sequence[ConversationKey]) -> _Tasks | None:
        """What was asked, None where there is too much of it. Runs beside."""
        conversations = sorted({key[::2] for key in keys})
        rows_max = WHOLE_ROWS * len(conversations)
        asked = {"conversations": conversations, "rows_max": rows_max}
        rows = self._query(_WHOLE_ASKED, asked, history=self._asking)
        return _earliest(rows) if len(rows) < rows_max else None

    def _whole(
        self,
        keys: Sequence[ConversationKey],
        here: Mapping[str, Any],
        last: int,
        facts_max: int,
        asking: Future[_Tasks | None],
    ) -> tuple[Mapping[ConversationKey, Found], Claims] | None:
        """Found, and the claims; None where there is too much of it."""
        rows_max = WHOLE_ROWS * len(keys)
        asked = {**here, "keys": _with_claims(keys), "rows_max": rows_max}
        rows = self._query(_WHOLE, asked)
        if len(rows) >= rows_max:
            return None
        conversations, claims = parted(rows)
        facts = {key: each.take_older(last, facts_max) for key, each in conversations.items()}
        tasks = asking.result()
        if tasks is None:
            tasks = self._tasks(conversations)
        return {key: _found(each, facts[key], tasks) for key, each in conversations.items()}, claims

    def _ends(
        self, keys: Sequence[ConversationKey], here: Mapping[str, Any], last: int, facts_max: int
    ) -> tuple[Mapping[ConversationKey, Found], Claims]:
        """As `_whole`, of conversations of any length."""
        floors: dict[ConversationKey, int] = {}
        facts: dict[ConversationKey, tuple[StoredFacts, ...]] = {}
        for *key, at, said in self._query(_EXTENT, {"keys": keys, "last": last, "facts_max": facts_max}):
            floors[key[0], key[1], key[2]] = max(at - last + 1, 1)
            facts[key[0], key[1], key[2]] = tuple(
                StoredFacts._make((*each[:5], tuple(each[5]), *each[6:])) for each in reversed(said)
            )
        if not floors:
            return {}, {}
        bounds = dict.fromkeys(_with_claims(list(floors)), 1) | floors
        asked = {**here, "keys": list(bounds), "floors": list(bounds.values()), "least": min(floors.values())}
        conversations, claims = parted(self._query(_END, asked))
        tasks = self._tasks(conversations)
        return {key: _found(conversations.get(key, Parted()), facts[key], tasks) for key in floors}, claims

    def _tasks(self, conversations: Mapping[ConversationKey, Parted]) -> _Tasks:
        """What was asked of these outcomes."""
        wanted = sorted({(*key[::2], row.task_id) for key, each in conversations.items() for row in each.outcomes})
        found: list[Sequence[Any]] = []
        for start in range(0, len(wanted), TASKS_MAX):
            part = wanted[start : start + TASKS_MAX]
            asked = {"conversations": sorted({key[:2] for key in part}), "tasks": sorted({key[2] for key in part})}
            found += self._query(_TASKS, asked)
        return _earliest(found)

    def _query(
        self,
        sql: str,
        parameters: Mapping[str, Any],
        settings: Mapping[str, str] = _BY_KEY,
        history: Connection | None = None,
    ) -> Sequence[Sequence[Any]]:
        if time.monotonic() > self._until:
            why = f"it took more than {self._timeout_s:g} s"
            raise UnreachableError("ClickHouse", self._history.url, why, HINT, code=ErrorCode.NO_CLICKHOUSE)
        return (history or self._history).look_up(sql, parameters, settings)


def _with_claims(keys: Sequence[ConversationKey]) -> list[ConversationKey]:
    """Claims stand under their agent alone."""
    return [*keys, *({("", agent_id, "") for _, agent_id, _ in keys} - set(keys))]


def _earliest(rows: Iterable[Sequence[Any]]) -> _Tasks:
    """Of several submissions of one time the first."""
    found: dict[tuple[str, str, str, int], _Task] = {}
    for tenant, conversation_id, task_id, submitted_at, *said in rows:
        key = tenant, conversation_id, task_id, submitted_at
        known = found.get(key)
        if known is None or said[0] < known.offset:
            found[key] = _Task._make(said)
    return found


def _found(read: Parted, facts: tuple[StoredFacts, ...], tasks: _Tasks) -> Found:
    """With what was asked."""
    outcomes = []
    for row in read.outcomes:
        _, text, labels = tasks.get((row.tenant, row.conversation_id, row.task_id, row.submitted_at), _UNKNOWN)
        outcomes.append(StoredOutcome.of(row, text, labels))
    return Found(tuple(outcomes), facts, read.made())
