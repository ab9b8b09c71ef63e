"""Where a host stands in its inboxes, and what it tells the broker of that: never past work that is not done.

Requests are made in the reader's thread, the only one that may use the consumer. I/O: Kafka.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

from agents.inbox import Inbox, position_note, read_note
from streams.transport.batch import TopicPartition
from streams.transport.clients import CommitRejectedError, CommitUnavailableError
from streams.transport.consumer import GroupConsumer
from streams.transport.requests import NO_OFFSET
from streams.transport.telemetry import get_logger

log = get_logger("pointsman.host")

Committed: TypeAlias = dict[TopicPartition, tuple[int, str]]
"""Next offset and its note (agents/inbox.py), by inbox."""


class Positions:
    """Of one host. `inboxes` are those that it has by now; `committed`, up to where each is committed by this host.

    While they are `at_stake`, between two generations of the group, nothing is committed, and nobody is told that they
    are ours: the client may be of the new generation already, and not have said yet which inboxes are another's in it.
    """

    def __init__(self, consumer: GroupConsumer, inboxes: Mapping[TopicPartition, Inbox]) -> None:
        self._consumer, self._inboxes = consumer, inboxes
        self.committed: dict[TopicPartition, int] = {}
        self.at_stake = False
        # What stands for each inbox at the broker, to be committed once more.
        self._standing: Committed = {}

    def read(self, tps: Sequence[TopicPartition]) -> Committed:
        """What the group has committed of inboxes that come; where that is nothing, their beginning stands for it."""
        committed = self._consumer.committed(tps) if tps else {}
        new = [tp for tp, (offset, _) in committed.items() if offset == NO_OFFSET]
        first = {tp: (low, position_note(0, [])) for tp, (low, _) in self._consumer.watermarks(new).items()}
        self._standing.update(committed | first)
        return committed

    def news(self, inboxes: Iterable[Inbox]) -> Committed:
        """What is done, where that is news; to be read in the moment in which all is delivered."""
        found = {}
        for inbox in inboxes:
            tp, position = TopicPartition(inbox.topic, inbox.partition), inbox.tracker.position
            if position is not None and position != self.committed.get(tp):
                found[tp] = (position, inbox.note(inbox.tracker.low_watermark_ms))
        return found

    def claimed(self, inboxes: Iterable[Inbox]) -> Committed:
        """What stands, with the claims of this host, of which the next owner has to know."""
        standing = {TopicPartition(inbox.topic, inbox.partition): inbox for inbox in inboxes}
        return {
            tp: (self._standing[tp][0], inbox.note(read_note(self._standing[tp][1]).low_watermark_ms))
            for tp, inbox in standing.items()
        }

    def commit(self, positions: Committed) -> None:
        """What is not committed now is committed later, or by the next owner."""
        if self.at_stake:
            return
        try:
            self._consumer.commit(positions)
        except (CommitRejectedError, CommitUnavailableError) as error:
            log.warning("a commit failed", why=str(error))
            return
        # A last commit of inboxes that go says nothing of where they will stand: it must not be committed again.
        held = {tp: position for tp, position in positions.items() if tp in self._inboxes}
        self.committed.update({tp: position for tp, (position, _) in held.items()})
        self._standing.update(held)

    def are_ours(self) -> bool:
        """Whether the broker says so, now."""
        try:
            return not self.at_stake and self.stand()
        except (CommitRejectedError, CommitUnavailableError) as error:
            log.debug("a write has to wait until it is known whose the inboxes are", why=str(error))
            return False

    def stand(self) -> bool:
        """Commits one position as it stands: of a former generation the broker refuses it. False where there is none.

        Raises CommitRejectedError, CommitUnavailableError.
        """
        standing = dict(list(self._standing.items())[:1])
        self._consumer.commit(standing)
        return bool(standing)

    def forget(self, tp: TopicPartition) -> None:
        """It goes."""
        self.committed.pop(tp, None)
        self._standing.pop(tp, None)
