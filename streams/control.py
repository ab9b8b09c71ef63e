"""Views of compacted topics: what the fleet has agreed on, held in memory by every worker.

I/O: Kafka, in a thread of each view's own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from schemas.epochs import EPOCH_MAX
from streams.core.breaker import Phase, State, from_row
from streams.transport.clients import client_config
from streams.transport.compacted import CompactedView
from streams.transport.telemetry import BREAKER_STATE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from schemas.codec import Codec
    from schemas.topology import Topology
    from streams.transport.clients import BrokerSettings

CLOSED = State()
GAUGE = {Phase.CLOSED: 0, Phase.OPEN: 1, Phase.HALF_OPEN: 2}


class BreakerView(CompactedView[State]):
    """Every agent's breaker as `control.breakers.v1` has it; an agent that is not in it is closed.

    `codec` is this view's own: it is used in its thread.
    """

    def __init__(self, settings: BrokerSettings, topology: Topology, codec: Codec) -> None:
        config = client_config(settings, topology, "consumer", name="pointsman-breaker-view")
        super().__init__(config, topology.topics().breakers, lambda values: _states(codec, values))
        self._agents = tuple(topology.agents)
        self.changed({})

    def changed(self, values: Mapping[str, State]) -> None:
        for agent_id in self._agents:
            BREAKER_STATE.labels(agent=agent_id).set(GAUGE[values.get(agent_id, CLOSED).phase])


class CardView(CompactedView["dict[str, Any]"]):
    """What the hosts said last of each agent, by its name, as `control.agents.v1` has it: AgentCard's fields.

    `codec` is this view's own: it is used in its thread.
    """

    def __init__(self, settings: BrokerSettings, topology: Topology, codec: Codec) -> None:
        config = client_config(settings, topology, "consumer", name="pointsman-card-view")
        super().__init__(config, topology.topics().cards, lambda values: _cards(codec, values))


def _cards(codec: Codec, values: Sequence[bytes]) -> list[dict[str, Any] | None]:
    decoded = codec.decode(values, "AgentCard")
    cards: list[dict[str, Any] | None] = [None] * len(values)
    for row, record in zip(decoded.rows.tolist(), decoded.batch.to_pylist(), strict=True):
        cards[row] = record
    return cards


def _states(codec: Codec, values: Sequence[bytes]) -> list[State | None]:
    decoded = codec.decode(values, "BreakerState")
    states: list[State | None] = [None] * len(values)
    for row, record in zip(decoded.rows.tolist(), decoded.batch.to_pylist(), strict=True):
        # Each change has a higher epoch than the one before: a state that leaves no room for one is nobody's.
        states[row] = from_row(record) if record["epoch"] <= EPOCH_MAX else None
    return states
