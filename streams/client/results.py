"""Results as they come: one of each task, alone or as a member of a consumer group.

I/O: Kafka, the clock.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, Literal, NamedTuple, Self

from schemas.codec import Codec
from streams.transport.batch import Batch, TopicPartition
from streams.transport.clients import CommitRejectedError, CommitUnavailableError
from streams.transport.consumer import BatchConsumer
from streams.transport.requests import NO_OFFSET

log = logging.getLogger("pointsman.client")

Start = Literal["end", "beginning"]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
BYTES_MAX = 16 * 1024 * 1024
POLL_S = 0.05
COMMIT_S = 0.5
# Alone nobody waits for us. A group does, for `max.poll.interval.ms` at most: what one poll brings has to be worked off
# within that time, a second and a half for each result.
ROWS_MAX, ROWS_MAX_IN_GROUP, POLL_INTERVAL_MS = 10_000, 200, 300_000
# A second result of a task stands close behind the first: it is written by a worker that was paused for longer than its
# session. About 30 MB of ids.
REPEATS_KNOWN_MAX = 100_000


class Vote(NamedTuple):
    """One voice of a panel; `weight` is the log-odds of its agent's accuracy."""

    agent_id: str
    vote: str
    confidence: float
    weight: float


@dataclass(frozen=True, slots=True)
class Result:
    """The one answer to a task; the fields of the record TaskResult, in its order.

    `payload` is JSON text. Times are None where the record has none (0) or one that no calendar holds.
    """

    task_id: str
    tenant: str
    conversation_id: str | None
    labels: Mapping[str, str]
    traceparent: str | None
    status: str
    reason: str
    intent: str | None
    answer: str | None
    payload: str | None
    confidence: float | None
    agents: tuple[str, ...]
    votes: tuple[Vote, ...]
    dissent: tuple[str, ...]
    attempts: int
    cost_microusd: int
    tokens: int
    submitted_at: datetime | None
    decided_at: datetime | None
    route_version: str

    @property
    def key(self) -> tuple[str, str]:
        """Tenant and task id: what a task is known by."""
        return self.tenant, self.task_id

    @property
    def ms(self) -> float | None:
        """From submission to decision, by the clocks of producer and worker; None where no submission is stated."""
        if self.submitted_at is None or self.submitted_at < EPOCH or self.decided_at is None:
            return None
        return (self.decided_at - self.submitted_at) / timedelta(milliseconds=1)


def result_of(row: Mapping[str, Any]) -> Result:
    """A decoded TaskResult."""
    return Result(
        **{
            **row,
            "labels": dict(row["labels"]),
            "agents": tuple(row["agents"]),
            "votes": tuple(Vote(**vote) for vote in row["votes"]),
            "dissent": tuple(row["dissent"]),
            "submitted_at": moment(row["submitted_at"]),
            "decided_at": moment(row["decided_at"]),
        }
    )


def moment(us: int) -> datetime | None:
    """Microseconds since the epoch as a time; None for 0, and for what no calendar holds."""
    try:
        return EPOCH + timedelta(microseconds=us) if us else None
    except OverflowError:
        return None


class _Read(NamedTuple):
    """A record that was read: `result` is None where it was none."""

    owner: TopicPartition
    offset: int
    result: Result | None


