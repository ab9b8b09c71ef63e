"""A compacted topic held in memory: the latest value of each key, followed in a thread.

I/O: Kafka, in a thread of each view's own.
"""

from __future__ import annotations

import threading
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from streams.transport.clients import TransportError
from streams.transport.consumer import BatchConsumer
from streams.transport.telemetry import ERRORS, get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from streams.transport.batch import Batch

log = get_logger("pointsman.control")

POLL_S = 0.1
JOIN_TIMEOUT_S = 5.0

V = TypeVar("V")


class CompactedView(Generic[V]):
    """The latest value of each key of one topic; a null value removes its key.

    `read` turns values into rows: for each the value, or None where it cannot be decoded. Such a record is counted,
    and the key keeps what it had. Only the view's own thread calls it. Nothing is committed: each start reads all.
    """

    def __init__(
        self, config: Mapping[str, Any], topic: str, read: Callable[[Sequence[bytes]], Sequence[V | None]]
    ) -> None:
        self.topic, self._read = topic, read
        self._consumer = BatchConsumer(
            config, channel_of=lambda topic: topic, rows_max=10_000, bytes_max=16 * 1024 * 1024, poll_s=POLL_S
        )
        self._values: Mapping[str, V] = MappingProxyType({})
        self._version = 0
        self._failure: Exception | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._follow, name=f"view-{topic}", daemon=True)

    def start(self) -> None:
        """Returns once everything is read that stood in the topic when it was called; then follows in a thread.

        Raises as `read_once`.
        """
        self._consumer.assign(self.read_once())
        self._thread.start()

    def read_once(self) -> dict[tuple[str, int], int]:
        """Reads what stands in the topic now, and says where it ends; without `start`, that is all.

        Raises TransportError when the topic is missing or cannot be read to its end.
        """
        marks = self._consumer.watermarks(self._consumer.partitions_of([self.topic]))
        positions: dict[tuple[str, int], int] = {tp: low for tp, (low, _) in marks.items()}
        ends: dict[tuple[str, int], int] = {tp: high for tp, (_, high) in marks.items()}
        for batch in self._consumer.read_to_end(positions, ends):
            self._apply(batch)
            ends.update({tp: max(ends[tp], last + 1) for tp, last in batch.ends.items()})
        return ends

    def snapshot(self) -> Mapping[str, V]:
        """The values as of now, in an object that never changes. Raises what ended the view's thread, if it ended."""
        if self._failure is not None:
            raise TransportError(f"the view of {self.topic} is gone: {self._failure}") from self._failure
        return self._values

    @property
    def version(self) -> int:
        """Grows with every change. Read it before the snapshot: then no change is missed."""
        return self._version

    def close(self) -> None:
        """Ends the thread and its consumer; bounded."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(JOIN_TIMEOUT_S)
        self._consumer.close()

    def changed(self, values: Mapping[str, V]) -> None:
        """Called by the view's thread before the new values are shown; for subclasses."""

    def _follow(self) -> None:
        try:
            while not self._stopping.is_set():
                for batch in self._consumer.poll():
                    self._apply(batch)
        except Exception as failure:
            # Not swallowed: whoever asks for the snapshot next raises it, and the process ends.
            log.exception("a view ended", topic=self.topic)
            self._failure = failure

    def _apply(self, batch: Batch) -> None:
        values = dict(self._values)
        present = [value for value in batch.values if value is not None]
        rows = iter(self._read(present))
        for key, value in zip(batch.keys, batch.values, strict=True):
            row = None if value is None else next(rows)
            name = _text(key)
            if name is None or (value is not None and row is None):
                ERRORS.labels(component="control").inc()
                log.warning("a control record is skipped", topic=self.topic, has_key=name is not None)
            elif row is None:
                values.pop(name, None)
            else:
                values[name] = row
        self.changed(values)
        self._values = MappingProxyType(values)
        self._version += 1


def _text(key: bytes | None) -> str | None:
    try:
        return None if key is None else key.decode()
    except UnicodeDecodeError:
        return None
