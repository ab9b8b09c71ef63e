"""What a program tells the Faust driver: what to read, in which sizes, and whom to ask when partitions come and go.

I/O: none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol


class Hooks(Protocol):
    """Run on the app's event loop, one at a time. An exception from any of them ends the app."""

    async def on_assigned(self, partitions: list[int]) -> Mapping[tuple[str, int], int]:
        """Recover, and return the offset to read from of every topic-partition: the anchor's and each mirror's.

        May take long; the group is kept up meanwhile. Cancelled when the partitions go before it returns: then it
        cleans up by itself, and neither of the others is called. `partitions` is empty for a member with none.
        """

    async def on_revoked(self, partitions: list[int]) -> None:
        """Finish the turn, deliver, commit the cut: the partitions are still ours. No further batch arrives.

        When it overruns its time it is cancelled, and `on_lost` is called.
        """

    async def on_lost(self, partitions: list[int]) -> None:
        """Forget what was going on: the partitions are no longer ours, and commits are refused."""


@dataclass(frozen=True)
class DriverOptions:
    """`config` comes from `client_config(..., "consumer", group=..., reset="error")`.

    The group shares out the partitions of `anchor`, the only topic subscribed to; the same partition numbers of all
    `mirrors` are read along. Batches hold records of one channel, `rows_max` and `bytes_max` of keys and values at
    most; a poll waits `poll_s` at most, less while little is read, and while turns take less than `turn_share` of a
    core.
    """

    config: Mapping[str, Any]
    anchor: str
    mirrors: tuple[str, ...]
    channel_of: Callable[[str], str]
    rows_max: int
    bytes_max: int
    poll_s: float
    turn_share: float
    hooks: Hooks
