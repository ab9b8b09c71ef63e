"""Which dispatches of an inbox were met before, so that one that comes again is not run again.

A dispatch stands twice in an inbox where a worker that had lost its partitions wrote it once more, and is read twice
where a host took over. Of an agent that writes, the same task under another attempt is a repeat, too: two workers have
decided differently, and the agent must act once. I/O: none.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from agents.outcome import STARTED
from schemas.topology import Agent, Limits

RECENT_MAX = 10_000
"""Outcomes remembered of an agent that may run again."""


class AttemptId(NamedTuple):
    """What tells an agent's attempts apart; the same for a dispatch that is written twice."""

    tenant: str
    task_id: str
    attempt: int
    stage: str


class Logged(NamedTuple):
    """What the agent's log holds of an attempt: the kind of its last event, its answer, and its time in us."""

    kind: str
    answer: str | None = None
    at: int = 0


IN_HAND = Logged("IN_HAND")
"""Taken in by this host and not done yet, or done and remembered."""


class Memory(NamedTuple):
    """How much is remembered: `outcomes_max` of them, each for `kept_us`. A dispatch that was routed more than
    `horizon_us` after the outcome of its like is of another task: workers have forgotten the id by then, and take it
    for a new one."""

    writes: bool
    outcomes_max: int
    horizon_us: int
    kept_us: int

    @classmethod
    def of(cls, agent: Agent, limits: Limits) -> Memory:
        """As long as workers know a task, and its dispatch may still come to be called; clocks differ."""
        horizon_ms, margin_ms = limits.duplicate_horizon_ms, limits.clock_skew_margin_ms
        writes = agent.effect == "write"
        return cls(
            writes,
            limits.finished_tasks_max if writes else min(RECENT_MAX, limits.finished_tasks_max),
            max(horizon_ms - margin_ms, horizon_ms // 2) * 1000,
            (horizon_ms + agent.timeout_ms + margin_ms) * 1000,
        )


FOREVER = Memory(writes=False, outcomes_max=RECENT_MAX, horizon_us=1 << 62, kept_us=1 << 62)


class _Ended:
    """Attempts that have ended, each with the time of its outcome in us, or less. The oldest are forgotten first.

    Those that ended together are kept together, and forgotten together: of them nothing is done one by one. So as many
    as one call of an agent had may be remembered beyond `outcomes_max`.
    """

    __slots__ = ("_all_grouped", "_groups", "_memory", "_single")

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._single: OrderedDict[AttemptId, int] = OrderedDict()
        self._groups: deque[tuple[int, set[AttemptId]]] = deque()
        self._all_grouped: set[AttemptId] = set()

    def at(self, attempt: AttemptId) -> int | None:
        """When; None where it has not, or that is forgotten."""
        found = self._single.get(attempt)
        if found is None and attempt in self._all_grouped:
            return next(at for at, group in self._groups if attempt in group)
        return found

    def isdisjoint(self, attempts: set[AttemptId]) -> bool:
        return self._all_grouped.isdisjoint(attempts) and (not self._single or self._single.keys().isdisjoint(attempts))

    def add(self, attempt: AttemptId, at: int) -> list[AttemptId]:
        """Gives those that are forgotten for it."""
        single, since = self._single, at - self._memory.kept_us
        single[attempt] = at
        forgotten = []
        while single and (len(single) > self._memory.outcomes_max or next(iter(single.values())) < since):
            forgotten.append(single.popitem(last=False)[0])
        return forgotten

    def add_all(self, attempts: set[AttemptId], at: int) -> None:
        """None of them is among them."""
        groups, every, since = self._groups, self._all_grouped, at - self._memory.kept_us
        groups.append((at, attempts))
        every |= attempts
        while groups and (len(every) - len(groups[0][1]) >= self._memory.outcomes_max or groups[0][0] < since):
            every -= groups.popleft()[1]


class Recognition:
    """Of one inbox. `logged`: what its log held when this host took over, kept apart until dispatches from `until` on
    come, the inbox's end at that time."""

    def __init__(
        self, logged: Mapping[AttemptId, Logged] | None = None, until: int = 0, memory: Memory | None = None
    ) -> None:
        self._logged, self._until, self._memory = dict(logged or {}), until, memory or FOREVER
        self._in_hand: set[AttemptId] = set()
        self._ended = _Ended(self._memory)
        self._writes: dict[tuple[str, str], AttemptId] = {}
        if self._memory.writes:
            self._writes = {attempt[:2]: attempt for attempt in self._logged}

    def meet(self, attempt: AttemptId, offset: int, routed_at: int) -> Logged | None:
        """What is known of a dispatch that was read: None, if it is new and in hand from now on.

        IN_HAND: nothing is to be done for it. STARTED: it is in hand from now on, and was begun before, or may have
        been. Else its outcome, which is in the log. `routed_at` in us; offsets rise.
        """
        self._catch_up(offset)
        if attempt in self._in_hand:
            return IN_HAND
        ended_at = self._ended.at(attempt)
        if ended_at is not None and not self._is_forgotten(ended_at, routed_at):
            return IN_HAND
        logged = self._logged.pop(attempt, None)
        if logged is not None and logged.kind != STARTED and not self._is_forgotten(logged.at, routed_at):
            self._remember(attempt, logged.at)
            return logged
        began = logged is not None and logged.kind == STARTED
        if self._memory.writes:
            began = began or self._is_another_attempt(attempt, routed_at)
            self._writes[attempt[:2]] = attempt
        self._in_hand.add(attempt)
        return Logged(STARTED) if began else None

    def meet_all(self, attempts: Sequence[AttemptId], offset: int) -> bool:
        """Whether all of them are new, and differ: then they are in hand from now on; else nothing has changed.

        `offset` is that of the first. Not for agents that write.
        """
        self._catch_up(offset)
        distinct = set(attempts)
        if self._logged or len(distinct) < len(attempts):
            return False
        if not (self._in_hand.isdisjoint(distinct) and self._ended.isdisjoint(distinct)):
            return False
        self._in_hand |= distinct
        return True

    def ended(self, attempt: AttemptId, at: int) -> None:
        """It has its outcome; `at` in us."""
        self._in_hand.discard(attempt)
        self._remember(attempt, at)

    def ended_all(self, attempts: Sequence[AttemptId], at: int) -> None:
        """As `ended`, for many that were met together."""
        ended = set(attempts)
        self._in_hand -= ended
        self._ended.add_all(ended, at)

    def forget(self, attempt: AttemptId) -> None:
        """It was given up without an outcome."""
        self._in_hand.discard(attempt)

    def _is_forgotten(self, ended_at: int, routed_at: int) -> bool:
        return routed_at - ended_at > self._memory.horizon_us

    def _is_another_attempt(self, attempt: AttemptId, routed_at: int) -> bool:
        """Whether this task was met before under another attempt, which may have written."""
        other = self._writes.get(attempt[:2])
        if other is None or other == attempt:
            return False
        logged, ended_at = self._logged.get(other), self._ended.at(other)
        if ended_at is None and logged is not None and logged.kind != STARTED:
            ended_at = logged.at
        return ended_at is None or not self._is_forgotten(ended_at, routed_at)

    def _catch_up(self, offset: int) -> None:
        """What the log held and the inbox did not hold again: from here on it is remembered as all else is.

        Judged by the dispatch that is met, not by what was read: a poll may read beyond `until` at once.
        """
        if not self._logged or offset < self._until:
            return
        begun = {}
        for attempt, logged in self._logged.items():
            if logged.kind != STARTED:
                self._remember(attempt, logged.at)
            elif self._memory.writes:
                begun[attempt] = logged
        self._logged, self._until = begun, 1 << 63

    def _remember(self, attempt: AttemptId, at: int) -> None:
        for forgotten in self._ended.add(attempt, at):
            if self._writes.get(forgotten[:2]) == forgotten:
                del self._writes[forgotten[:2]]
