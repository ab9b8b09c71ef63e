"""Whether a member of a group has lost sight of its coordinator, though brokers answer: by librdkafka's statistics.

A member asks any broker who coordinates its group. Where that is never answered it is in no group any more, reads
nothing, hears no error, and each of its commits waits a whole session: others may be well meanwhile. No clock, no I/O.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

STATISTICS_MS = 10_000
"""How often librdkafka tells its statistics. They come within polls, and late where a call keeps the poller."""
STRANDED_S = 60.0
"""librdkafka asks again by itself, after `socket.timeout.ms`: four times, by then."""

_STATE_OF_A_SOUND_GROUP = "up"


class Coordination:
    """Of one consumer. Only the statistics' own times count, for they may come long after they were made."""

    def __init__(self) -> None:
        self._since_s: float | None = None

    def look(self, statistics: str) -> str | None:
        """Takes statistics in librdkafka's JSON; says what is wrong, once the coordinator was out of sight for
        `STRANDED_S`, and a broker within sight all the time."""
        seen: dict[str, Any] = json.loads(statistics)
        group, now_s = seen.get("cgrp"), seen["ts"] / 1e6
        brokers = sorted(_brokers_in_sight(seen))
        if group is None or group["state"] == _STATE_OF_A_SOUND_GROUP or not brokers:
            self._since_s = None
            return None
        if self._since_s is None:
            self._since_s = now_s
        if now_s - self._since_s < STRANDED_S:
            return None
        return (
            f"no coordinator of the consumer group was found for {now_s - self._since_s:.0f} s (librdkafka's state "
            f"{group['state']}), though {', '.join(brokers)} can be reached"
        )


def _brokers_in_sight(seen: dict[str, Any]) -> Iterator[str]:
    """The coordinator has a connection of its own, which counts as no broker."""
    for name, broker in seen["brokers"].items():
        if broker["state"] == "UP" and broker.get("source") != "logical":
            yield name