class Results(Iterator[Result]):
    """Iterate over it: each result comes once, the second one of a task is dropped (docs/client.md says for how long).

    Made by `Client.results`. In a group, a result is taken once the next one is asked for, or the iterator is closed
    without an error; what is taken is committed within half a second or so, what is not comes again. One thread uses
    it. `undecodable` counts records that were none, `repeats` those that were dropped.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        topic: str,
        codec: Codec,
        *,
        group: bool,
        start: Start,
        timeout_s: float | None,
        repeats_known_max: int = REPEATS_KNOWN_MAX,
    ) -> None:
        """Raises TransportError where the broker does not answer for the topic."""
        self._topic, self._codec, self._start, self._timeout_s = topic, codec, start, timeout_s
        self._repeats_known_max = repeats_known_max
        self.undecodable = self.repeats = 0
        self._known: dict[tuple[str, str], None] = {}  # the oldest first
        self._waiting: deque[_Read] = deque()
        self._given: _Read | None = None
        self._closed = False
        self._taken: dict[TopicPartition, int] | None = {} if group else None
        self._committed_at = time.monotonic()
        rows_max = ROWS_MAX_IN_GROUP if group else ROWS_MAX
        self._consumer = BatchConsumer(config, str, rows_max=rows_max, bytes_max=BYTES_MAX, poll_s=POLL_S)
        try:
            self._marks = self._consumer.watermarks(self._consumer.partitions_of([topic]))
        except BaseException:
            self._consumer.close()
            raise
        self._owned: set[TopicPartition] = set() if group else set(self._marks)
        if group:
            self._consumer.subscribe([topic], on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._lost)
        else:
            at_end = start == "end"
            self._consumer.assign({owner: high if at_end else low for owner, (low, high) in self._marks.items()})

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Result:
        """Waits for the next one. Ends when none has come for `timeout_s`, and once closed.

        Raises TransportError when the consumer cannot go on: its position is gone, access is denied.
        """
        self._take()
        ends_at = None if self._timeout_s is None else time.monotonic() + self._timeout_s
        while not self._closed:
            if (result := self._next_waiting()) is not None:
                return result
            if ends_at is not None and time.monotonic() >= ends_at:
                break
            self._fill(POLL_S if ends_at is None else min(POLL_S, max(ends_at - time.monotonic(), 0.0)))
        raise StopIteration

    def poll(self, timeout_s: float = POLL_S) -> list[Result]:
        """What comes within this time. Not in a group, where nothing would say what of it was taken."""
        self._refuse_in_group()
        if not self._waiting:
            self._fill(timeout_s)
        return list(iter(self._next_waiting, None))

    def held(self, last: int | None = None) -> list[Result]:
        """What the topic held when this was opened, of each partition the `last` few; in the order of decision.

        Instead of iterating, and not in a group.
        """
        self._refuse_in_group()
        ends = {owner: high for owner, (_low, high) in self._marks.items()}
        starts = {owner: low if last is None else max(low, high - last) for owner, (low, high) in self._marks.items()}
        found: dict[tuple[str, str], Result] = {}
        for batch in self._consumer.read_to_end(starts, ends):
            for read in self._decoded(batch):
                if read.result is not None:
                    found.setdefault(read.result.key, read.result)
        return sorted(found.values(), key=lambda result: result.decided_at or EPOCH)

    def _refuse_in_group(self) -> None:
        if self._taken is not None:
            raise RuntimeError("not in a group, which has positions of its own: iterate")

    def close(self, *, taken: bool = True) -> None:
        """Commits what was taken, the latest result included unless `taken` is False, and leaves the group."""
        if self._closed:
            return
        self._closed = True
        try:
            if taken:
                self._take()
            self._commit()
        finally:
            self._waiting.clear()
            self._consumer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(taken=kind is None)

    def _next_waiting(self) -> Result | None:
        """The next of what was read that is a result, and not one again."""
        while self._waiting:
            read = self._waiting.popleft()
            if read.result is not None and self._is_new(read.result.key):
                self._given = read
                return read.result
            self._note(read)
        return None

    def _is_new(self, key: tuple[str, str]) -> bool:
        if key in self._known:
            self.repeats += 1
            return False
        self._known[key] = None
        if len(self._known) > self._repeats_known_max:
            del self._known[next(iter(self._known))]
        return True

    def _fill(self, timeout_s: float) -> None:
        if self._taken is not None and time.monotonic() >= self._committed_at + COMMIT_S:
            self._commit()
        for batch in self._consumer.poll(timeout_s):
            # One poll may read of a partition and then hand it over: its next owner reads that.
            self._waiting.extend(read for read in self._decoded(batch) if read.owner in self._owned)

    def _decoded(self, batch: Batch) -> Iterator[_Read]:
        decoded = self._codec.decode(batch.values, "TaskResult")
        if decoded.faults:
            self.undecodable += len(decoded.faults)
            log.info("%d record(s) of %s are no results: %s", len(decoded.faults), self._topic, decoded.faults[0])
        found = dict(zip(decoded.rows.tolist(), map(result_of, decoded.batch.to_pylist()), strict=True))
        places = zip(batch.topics, batch.partitions.tolist(), batch.offsets.tolist(), strict=True)
        for row, (topic, partition, offset) in enumerate(places):
            yield _Read(TopicPartition(topic, partition), offset, found.get(row))

    # Positions, of a group alone.

    def _take(self) -> None:
        """The latest result that was given is done with."""
        self._note(self._given)
        self._given = None

    def _note(self, read: _Read | None) -> None:
        if read is not None and self._taken is not None and read.owner in self._owned:
            self._taken[read.owner] = read.offset + 1

    def _commit(self) -> None:
        self._committed_at = time.monotonic()
        if not self._taken:
            return
        try:
            self._consumer.commit({owner: (position, "") for owner, position in self._taken.items()})
        except CommitRejectedError as error:
            log.warning("the group has moved on; what was taken since the last commit comes again: %s", error)
        except CommitUnavailableError as error:
            log.warning("a commit is tried again: %s", error)
            return
        self._taken.clear()

    def _assigned(self, owners: list[TopicPartition]) -> None:
        """Inside of a poll. A group that begins at the end says so at once: else a crash would begin it later."""
        self._owned.update(owners)
        if self._start == "end":
            known = self._consumer.committed(owners) if owners else {}
            new = [owner for owner, (position, _) in known.items() if position == NO_OFFSET]
            self._consumer.commit({owner: (self._marks[owner][1], "") for owner in new})

    def _revoked(self, owners: list[TopicPartition]) -> None:
        """Inside of a poll: all that was given is taken, and nothing waits."""
        self._commit()
        self._owned.difference_update(owners)

    def _lost(self, owners: list[TopicPartition]) -> None:
        """Others read them already."""
        self._owned.difference_update(owners)
        if self._taken:
            self._taken = {owner: position for owner, position in self._taken.items() if owner not in owners}
