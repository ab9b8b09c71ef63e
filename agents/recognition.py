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
    """Attempts that have ended one by one, each with the time of its outcome in us, or less. The oldest are forgotten
    first."""

    __slots__ = ("_memory", "_times")

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._times: OrderedDict[AttemptId, int] = OrderedDict()

    def at(self, attempt: AttemptId) -> int | None:
        """When; None where it has not, or that is forgotten."""
        return self._times.get(attempt)

    def isdisjoint(self, attempts: set[AttemptId]) -> bool:
        return not self._times or self._times.keys().isdisjoint(attempts)

    def add(self, attempt: AttemptId, at: int) -> list[AttemptId]:
        """Gives those that are forgotten for it."""
        times, since = self._times, at - self._memory.kept_us
        times[attempt] = at
        forgotten = []
        while times and (len(times) > self._memory.outcomes_max or next(iter(times.values())) < since):
            forgotten.append(times.popitem(last=False)[0])
        return forgotten


class _Together:
    """Attempts that were met together: in hand, or ended and remembered. Most are.

    A set of all that is remembered is larger than the caches, and each look costs: so one set holds both, and who ends
    is only put into a group. Groups are forgotten as a whole, the oldest first: as many as one call of an agent had may
    be remembered beyond `outcomes_max`.
    """

    __slots__ = ("_all", "_ended", "_groups", "_memory")

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._all: set[AttemptId] = set()
        self._groups: deque[tuple[int, set[AttemptId]]] = deque()
        self._ended = 0  # how many the groups hold

    def __contains__(self, attempt: AttemptId) -> bool:
        return attempt in self._all

    def meet(self, attempts: set[AttemptId]) -> bool:
        """Whether none of them is among them; then they all are, in hand."""
        if not self._all.isdisjoint(attempts):
            return False
        self._all |= attempts
        return True

    def discard(self, attempt: AttemptId) -> None:
        """It is remembered elsewhere, or not at all."""
        self._all.discard(attempt)

    def ended(self, attempts: set[AttemptId], at: int) -> None:
        """They have been met and are in hand no more; `at` in us."""
        groups, since = self._groups, at - self._memory.kept_us
        groups.append((at, attempts))
        self._ended += len(attempts)
        while groups and (self._ended - len(groups[0][1]) >= self._memory.outcomes_max or groups[0][0] < since):
            forgotten = groups.popleft()[1]
            self._ended -= len(forgotten)
            self._all -= forgotten

    def at(self, attempt: AttemptId) -> int | None:
        """When one of them ended; None where it is in hand."""
        return next((at for at, group in self._groups if attempt in group), None)


class Recognition:
    """Of one inbox. `logged`: what its log held when this host took over, kept apart until dispatches from `until` on
    come, the inbox's end at that time."""

    def __init__(
        self, logged: Mapping[AttemptId, Logged] | None = None, until: int = 0, memory: Memory | None = None
    ) -> None:
        self._logged, self._until, self._memory = dict(logged or {}), until, memory or FOREVER
        self._in_hand: set[AttemptId] = set()  # of those that were met one by one
        self._ended, self._together = _Ended(self._memory), _Together(self._memory)
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
        if ended_at is None and attempt in self._together:
            ended_at = self._together.at(attempt)
            if ended_at is None:
                return IN_HAND
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

    def meet_all(self, attempts: Sequence[AttemptId], offset: int) -> set[AttemptId] | None:
        """The same as a set, if all of them are new, and differ: then they are in hand from now on. Else None, and
        nothing has changed.

        `offset` is that of the first. Not for agents that write.
        """
        self._catch_up(offset)
        distinct = set(attempts)
        if self._logged or len(distinct) < len(attempts):
            return None
        is_new = self._in_hand.isdisjoint(distinct) and self._ended.isdisjoint(distinct)
        return distinct if is_new and self._together.meet(distinct) else None

    def ended(self, attempt: AttemptId, at: int) -> None:
        """It has its outcome; `at` in us."""
        self.forget(attempt)
        self._remember(attempt, at)

    def ended_all(self, attempts: set[AttemptId], at: int) -> None:
        """As `ended`, for many that were met together."""
        self._together.ended(attempts, at)

    def forget(self, attempt: AttemptId) -> None:
        """It was given up without an outcome."""
        if attempt in self._in_hand:
            self._in_hand.remove(attempt)
        else:
            self._together.discard(attempt)

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
