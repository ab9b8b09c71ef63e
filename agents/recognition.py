"""Which dispatches of an inbox were met before, so that one that comes again is not run again.

A dispatch stands twice in an inbox where a worker that had lost its partitions wrote it once more, and is read twice
where a host took over. Of an agent that writes, the same task under another attempt is a repeat, too: two workers have
decided differently, and the agent must act once. I/O: none.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from agents.outcome import STARTED
from schemas.ids import joined
from schemas.topology import Agent, Limits

RECENT_MAX = 10_000
"""Outcomes remembered of an agent that may run again."""


class AttemptId(NamedTuple):
    """What tells an agent's attempts apart; the same for a dispatch that is written twice."""

    tenant: str
    task_id: str
    attempt: int
    stage: str

    @property
    def key(self) -> bytes:
        """The same as one text; no two have the same."""
        text = f"{self.attempt}:{self.stage}:{joined(self.tenant, self.task_id)}"
        return text.encode("utf-8", "surrogatepass")


def keys_of(tasks: pa.BinaryArray, attempts: pa.Int32Array, stages: pa.StringArray) -> list[bytes]:
    """The keys of many attempts; `tasks` as `task_texts` makes them. A hundred thousand of them are remembered, and
    five objects each, as an AttemptId of its own is, take three times the memory of one."""
    behind = (each.cast(pa.string()).cast(pa.binary()) for each in (attempts, stages))
    keys: list[bytes] = pc.binary_join_element_wise(*behind, tasks, b":").to_pylist()
    return keys


def _task_of(key: bytes) -> bytes:
    """What the keys of all attempts of a task have in common."""
    return key.split(b":", 2)[2]


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
    """Keys of attempts that have ended one by one, each with the time of its outcome in us, or less. The oldest are
    forgotten first."""

    __slots__ = ("_memory", "_times")

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._times: OrderedDict[bytes, int] = OrderedDict()

    def at(self, attempt: bytes) -> int | None:
        """When; None where it has not, or that is forgotten."""
        return self._times.get(attempt)

    def isdisjoint(self, attempts: set[bytes]) -> bool:
        return not self._times or self._times.keys().isdisjoint(attempts)

    def add(self, attempt: bytes, at: int) -> list[bytes]:
        """Gives those that are forgotten for it."""
        times, since = self._times, at - self._memory.kept_us
        times[attempt] = at
        forgotten = []
        while times and (len(times) > self._memory.outcomes_max or next(iter(times.values())) < since):
            forgotten.append(times.popitem(last=False)[0])
        return forgotten


class _Together:
    """Keys of attempts that were met together: in hand, or ended and remembered. Most are.

    A set of all that is remembered is larger than the caches, and each look costs: so one set holds both, and who ends
    is only put into a group. Groups are forgotten as a whole, the oldest first: as many as one call of an agent had may
    be remembered beyond `outcomes_max`.
    """

    __slots__ = ("_all", "_ended", "_groups", "_memory")

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._all: set[bytes] = set()
        self._groups: deque[tuple[int, set[bytes]]] = deque()
        self._ended = 0  # how many the groups hold

    def __contains__(self, attempt: bytes) -> bool:
        return attempt in self._all

    def meet(self, attempts: set[bytes]) -> bool:
        """Whether none of them is among them; then they all are, in hand."""
        if not self._all.isdisjoint(attempts):
            return False
        self._all |= attempts
        return True

    def discard(self, attempt: bytes) -> None:
        """It is remembered elsewhere, or not at all."""
        self._all.discard(attempt)

    def ended(self, attempts: set[bytes], at: int) -> None:
        """They have been met and are in hand no more; `at` in us."""
        groups, since = self._groups, at - self._memory.kept_us
        groups.append((at, attempts))
        self._ended += len(attempts)
        while groups and (self._ended - len(groups[0][1]) >= self._memory.outcomes_max or groups[0][0] < since):
            forgotten = groups.popleft()[1]
            self._ended -= len(forgotten)
            self._all -= forgotten

    def at(self, attempt: bytes) -> int | None:
        """When one of them ended; None where it is in hand."""
        return next((at for at, group in self._groups if attempt in group), None)


