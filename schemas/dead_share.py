"""When too many of a topic's records cannot be taken: a schema mistake, and no longer a stray record.

A window for each topic holds the last records that were read of it, batch by batch: at least `records_min` of them, as
soon as so many are there, and no more batches than that takes. It begins with a batch that holds a bad record and ends
with its last one, so that good records cost nothing. I/O: none.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from typing import NamedTuple


class Exceeded(NamedTuple):
    """Of the last `read` records of a topic, `dead` could not be taken."""

    topic: str
    read: int
    dead: int


class _Window:
    __slots__ = ("batches", "dead", "read")

    def __init__(self) -> None:
        self.batches: deque[tuple[int, int]] = deque()
        self.read = self.dead = 0

    def add(self, read: int, dead: int, records_min: int) -> None:
        self.batches.append((read, dead))
        self.read, self.dead = self.read + read, self.dead + dead
        while self.read - self.batches[0][0] >= records_min:
            gone_read, gone_dead = self.batches.popleft()
            self.read, self.dead = self.read - gone_read, self.dead - gone_dead


class DeadShares:
    """The windows of one process. `share_max` is exclusive: that share is still borne."""

    def __init__(self, records_min: int, share_max: float) -> None:
        self._records_min, self._share_max = records_min, share_max
        self._windows: dict[str, _Window] = {}

    @property
    def is_idle(self) -> bool:
        """Whether no window holds a bad record: then batches without any need not be told."""
        return not self._windows

    def seen(self, read: Mapping[str, int], dead: Mapping[str, int]) -> list[Exceeded]:
        """A batch was read, so many records of each topic, and so many of them could not be taken."""
        return [found for topic, count in read.items() for found in self._seen(topic, count, dead.get(topic, 0))]

    def forget(self, topic: str) -> None:
        """Begin anew: the topic was paused, or somebody has looked at it."""
        self._windows.pop(topic, None)

    def _seen(self, topic: str, read: int, dead: int) -> Iterator[Exceeded]:
        window = self._windows.get(topic)
        if window is None:
            if not dead:
                return
            window = self._windows[topic] = _Window()
        window.add(read, dead, self._records_min)
        if not window.dead:
            self.forget(topic)
        elif window.read >= self._records_min and window.dead > self._share_max * window.read:
            yield Exceeded(topic, window.read, window.dead)
