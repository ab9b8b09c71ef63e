"""What a worker asks of what carries it: the driver that reads and commits for it, and the view of all breakers.

I/O: none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from streams.processors.cuts import Committer, Members
from streams.processors.reading import Steering
from streams.transport.batch import TopicPartition


class Driver(Committer, Members, Steering, Protocol):
    """The part of streams.transport.faust_driver.Driver that is used here."""

    async def committed(self, tps: Iterable[tuple[str, int]]) -> dict[TopicPartition, tuple[int, str]]: ...

    async def lag(self) -> Mapping[TopicPartition, int]: ...

    @property
    def is_down(self) -> bool: ...

    @property
    def revoke_s(self) -> float: ...

    def mark_up(self) -> None: ...

    def fail(self, error: BaseException) -> None: ...


class View(Protocol):
    """The part of streams.control.BreakerView that is used here."""

    @property
    def version(self) -> int: ...

    def snapshot(self) -> Mapping[str, Any]: ...
