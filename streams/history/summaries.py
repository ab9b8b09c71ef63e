"""Summaries of conversations in the history: which are due, what is stored, and what people revoked.

It holds rows and knows nothing of memory; console/memory/summaries.py makes them. I/O: HTTP.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from streams.history.connection import Connection
from streams.history.conversation_rows import ConversationKey

TIMEOUT_S = 60
TABLE = "conversation_summaries"
_KEY = "tenant, agent_id, conversation_id"
_MINE = f"({_KEY}) IN {{keys:Array(Tuple(String, String, String))}}"
# Ordinals have no gaps, so that a chunk is complete when its last one is there.
_DUE = f"""
SELECT {_KEY}, partition
FROM
(
    SELECT {_KEY}, partition, ordinal
    FROM
    (
        SELECT {_KEY}, partition, ordinal, max(ordinal) OVER (PARTITION BY {_KEY}) AS newest
        FROM conversation_outcomes_log
        WHERE ordinal > 0 AND ordinal % {{each:Int64}} = 0 AND appended_at >= {{since:DateTime64(3, 'UTC')}}
    )
    WHERE ordinal > newest - {{within:Int64}}
) AS o
LEFT ANTI JOIN
(
    -- Made after what they stand for: so little is read, however many there are.
    SELECT {_KEY}, last FROM {TABLE} WHERE maker = {{maker:String}} AND appended_at >= {{since:DateTime64(3, 'UTC')}}
) AS s
ON s.tenant = o.tenant AND s.agent_id = o.agent_id AND s.conversation_id = o.conversation_id AND s.last = o.ordinal
GROUP BY {_KEY}, partition
ORDER BY {_KEY}, partition
"""  # noqa: S608 - constants
_REVOKED = f"""
SELECT {_KEY}, groupUniqArrayArray(interactions)
FROM memory_directives_log
WHERE kind = 'REVOKE'
GROUP BY {_KEY}
"""  # noqa: S608 - constants
_PARTITIONS = f"""
SELECT {_KEY}, any(partition) FROM conversation_outcomes_log WHERE {_MINE} AND ordinal > 0 GROUP BY {_KEY}
"""  # noqa: S608 - constants


class StoredSummary(NamedTuple):
    """A row. `ordinals` and `members` are the numbers and ids of the interactions that it stands for, without those
    that were revoked; `origins` name for each line the one that it is taken from."""

    tenant: str
    agent_id: str
    conversation_id: str
    first: int
    last: int
    kind: str
    maker: str
    ordinals: tuple[int, ...]
    members: tuple[str, ...]
    lines: tuple[str, ...]
    origins: tuple[str, ...]
    tokens: int

    @property
    def key(self) -> ConversationKey:
        return self.tenant, self.agent_id, self.conversation_id


class Summaries:
    """Reads and writes one history; one thread at a time.

    All of it raises UnreachableError, QueryError.
    """

    def __init__(self, url: str, user: str = "default", password: str = "", timeout_s: float = TIMEOUT_S) -> None:
        self._history = Connection(url, user, password, send_receive_timeout=timeout_s)

    def due(self, since: datetime, maker: str, each: int, within: int) -> list[tuple[ConversationKey, int]]:
        """Conversations, with the partition of their logs, that lack a summary of a chunk of `each` interactions whose
        last outcome was appended since then; of the last `within` interactions alone."""
        rows = self._history.look_up(_DUE, {"since": since, "maker": maker, "each": each, "within": within})
        return [((tenant, agent_id, name), partition) for tenant, agent_id, name, partition in rows]

    def of(self, keys: Collection[ConversationKey]) -> list[StoredSummary]:
        """What is stored of these conversations, also what stands for interactions that were revoked since."""
        rows = self._history.look_up(
            f"SELECT {', '.join(StoredSummary._fields)} FROM {TABLE} FINAL WHERE {_MINE} ORDER BY {_KEY}, first",  # noqa: S608 - constants
            {"keys": sorted(keys)},
        )
        return [StoredSummary._make([*row[:7], *map(tuple, row[7:11]), row[11]]) for row in rows]

    def revoked(self) -> dict[ConversationKey, frozenset[str]]:
        """Ids of the interactions that people revoked."""
        return {(row[0], row[1], row[2]): frozenset(row[3]) for row in self._history.look_up(_REVOKED, {})}

    def partitions(self, keys: Collection[ConversationKey]) -> dict[ConversationKey, int]:
        """Where the logs of these conversations are."""
        rows = self._history.look_up(_PARTITIONS, {"keys": sorted(keys)})
        return {(tenant, agent_id, name): partition for tenant, agent_id, name, partition in rows}

    def put(self, rows: Sequence[StoredSummary]) -> None:
        """Stores them. What is stored of the same chunk, made in the same way, is replaced."""
        made_at = datetime.fromtimestamp(time.time(), UTC)
        columns = [*StoredSummary._fields, "appended_at"]
        self._history.insert(TABLE, [[*row, made_at] for row in rows], columns)

    def close(self) -> None:
        self._history.close()
