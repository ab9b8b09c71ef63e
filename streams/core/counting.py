"""Outcomes that were taken together, counted among those that were taken one by one.

A breaker counts failures in a row: so these are counted in the order in which they were read, too. I/O: none.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence

import numpy as np

from streams.core.health import Health
from streams.core.hearing import Hearing
from streams.core.rows import Rows, edges, listed, together


class Answers:
    """One cell's, by agent: `rows[edges[code] : edges[code + 1]]`, ascending. `slow` is how many of the first so many
    rows were slow; `failed`, the places of those that are failures, ascending: the others are good answers."""

    def __init__(
        self,
        codes: Mapping[str, int],
        rows: Sequence[int],
        slow: Sequence[int],
        failed: Sequence[int],
        edges: Sequence[int],
        health: Health,
    ) -> None:
        self._codes, self._rows, self._slow, self._failed, self._health = codes, rows, slow, failed, health
        self._counted, self._ends = list(edges[:-1]), edges[1:]

    def count_before(self, row: int, agent_id: str) -> None:
        """What the agent had said before this row."""
        code = self._codes.get(agent_id)
        if code is not None:
            self._count(agent_id, code, bisect_left(self._rows, row, self._counted[code], self._ends[code]))

    def count_all(self) -> None:
        for agent_id, code in self._codes.items():
            self._count(agent_id, code, self._ends[code])

    def _count(self, agent_id: str, code: int, upto: int) -> None:
        begun, failed = self._counted[code], self._failed
        for place in failed[bisect_left(failed, begun) : bisect_left(failed, upto)]:
            self._answered(agent_id, begun, place)
            self._health.of(agent_id).failure(slow=self._slow[place + 1] > self._slow[place], probe_epoch=0)
            begun = place + 1
        self._answered(agent_id, begun, upto)
        self._counted[code] = max(upto, begun)

    def _answered(self, agent_id: str, begun: int, upto: int) -> None:
        if upto > begun:
            self._health.of(agent_id).successes_in_a_row(upto - begun, self._slow[upto] - self._slow[begun])


def no_answers(health: Health) -> Answers:
    return Answers({}, (), (0,), (), (0,), health)


def by_agent(hearing: Hearing, taken: Sequence[Rows], healths: Sequence[Health]) -> list[Answers]:
    """The good answers and the failures that each of several cells has taken, as far as they count."""
    (rows, owner), n = together(taken), len(hearing.names)
    key = owner * n + hearing.agent[rows]
    order = np.lexsort((rows, key))
    rows = rows[order]
    ends = edges(key[order], len(taken) * n)
    failed = listed(np.flatnonzero(hearing.is_failure[rows]))
    slow = [0, *np.cumsum(hearing.is_slow[rows]).tolist()]
    codes, places = {name: code for code, name in enumerate(hearing.names)}, listed(rows)
    starts = range(0, len(taken) * n, n)
    return [
        Answers(codes, places, slow, failed, ends[start : start + n + 1], health)
        for start, health in zip(starts, healths, strict=True)
    ]
