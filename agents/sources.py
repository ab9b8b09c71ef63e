"""Where cold memory is read from: the history and, behind what that has, the log; the log alone while that is away.

The history answers by key, however long a log is; but it is behind by what its store has not read yet, may be away, and
may be another log's. The log is always there, but for what its retention took. So what the history has is laid under
what the log has from there on, and without it the log is read from its beginning. I/O: through both, in one thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from agents.logrecall import LogMemory, Wanted, only
from agents.memory.model import Key
from agents.memory.ports import Recall, Remembered
from schemas.epochs import LogEpochs
from streams.transport.telemetry import get_logger

log = get_logger("pointsman.host")

SHORT_MAX = 10_000
"""Events of a log that is read as a whole, once, though there is a history: that takes as long as a few questions to
it, brings all conversations that fit to hand, and tells which ones there are."""

REST_S, REST_MAX_S = 2.0, 60.0
"""How long a history that did not answer is left alone: twice as long each time."""

NOTHING = Remembered()


class Logs(Protocol):
    """The part of agents.logrecall.LogRecall that is used here."""

    def span(self, agent_id: str, partition: int) -> tuple[int, int]: ...

    def read(
        self,
        agent_id: str,
        partition: int,
        wanted: Wanted,
        *,
        since: int = 0,
        epochs: LogEpochs | None = None,
        bytes_max: int = 2**62,
    ) -> LogMemory: ...


@dataclass(slots=True)
class KnownLog:
    """What is known of one agent's log in one partition.

    `seen` are hashes of the memories that have anything in it; None until it was read as a whole. `begin` is where it
    began then: at its beginning, 0, who is not in `seen` is nowhere; else nobody can have had more interactions before.
    """

    epochs: LogEpochs = field(default_factory=LogEpochs)
    seen: set[int] | None = None
    begin: int = 0

    @property
    def is_whole(self) -> bool:
        return self.seen is not None and self.begin == 0


@dataclass(frozen=True, slots=True)
class Recalled:
    """Memories, those of others who were not asked for among them; `seen`, `begin`: as of `KnownLog`, where the log was
    read as a whole."""

    memories: Mapping[Key, Remembered]
    seen: set[int] | None = None
    begin: int = 0


class Sources:
    """`recall` is used in one thread; `new` in any. `bytes_max` bounds what one reading brings that nobody asked
    for."""

    def __init__(
        self, logs: Logs, history: Recall | None, bytes_max: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._logs, self._history, self._bytes_max, self._clock = logs, history, bytes_max, clock
        self._rest_s, self._again_at = REST_S, 0.0

    def new(self, known: KnownLog, key: Key) -> Remembered | None:
        """What there is of a memory of which nobody holds anything: nothing; None, where somebody may. Where the log
        lost its beginning the history has the last word; while that is away, the log has, and numbers go on beyond all
        that it can have lost: what the history holds is not to be written over."""
        if known.seen is None or hash(key) in known.seen:
            return None
        if known.is_whole or self._history is None:
            return NOTHING
        return None if self._has_history() else Remembered(numbered=known.begin)

    def recall(self, agent_id: str, partition: int, known: KnownLog, keys: frozenset[Key]) -> Recalled:
        """What both hold of these memories. Raises TransportError where the log cannot be read."""
        begin, end = self._logs.span(agent_id, partition)
        is_short = known.seen is None and begin == 0 and end <= SHORT_MAX
        stored, since = ({}, 0) if is_short else self._stored(agent_id, partition, keys)
        if since > end:  # it has read on meanwhile; or what it has read is another log
            end = self._logs.span(agent_id, partition)[1]
        if since > end:
            log.warning("the history has more of a log than there is: it is another's", agent=agent_id, log_end=end)
            stored, since = {}, 0
        is_told = self._history is None or self._has_history()
        if known.seen is not None or 2 * max(since - begin, 0) > end - begin:
            tail = self._logs.read(agent_id, partition, only(keys), since=since, epochs=known.epochs).memories
            lost = {key for key in keys if known.seen is not None and hash(key) not in known.seen}
            return Recalled(_under(stored, tail, keys, {} if is_told else dict.fromkeys(lost, known.begin)))
        return self._whole(agent_id, partition, stored, keys, is_told=is_told)

    def _has_history(self) -> bool:
        return self._history is not None and self._clock() >= self._again_at

    def _stored(self, agent_id: str, partition: int, keys: frozenset[Key]) -> tuple[Mapping[Key, Remembered], int]:
        """What the history has, and up to where in the log; nothing, where it does not answer."""
        if self._history is None or not self._has_history():
            return {}, 0
        try:
            stored, through = self._history.recall(partition, keys)
        except Exception as error:  # noqa: BLE001  whatever it is: no answer may depend on the history
            self._again_at = self._clock() + self._rest_s
            log.warning("the history is away; memory is read from logs", again_s=self._rest_s, why=str(error)[:300])
            self._rest_s = min(2 * self._rest_s, REST_MAX_S)
            return {}, 0
        self._rest_s = REST_S
        return stored, through.get(agent_id, 0)

    def _whole(
        self, agent_id: str, partition: int, stored: Mapping[Key, Remembered], keys: frozenset[Key], *, is_told: bool
    ) -> Recalled:
        """The log from its beginning. What of it nobody asked for is only kept where the log is all that there is."""
        found = self._logs.read(agent_id, partition, lambda _key: True, bytes_max=self._bytes_max)
        memories = dict(found.memories)
        if missing := [key for key in keys if key not in memories and hash(key) in found.seen]:  # they did not fit
            memories |= self._logs.read(agent_id, partition, only(missing)).memories
        others = {} if self._history is not None and found.begin else memories
        lost = {} if is_told else {key: found.begin for key in keys if hash(key) not in found.seen}
        return Recalled(others | _under(stored, memories, keys, lost), found.seen, found.begin)


def _under(
    stored: Mapping[Key, Remembered], tail: Mapping[Key, Remembered], keys: frozenset[Key], lost: Mapping[Key, int]
) -> dict[Key, Remembered]:
    """`lost`: of which nobody can tell now, how many interactions they can have had at most."""
    found = {key: joined(stored.get(key, NOTHING), tail.get(key, NOTHING)) for key in keys}
    return {key: replace(each, numbered=lost.get(key, 0)) for key, each in found.items()}


def joined(stored: Remembered, tail: Remembered) -> Remembered:
    """What the history holds, and behind it what the log has."""
    return Remembered(
        stored.interactions + tail.interactions, stored.facts_before + tail.facts_before, stored.models + tail.models
    )
