"""What runs beside a store: the making of summaries, once it serves. I/O: a thread, ClickHouse."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

from console.memory.recall import StoreRecall
from console.memory.summaries import Maker, keep_making
from schemas.settings import Settings
from schemas.topology import Topology
from streams.history.conversations import Conversations
from streams.history.lag import Lag
from streams.history.summaries import TIMEOUT_S, Summaries

Ready = Callable[[Mapping[str, object]], None]


def with_summaries(
    settings: Settings, topology: Topology, ready: Ready, stop: threading.Event, lag: Lag | None = None
) -> Ready:
    """`ready`, which also has summaries made from then on, where agents are shown their conversations. They wait while
    the history is behind by `lag`."""

    def told(facts: Mapping[str, object]) -> None:
        ready(facts)
        if any(agent.remembers for agent in topology.agents.values()):
            where = (str(facts["clickhouse"]), *settings.clickhouse_login)
            recall = StoreRecall(topology, Conversations(*where, TIMEOUT_S))
            keep_making(Maker(recall, Summaries(*where)), stop, lag or Lag())

    return told
