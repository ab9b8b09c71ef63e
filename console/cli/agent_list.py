"""`pointsman agents list` and `show`: every agent as the fleet has it now, whoever of its hosts is alive.

An agent is its log, so all of this is read out of topics and of the hosts' group; no host is asked. I/O: Kafka, stdout,
stderr.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from agents.inbox import read_note
from console.cli.deployment import Deployment
from console.cli.failures import ExitCode, NotFoundError
from console.cli.output import Format, Output, Row
from console.cli.pausing import codec_of, standing
from schemas.access import group_of
from schemas.codes import ErrorCode
from schemas.nearest import suggest
from schemas.reasons import AgentState
from streams.control import BreakerView, CardView
from streams.transport.admin import check_topics, offsets
from streams.transport.clients import TransportError
from streams.transport.pauses import AGENT, Pause
from streams.transport.topic_admin import TopicAdmin

COLUMNS = ("agent", "state", "hosts", "epoch", "version", "breaker", "inbox", "last_activity")
PARTITION_COLUMNS = ("partition", "host", "epoch", "inbox", "last_activity")
OFFSETS_TIMEOUT_S = 5.0

TP = tuple[str, int]


@dataclass(frozen=True)
class Fleet:
    """What the broker knows of all agents. `breakers` and `cards` are None where this user may not read them."""

    deployment: Deployment
    owners: Mapping[TP, str]
    positions: Mapping[TP, int]
    notes: Mapping[TP, str]
    marks: Mapping[TP, tuple[int, int]]
    newest: Mapping[TP, int]
    pauses: Mapping[str, Pause]
    breakers: Mapping[str, Any] | None
    cards: Mapping[str, dict[str, Any]] | None = field(default=None)

    @classmethod
    def read(cls, deployment: Deployment) -> Fleet:
        """Raises UnreachableError where there is no broker, or no topics yet."""
        settings, topology = deployment.settings, deployment.topology
        topics = topology.topics()
        check_topics(settings, [*topics.inboxes, *topics.logs, topics.pauses], topology)
        admin = TopicAdmin(settings, topology)
        group = group_of("host", topics.prefix)
        tps = [(name, number) for name in topics.inboxes for number in range(topics.partitions)]
        logs = [(name, number) for name in topics.logs for number in range(topics.partitions)]
        return cls(
            deployment,
            admin.owners(group),
            admin.positions(group),
            admin.notes(group),
            offsets(settings, tps, topology, wait_s=OFFSETS_TIMEOUT_S),
            admin.newest(logs),
            standing(deployment),
            _shown(BreakerView, deployment),
            _shown(CardView, deployment),
        )

    def partitions(self, name: str) -> list[dict[str, Any]]:
        """Each partition of the agent: who serves it, in which epoch, and what waits."""
        topics = self.deployment.topology.topics()
        inbox, log = topics.inbox(name), topics.events(name)
        return [
            {
                "partition": number,
                "host": self.owners.get((inbox, number)),
                "epoch": max((epoch for _, epoch in read_note(self.notes.get((inbox, number), "")).since), default=0),
                "inbox": self._waiting((inbox, number)),
                "last_activity": _time(self.newest.get((log, number))),
            }
            for number in range(topics.partitions)
        ]

    def row(self, name: str) -> dict[str, Any]:
        """The agent as a whole."""
        parts, pause = self.partitions(name), self.pauses.get(AGENT + name)
        rests = pause if pause is not None and pause.paused else None
        card = None if self.cards is None else self.cards.get(name)
        return {
            "agent": name,
            "state": self._state(parts, rests),
            "hosts": sorted({part["host"] for part in parts if part["host"] is not None}),
            "epoch": max(part["epoch"] for part in parts),
            "version": None if card is None else card["version"],
            "breaker": None if self.breakers is None else _phase(self.breakers.get(name)),
            "inbox": sum(part["inbox"] for part in parts),
            "last_activity": max((part["last_activity"] for part in parts if part["last_activity"]), default=None),
            "paused_by": rests.by if rests else None,
            "paused_at": _time(rests.at // 1000) if rests else None,
            "why": rests.note or str(rests.reason) if rests else None,
        }

    @staticmethod
    def _state(parts: list[dict[str, Any]], pause: Pause | None) -> AgentState:
        if pause is not None:
            return AgentState.RETIRED if pause.is_retired else AgentState.PAUSED
        served = sum(part["host"] is not None for part in parts)
        return AgentState.LIVE if served == len(parts) else AgentState.PARTLY if served else AgentState.DOWN

    def _waiting(self, inbox: TP) -> int:
        low, end = self.marks.get(inbox, (0, 0))
        return max(end - max(self.positions.get(inbox, low), low), 0)


def list_agents(deployment: Deployment, *, form: Format, out: Output) -> ExitCode:
    """Prints a row for each agent of the topology. Raises UnreachableError."""
    fleet = Fleet.read(deployment)
    rows = [fleet.row(name) for name in deployment.topology.agents]
    out.records([_narrow(row) for row in rows] if form is Format.TABLE else rows, COLUMNS, form)
    for row in rows:
        if row["paused_by"] is not None:
            out.note(f"{row['agent']} is {row['state'].lower()} by {row['paused_by']}: {row['why']}")
    return ExitCode.OK


def show_agent(deployment: Deployment, name: str, *, form: Format, out: Output) -> ExitCode:
    """Prints one agent, what is known of it, and its partitions. Raises NotFoundError, UnreachableError."""
    require_agent(deployment, name)
    fleet = Fleet.read(deployment)
    agent, topology = deployment.topology.agents[name], deployment.topology
    card = (fleet.cards or {}).get(name)
    about = {
        **fleet.row(name),
        "declared_version": agent.version,
        "announced_by": card["host_id"] if card else None,
        "announced_at": _time(card["announced_at"] // 1000) if card else None,
        "kind": agent.kind,
        "effect": agent.effect,
        "description": agent.description,
        "routes": [intent for intent, route in topology.routes.items() if name in route.plan],
        "log": topology.topics().events(name),
    }
    partitions = fleet.partitions(name)
    if form is Format.TABLE:
        out.table(("property", "value"), list(_narrow(about).items()))
        out.line()
        out.records(partitions, PARTITION_COLUMNS, form)
    elif form is Format.JSON:
        out.json({**about, "partitions": partitions})
    else:
        out.json_line({**about, "partitions": partitions})
    return ExitCode.OK


def require_agent(deployment: Deployment, name: str) -> None:
    """Raises NotFoundError for a name that is no agent of the topology."""
    agents = deployment.topology.agents
    if name not in agents:
        text = f"The topology has no agent {name}{suggest(name, agents)}"
        raise NotFoundError(text, code=ErrorCode.NO_AGENT)


def _shown(view: type[BreakerView | CardView], deployment: Deployment) -> Mapping[str, Any] | None:
    try:
        with closing(view(deployment.settings, deployment.topology, codec_of(deployment))) as opened:
            opened.read_once()
            return dict(opened.snapshot())
    except TransportError:
        return None


def _phase(state: Any) -> str:
    return "CLOSED" if state is None else str(state.phase)


def _narrow(row: Row) -> dict[str, object]:
    """For a terminal: how many hosts, not which; lists as text."""
    hosts = row["hosts"]
    assert isinstance(hosts, list)
    shown = {**row, "hosts": len(hosts)}
    return {name: ", ".join(value) if isinstance(value, list) else value for name, value in shown.items()}


def _time(at_ms: int | None) -> datetime | None:
    return None if at_ms is None else datetime.fromtimestamp(at_ms / 1000, UTC)
