"""Memory out of the history for a host, which loads ClickHouse's client only where it needs it. I/O: ClickHouse."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from agents.memory.model import Key
from agents.memory.ports import Recall, Remembered
from schemas.settings import Settings
from schemas.topology import Topology


class RecallWhenAsked:
    """An `agents.memory.ports.Recall`, used in one thread. Most hosts have their conversations at hand, and start
    sooner without."""

    def __init__(self, settings: Settings, topology: Topology, timeout_s: float = 1.0) -> None:
        self._settings, self._topology, self._timeout_s = settings, topology, timeout_s
        self._recall: Recall | None = None

    def recall(self, partition: int, keys: Collection[Key]) -> tuple[Mapping[Key, Remembered], Mapping[str, int]]:
        """As `console.memory.recall.StoreRecall.recall`."""
        if self._recall is None:
            self._recall = self._opened()
        return self._recall.recall(partition, keys)

    def _opened(self) -> Recall:
        from console.memory.recall import StoreRecall  # noqa: PLC0415  see above
        from streams.history.conversations import Conversations  # noqa: PLC0415  see above

        settings = self._settings
        reader = Conversations(settings.clickhouse, *settings.clickhouse_login, self._timeout_s)
        return StoreRecall(self._topology, reader)
