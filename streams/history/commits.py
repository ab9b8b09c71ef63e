"""Positions on their way to the group's coordinator: a commit may wait for seconds, and reading must not.

I/O: Kafka.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from streams.history.background import Background
from streams.transport.clients import CommitRejectedError, CommitUnavailableError
from streams.transport.consumer import BatchConsumer
from streams.transport.telemetry import ERRORS, get_logger

log = get_logger("pointsman.history")

RETRY_S = 1.0


class Commits:
    """Commits what `add` was told, one request after the other, and tries again while nobody answers."""

    def __init__(self, consumer: BatchConsumer) -> None:
        self._consumer = consumer
        self._waiting: dict[tuple[str, int], int] = {}
        self._sent: Mapping[tuple[str, int], int] = {}
        self._work: Background | None = None
        self._not_before = 0.0

    def add(self, positions: Mapping[tuple[str, int], int]) -> None:
        """Everything before these offsets is stored."""
        self._waiting.update(positions)

    def turn(self, timeout_s: float = 0.0) -> bool:
        """Go on with it; whether all is committed, after `timeout_s` at most.

        Positions of partitions that others own by now are dropped: those read the records again, and the views fold
        them.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            self._begin()
            if self._work is None:
                return not self._waiting
            if not self._ended(max(0.0, deadline - time.monotonic())):
                return False

    def _begin(self) -> None:
        if self._work is None and self._waiting and time.monotonic() >= self._not_before:
            ours = set(self._consumer.assignment())
            self._sent, self._waiting = {tp: at for tp, at in self._waiting.items() if tp in ours}, {}
            sent = {owner: (position, "") for owner, position in self._sent.items()}
            self._work = Background(lambda: self._consumer.commit(sent), "history-commit")

    def _ended(self, timeout_s: float) -> bool:
        """Whether the request under way has come to an end, good or bad."""
        assert self._work is not None
        try:
            if not self._work.done(timeout_s):
                return False
        except CommitUnavailableError as error:
            ERRORS.labels("history").inc()
            log.warning("positions could not be committed; it is tried again", why=str(error))
            self._waiting = {**self._sent, **self._waiting}
            self._not_before = time.monotonic() + RETRY_S
        except CommitRejectedError as error:
            log.warning("positions were not committed: the group has moved on", why=str(error))
        self._work = None
        return True
