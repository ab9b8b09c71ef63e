"""One inbox partition that this host owns: how far it is done, and which dispatches it has met before.

I/O: none.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from agents.outcome import STARTED
from agents.tracker import OffsetTracker
from schemas.epochs import LogEpochs, Since

RECENT_MAX = 10_000  # attempts remembered per inbox partition, so that a dispatch that comes again is not run again


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


class Note(NamedTuple):
    """What a host commits beside an inbox's position, for the next one: the append time of the first dispatch that is
    not done, None where it is not known, and the claims of the agent's log."""

    low_watermark_ms: int | None
    since: Since


def position_note(low_watermark_ms: int, since: Since) -> str:
    return json.dumps({"low_watermark_ms": low_watermark_ms, "epochs": since}, separators=(",", ":"))


def read_note(text: str) -> Note:
    """Of what is no note nothing is known. Hosts before this one committed the time alone."""
    if text.isdecimal():
        return Note(int(text), [])
    try:
        found = json.loads(text)
        return Note(int(found["low_watermark_ms"]), [(int(offset), int(epoch)) for offset, epoch in found["epochs"]])
    except (ValueError, TypeError, KeyError):
        return Note(None, [])


IN_HAND = Logged("IN_HAND")  # taken in by this host and not done yet


class Inbox:
    """State of one (agent, partition). `logged`: what the log held of dispatches that were not committed when this
    host took over; it is kept until the inbox has been read up to `until`, its end at that time. `epoch` is what this
    host's events bear, `epochs` what it knows of the log's claims."""

    def __init__(
        self,
        agent_id: str,
        topic: str,
        partition: int,
        logged: Mapping[AttemptId, Logged] | None = None,
        until: int = 0,
        epoch: int = 0,
        epochs: LogEpochs | None = None,
    ) -> None:
        self.agent_id, self.topic, self.partition = agent_id, topic, partition
        self.epoch, self._epochs = epoch, epochs or LogEpochs()
        self.tracker = OffsetTracker()
        self.lost = False
        self._logged, self._until = dict(logged or {}), until
        self._in_hand: set[AttemptId] = set()
        self._recent: OrderedDict[AttemptId, None] = OrderedDict()

    def note(self, low_watermark_ms: int | None) -> str:
        """What is committed beside a position; `low_watermark_ms` as the tracker has it."""
        return position_note(low_watermark_ms or 0, self._epochs.since)

    def take(self, offsets: list[int], appended_ms: int) -> None:
        """Records read, in rising order."""
        if self._logged and offsets and offsets[0] >= self._until:
            self.remember(attempt for attempt, logged in self._logged.items() if logged.kind != STARTED)
            self._logged.clear()
        self.tracker.take(offsets, appended_ms)

    def meet(self, attempt: AttemptId) -> Logged | None:
        """What is known of a dispatch that was read: None, if it is new and in hand from now on.

        IN_HAND: nothing is to be done for it. STARTED: it is in hand from now on, and was begun before. Else its
        outcome, which is in the log.
        """
        if attempt in self._in_hand or attempt in self._recent:
            return IN_HAND
        logged = self._logged.pop(attempt, None)
        if logged is None or logged.kind == STARTED:
            self._in_hand.add(attempt)
        else:
            self.remember((attempt,))
        return logged

    def ended(self, attempt: AttemptId) -> None:
        """It has its outcome."""
        self._in_hand.discard(attempt)
        self.remember((attempt,))

    def meet_all(self, attempts: Sequence[AttemptId]) -> bool:
        """Whether all of them are new, and differ: then they are in hand from now on; else nothing has changed."""
        distinct = set(attempts)
        if self._logged or len(distinct) < len(attempts):
            return False
        if not (self._in_hand.isdisjoint(distinct) and self._recent.keys().isdisjoint(distinct)):
            return False
        self._in_hand |= distinct
        return True

    def ended_all(self, attempts: Sequence[AttemptId]) -> None:
        """As `ended`, for many."""
        self._in_hand.difference_update(attempts)
        self._recent.update(dict.fromkeys(attempts))
        self._forget_oldest()

    def forget(self, attempt: AttemptId) -> None:
        """It was given up without an outcome."""
        self._in_hand.discard(attempt)

    def remember(self, attempts: Iterable[AttemptId]) -> None:
        for attempt in attempts:
            self._recent[attempt] = None
        self._forget_oldest()

    def _forget_oldest(self) -> None:
        while len(self._recent) > RECENT_MAX:
            self._recent.popitem(last=False)