class Recognition:
    """Of one inbox. `logged`: what its log held when this host took over, kept apart until dispatches from `until` on
    come, the inbox's end at that time."""

    def __init__(
        self, logged: Mapping[AttemptId, Logged] | None = None, until: int = 0, memory: Memory | None = None
    ) -> None:
        self._logged = {attempt.key: each for attempt, each in (logged or {}).items()}
        self._until, self._memory = until, memory or FOREVER
        self._in_hand: set[bytes] = set()  # of those that were met one by one
        self._ended, self._together = _Ended(self._memory), _Together(self._memory)
        self._writes: dict[bytes, bytes] = {}  # the attempt of each task that was met last
        if self._memory.writes:
            self._writes = {_task_of(key): key for key in self._logged}

    def meet(self, attempt: AttemptId, offset: int, routed_at: int) -> Logged | None:
        """What is known of a dispatch that was read: None, if it is new and in hand from now on.

        IN_HAND: nothing is to be done for it. STARTED: it is in hand from now on, and was begun before, or may have
        been. Else its outcome, which is in the log. `routed_at` in us; offsets rise.
        """
        self._catch_up(offset)
        key = attempt.key
        if key in self._in_hand:
            return IN_HAND
        ended_at = self._ended.at(key)
        if ended_at is None and key in self._together:
            ended_at = self._together.at(key)
            if ended_at is None:
                return IN_HAND
        if ended_at is not None and not self._is_forgotten(ended_at, routed_at):
            return IN_HAND
        logged = self._logged.pop(key, None)
        if logged is not None and logged.kind != STARTED and not self._is_forgotten(logged.at, routed_at):
            self._remember(key, logged.at)
            return logged
        began = logged is not None and logged.kind == STARTED
        if self._memory.writes:
            began = began or self._is_another_attempt(key, routed_at)
            self._writes[_task_of(key)] = key
        self._in_hand.add(key)
        return Logged(STARTED) if began else None

    def meet_all(self, attempts: Sequence[bytes], offset: int) -> set[bytes] | None:
        """The same as a set, if all of them are new, and differ: then they are in hand from now on. Else None, and
        nothing has changed.

        `attempts` by their keys; `offset` is that of the first. Not for agents that write.
        """
        self._catch_up(offset)
        distinct = set(attempts)
        if self._logged or len(distinct) < len(attempts):
            return None
        is_new = self._in_hand.isdisjoint(distinct) and self._ended.isdisjoint(distinct)
        return distinct if is_new and self._together.meet(distinct) else None

    def ended(self, attempt: AttemptId, at: int) -> None:
        """It has its outcome; `at` in us."""
        key = attempt.key
        self._forget(key)
        self._remember(key, at)

    def ended_all(self, attempts: set[bytes], at: int) -> None:
        """As `ended`, for many that were met together."""
        self._together.ended(attempts, at)

    def forget(self, attempt: AttemptId) -> None:
        """It was given up without an outcome."""
        self._forget(attempt.key)

    def _forget(self, key: bytes) -> None:
        if key in self._in_hand:
            self._in_hand.remove(key)
        else:
            self._together.discard(key)

    def _is_forgotten(self, ended_at: int, routed_at: int) -> bool:
        return routed_at - ended_at > self._memory.horizon_us

    def _is_another_attempt(self, key: bytes, routed_at: int) -> bool:
        """Whether this task was met before under another attempt, which may have written."""
        other = self._writes.get(_task_of(key))
        if other is None or other == key:
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
        for key, logged in self._logged.items():
            if logged.kind != STARTED:
                self._remember(key, logged.at)
            elif self._memory.writes:
                begun[key] = logged
        self._logged, self._until = begun, 1 << 63

    def _remember(self, key: bytes, at: int) -> None:
        for forgotten in self._ended.add(key, at):
            if self._writes and self._writes.get(task := _task_of(forgotten)) == forgotten:
                del self._writes[task]
