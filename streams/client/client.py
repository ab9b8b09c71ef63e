"""What producers and subscribers open: tasks handed over in batches, results by an iterator.

I/O: Kafka, the clock; `Client.from_environment` reads the environment and the topology file.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Self
from uuid import uuid4

import pyarrow as pa
import pyarrow.compute as pc

from schemas.codec import Codec
from schemas.codes import ErrorCode
from schemas.errors import ConfigurationError, DeliveryError, InvalidTasksError, TaskFault
from schemas.nearby import serving
from schemas.records import Column, table
from schemas.registry import FileRegistry, SchemaRegistry
from schemas.settings import Settings
from schemas.topics import Topics
from streams.client.results import POLL_INTERVAL_MS, Results, Start
from streams.client.submissions import Submission, checked, columns_of
from streams.transport.admin import check_topics, no_topics
from streams.transport.clients import TransportError, client_config
from streams.transport.producer import Producer

if TYPE_CHECKING:
    from schemas.topology import Topology

RECORD_BYTES_MAX = 262_144  # the topology's default
BATCH_ROWS = 5_000
TIMEOUT_S = 30.0
CLOSE_S = 1.0
_LISTS = (list, tuple, pa.Array, pa.ChunkedArray)
BY_KEY = -1  # librdkafka's name for "as the partitioner says"


class Prepared(NamedTuple):
    """Tasks as records, in order: what is left is to hand them over."""

    task_ids: Sequence[str]
    keys: Sequence[bytes | None]
    values: Sequence[bytes | None]


@dataclass(frozen=True)
class _Broker:
    broker: str
    kafka: Mapping[str, Any] = field(repr=False)  # secrets among them


class Client:
    """One deployment, seen from outside: `prefix` is its topology's, `kafka` are librdkafka properties (SASL, TLS).

    Nothing is opened before it is needed. One thread uses a client; open one for each.
    """

    def __init__(
        self,
        broker: str,
        *,
        prefix: str = "",
        kafka: Mapping[str, str | float | bool] | None = None,
        record_bytes_max: int = RECORD_BYTES_MAX,
        registry: SchemaRegistry | None = None,
        name: str = "pointsman-client",
    ) -> None:
        self._settings = _Broker(broker, dict(kafka or {}))
        self._topics = Topics(agents=(), partitions=1, prefix=prefix)
        self._bytes_max, self._name = record_bytes_max, name
        self._registry = registry or FileRegistry.load()
        self._codec = Codec(self._registry, record_bytes_max)
        self._producer: Producer | None = None
        self._readers: list[Results] = []

    @classmethod
    def of(cls, settings: Settings, topology: Topology | None = None, name: str = "pointsman-client") -> Client:
        """The deployment that these name; without a topology, one without a prefix."""
        if topology is None:
            return cls(settings.broker, kafka=settings.kafka, name=name)
        return cls(
            settings.broker,
            prefix=topology.prefix,
            kafka={**topology.kafka, **settings.kafka},
            record_bytes_max=topology.limits.record_bytes_max,
            name=name,
        )

    @classmethod
    def from_environment(cls) -> Client:
        """As the command `pointsman` finds it: POINTSMAN_BROKER and its like, else the `pointsman dev` of this folder;
        and the topology where there is one.

        Raises ConfigurationError, for the topology with every fault at once.
        """
        settings = Settings.resolve({}, os.environ, serving())
        if settings.topology.exists():
            from schemas.topology import load_topology  # noqa: PLC0415  nobody else here needs a topology

            return cls.of(settings, load_topology(settings.topology))
        if "topology" in settings.model_fields_set:
            text = f"POINTSMAN_TOPOLOGY: there is no {settings.topology.resolve()}"
            raise ConfigurationError(text, code=ErrorCode.NO_TOPOLOGY)
        return cls.of(settings)

    # Tasks in.

    def submit(self, text: str, *, timeout_s: float = TIMEOUT_S, **fields: Any) -> str:
        """Submits one task; gives its id once the broker has it. `fields` are those of Submission.

        Raises as `submit_many`.
        """
        [task_id] = self.submit_many([{**fields, "text": text}], timeout_s=timeout_s)
        return task_id

    def submit_many(
        self, tasks: Iterable[Submission | Mapping[str, Any]], *, timeout_s: float = TIMEOUT_S
    ) -> list[str]:
        """Submits tasks, batch by batch; gives their ids, in order, once the broker has all of them.

        Raises InvalidTasksError, nothing of whose batch is sent (those before it are; of a list or tuple, nothing is);
        UnreachableError; DeliveryError, after which some may have arrived: submit all again, under the same ids.
        """
        prepared = map(self.prepare, batches(tasks))
        return self.send(list(prepared) if isinstance(tasks, Sized) else prepared, timeout_s=timeout_s)

    def prepare(self, tasks: Iterable[Submission | Mapping[str, Any]]) -> Prepared:
        """The tasks as records, submitted now, for `send`. Raises InvalidTasksError; touches no broker."""
        found = checked(list(tasks))
        return self.prepare_columns(columns_of(found, _now_us())) if found else Prepared([], [], [])

    def prepare_columns(self, columns: Mapping[str, Column]) -> Prepared:
        """The fast way: columns of TaskSubmitted, `text` at least, as lists or Arrow arrays, or one value for all rows.

        Ids and the time of submission are added where they are left out. Shapes and sizes are checked, values are not:
        the worker refuses what cannot be. Raises ValueError for columns that fit no TaskSubmitted, InvalidTasksError
        for rows above the size limit.
        """
        n = next((len(column) for column in columns.values() if isinstance(column, _LISTS)), 1)
        given = dict(columns)
        if "task_id" not in given:
            given["task_id"] = [str(uuid4()) for _ in range(n)]
        given.setdefault("submitted_at", _now_us())
        batch = table("TaskSubmitted", given, n)
        keys = pc.coalesce(batch.column("conversation_id"), batch.column("task_id")).cast(pa.binary()).to_pylist()
        task_ids: list[str] = batch.column("task_id").to_pylist()
        values = self._codec.encode(batch, "TaskSubmitted")
        if values and max(map(len, values)) > self._bytes_max:
            raise InvalidTasksError(
                [
                    TaskFault(row, task_ids[row], f"{len(value)} bytes, {self._bytes_max} are allowed")
                    for row, value in enumerate(values)
                    if len(value) > self._bytes_max
                ]
            )
        return Prepared(task_ids, keys, values)

    def send(self, batches: Iterable[Prepared], *, timeout_s: float = TIMEOUT_S) -> list[str]:
        """Hands prepared tasks over; gives their ids once the broker has all of them.

        Raises UnreachableError, DeliveryError; after either, the next call starts afresh.
        """
        task_ids: list[str] = []
        try:
            for batch in batches:
                self.hand_over(batch)
                task_ids += batch.task_ids
        except DeliveryError:
            self._drop_producer()
            raise
        except Exception:  # the next batch cannot be had: those before it are delivered all the same
            self._flush(timeout_s)
            raise
        self._flush(timeout_s)
        return task_ids

    def _flush(self, timeout_s: float) -> None:
        if self._producer is not None:
            try:
                self._producer.flush(timeout_s)
            except DeliveryError:
                self._drop_producer()
                raise

    def hand_over(self, batch: Prepared) -> None:
        """Sends without waiting for delivery: `send([])` waits for it, or says that it failed."""
        self.connect()
        assert self._producer is not None
        self._producer.send(self._topics.submitted, BY_KEY, batch.values, batch.keys)

    def connect(self) -> None:
        """Opens what submitting needs, where it is not open. Raises UnreachableError within about three seconds."""
        if self._producer is None:
            check_topics(self._settings, [self._topics.submitted])
            self._producer = Producer(client_config(self._settings, None, "producer", name=self._name))

    def _drop_producer(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.close(0.0)

    # Results out.

    def results(
        self, *, group: str | None = None, start: Start | None = None, timeout_s: float | None = None
    ) -> Results:
        """Results from here on: open it before you submit, and no result of yours is missed.

        Without a group: from the `start`, the end of the topic by default. In a group: from where the group stands;
        one that is new begins at the `start`, the beginning by default. The iterator ends when no result has come for
        `timeout_s`; None: never. Raises UnreachableError.
        """
        check_topics(self._settings, [self._topics.results])
        config = client_config(self._settings, None, "consumer", group=group, name=self._name)
        if group is not None and "max.poll.interval.ms" not in self._settings.kafka:
            config["max.poll.interval.ms"] = POLL_INTERVAL_MS
        start = start or ("end" if group is None else "beginning")
        codec = Codec(self._registry, self._bytes_max)
        try:
            found = Results(
                config, self._topics.results, codec, group=group is not None, start=start, timeout_s=timeout_s
            )
        except TransportError as error:
            raise no_topics(self._settings, str(error)) from error
        self._readers.append(found)
        return found

    def close(self, *, taken: bool = True) -> None:
        """Closes what was opened, results as `Results.close`. Tasks that gave their ids are delivered already."""
        while self._readers:
            with suppress(TransportError):
                self._readers.pop().close(taken=taken)
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.close(CLOSE_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(taken=kind is None)


def batches(tasks: Iterable[Submission | Mapping[str, Any]]) -> Iterator[list[Submission | Mapping[str, Any]]]:
    """The tasks, BATCH_ROWS at a time."""
    rest = iter(tasks)
    while batch := list(islice(rest, BATCH_ROWS)):
        yield batch


def _now_us() -> int:
    return time.time_ns() // 1000
