"""The results topic as rows for people: from its end, from its beginning, or its last few.

I/O: Kafka.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, Self

from console.cli.deployment import Deployment
from schemas.codec import Codec
from schemas.codes import ErrorCode
from schemas.errors import UnreachableError
from schemas.registry import FileRegistry
from streams.transport.batch import Batch, TopicPartition
from streams.transport.clients import TransportError, client_config
from streams.transport.consumer import BatchConsumer

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
ROWS_MAX = 10_000
BYTES_MAX = 16 * 1024 * 1024
POLL_S = 0.1

Marks = Mapping[TopicPartition, tuple[int, int]]
Row = dict[str, Any]


def no_topics(broker: str, why: str) -> UnreachableError:
    """The broker answers, and has not what the topology speaks of."""
    hint = "Start the deployment (`pointsman dev`), make its topics (`pointsman topics apply`), or check its prefix."
    return UnreachableError("the deployment's topics", broker, why, hint, code=ErrorCode.NO_TOPICS)


class ResultFeed:
    """Reads the results topic outside any group: looking changes nothing.

    Raises UnreachableError when the broker, which should have been checked before, has no topics of this deployment.
    `undecodable` counts records that were skipped.
    """

    def __init__(self, deployment: Deployment) -> None:
        settings, topology = deployment.settings, deployment.topology
        self._codec = Codec(FileRegistry.load(), topology.limits.record_bytes_max)
        config = client_config(settings, topology, "consumer", name="pointsman-results")
        self._consumer = BatchConsumer(
            config, lambda topic: topic, rows_max=ROWS_MAX, bytes_max=BYTES_MAX, poll_s=POLL_S
        )
        self.undecodable = 0
        try:
            owners = self._consumer.partitions_of([topology.topics().results])
            self._marks: Marks = self._consumer.watermarks(owners)
        except TransportError as error:
            self.close()
            raise no_topics(settings.broker, str(error)) from error

    def from_end(self) -> None:
        """`poll` gives what is written from the opening of this feed on."""
        self._consumer.assign({owner: high for owner, (_low, high) in self._marks.items()})

    def from_beginning(self) -> None:
        """`poll` gives everything that the topic holds, then what is written."""
        self._consumer.assign({owner: low for owner, (low, _high) in self._marks.items()})

    def poll(self) -> list[Row]:
        """What came within a tenth of a second."""
        return [row for batch in self._consumer.poll() for row in self._rows(batch)]

    def until_now(self, last: int | None = None) -> Iterator[Row]:
        """What the topic held when this feed was opened; of each partition the last few where that is asked."""
        ends: dict[tuple[str, int], int] = {owner: high for owner, (_low, high) in self._marks.items()}
        starts: dict[tuple[str, int], int] = {
            owner: low if last is None else max(low, high - last) for owner, (low, high) in self._marks.items()
        }
        for batch in self._consumer.read_to_end(starts, ends):
            yield from self._rows(batch)

    def close(self) -> None:
        self._consumer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _rows(self, batch: Batch) -> Iterable[Row]:
        decoded = self._codec.decode(batch.values, "TaskResult")
        self.undecodable += len(decoded.faults)
        return map(readable, decoded.batch.to_pylist())


def readable(result: Row) -> Row:
    """A decoded TaskResult with times as times, labels as a mapping, and `ms` from submission to decision."""
    submitted_us, decided_us = result["submitted_at"], result["decided_at"]
    return result | {
        "ms": (decided_us - submitted_us) / 1000 if submitted_us > 0 else None,
        "labels": dict(result["labels"]),
        "route_version": result["route_version"] or None,
        "submitted_at": moment(submitted_us),
        "decided_at": moment(decided_us),
    }


def moment(us: int) -> datetime | None:
    """Microseconds since the epoch as a time; None for 0, and for what no calendar holds."""
    try:
        return EPOCH + timedelta(microseconds=us) if us else None
    except OverflowError:
        return None


COLUMNS = ("task_id", "status", "route", "reason", "agents", "votes", "ms", "answer")


def brief(result: Row) -> Row:
    """The columns of a table; `votes` says how many of a panel agreed."""
    votes = len(result["votes"])
    return {
        "task_id": result["task_id"],
        "status": result["status"],
        "route": result["intent"],
        "reason": result["reason"],
        "agents": result["agents"],
        "votes": f"{votes - len(result['dissent'])} of {votes}" if votes else None,
        "ms": None if result["ms"] is None else round(result["ms"], 1),
        "answer": result["answer"],
    }
