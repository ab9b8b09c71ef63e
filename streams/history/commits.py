"""Positions on their way to the group's coordinator: a commit may wait for seconds, and a stop must not.

confluent-kafka lets one call at a time into a consumer, and not in turn: a commit beside a loop that polls may wait for
ever. So nobody polls while a commit is under way (`resting`). I/O: Kafka.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Protocol

from streams.transport.batch import TopicPartition
from streams.transport.clients import CommitRejectedError, CommitUnavailableError
from streams.transport.telemetry import ERRORS, get_logger
from streams.transport.threads import DaemonPool, has_ended

log = get_logger("pointsman.history")

RETRY_S = 1.0


class Member(Protocol):
    """The part of a group's consumer that is used here."""

    def assignment(self) -> list[TopicPartition]: ...

    def commit(self, positions: Mapping[TopicPartition, tuple[int, str]]) -> None: ...


class Commits:
    """Commits what `add` was told, one request after the other, and tries again while nobody answers."""

    def __init__(self, consumer: Member) -> None:
        self._consumer = consumer
        self._waiting: dict[TopicPartition, int] = {}
        self._sent: Mapping[TopicPartition, int] = {}
        self._lane = DaemonPool("history-commit", 1)
        self._job: Future[None] | None = None
        self._not_before = 0.0

    def add(self, positions: Mapping[TopicPartition, int]) -> None:
        """Everything before these offsets is stored."""
        self._waiting.update(positions)

    def resting(self, timeout_s: float) -> bool:
        """Whether no request is under way, after `timeout_s` at most: only then may the consumer be used."""
        return self._job is None or self._ended(timeout_s)

    def begin(self) -> None:
        """Commit what is waiting.

        Positions of partitions that others own by now are dropped: those read the records again, and the views fold
        them.
        """
        if self._job is None and self._waiting and time.monotonic() >= self._not_before:
            ours = set(self._consumer.assignment())
            self._sent, self._waiting = {tp: at for tp, at in self._waiting.items() if tp in ours}, {}
            sent = {owner: (position, "") for owner, position in self._sent.items()}
            self._job = self._lane.submit(self._consumer.commit, sent)

    def drain(self, timeout_s: float) -> bool:
        """Whether everything is committed, after `timeout_s` at most."""
        deadline = time.monotonic() + timeout_s
        if not self.resting(timeout_s):
            return False
        self.begin()
        return self.resting(max(0.0, deadline - time.monotonic())) and not self._waiting

    def close(self) -> None:
        """Ask no more."""
        self._lane.close()

    def _ended(self, timeout_s: float) -> bool:
        """Whether the request under way has come to an end, good or bad."""
        try:
            if self._job is not None and not has_ended(self._job, timeout_s):
                return False
        except CommitUnavailableError as error:
            ERRORS.labels("history").inc()
            log.warning("positions could not be committed; it is tried again", why=str(error))
            self._waiting = {**self._sent, **self._waiting}
            self._not_before = time.monotonic() + RETRY_S
        except CommitRejectedError as error:
            log.warning("positions were not committed: the group has moved on", why=str(error))
        self._job = None
        return True
