"""The kinds of faults that a plan may name: to whom each can be done, how long it lasts, and what it takes.

I/O: none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, get_args

FaultName = Literal[
    "kill",
    "stop",
    "pause",
    "broker-restart",
    "broker-kill",
    "delay",
    "cut",
    "half-open",
    "errors",
    "lost-answers",
    "api-outage",
    "agent-slow",
    "agent-fails",
    "agent-hangs",
    "agent-unsure",
    "agent-wrong",
    "corrupt",
    "rebalance",
    "clock-jump",
]

PROCESSES = ("worker", "host", "store", "clickhouse", "service")
# Links to the broker, by who is behind them; store to ClickHouse; hosts to the service of api_agent.
LINKS = ("worker", "host", "store", "client", "clickhouse", "service")
AGENTS = ("first_agent", "second_agent", "third_agent", "model_agent", "api_agent", "booking_agent")
GROUPS = ("worker", "host", "store")


@dataclass(frozen=True, slots=True)
class Kind:
    """`targets`: the first is taken where none is named. `for_s`: how long it usually lasts. `keys`: its own of a step.

    `since_start`: recovery is counted from the injection, because mending is the deployment's own affair; otherwise it
    is counted from when the fault was over.
    """

    means: str
    targets: tuple[str, ...]
    for_s: float = 0.0
    keys: frozenset[str] = frozenset()
    since_start: bool = False
    from_outside: bool = False


_SHARE = frozenset({"share"})
KINDS: Mapping[FaultName, Kind] = MappingProxyType(
    {
        "kill": Kind("SIGKILL; started again after for_s", PROCESSES, since_start=True, from_outside=True),
        "stop": Kind("SIGTERM; started again after for_s", PROCESSES, since_start=True, from_outside=True),
        "pause": Kind("SIGSTOP, and SIGCONT after for_s", (*PROCESSES, "broker"), 3.0, from_outside=True),
        "broker-restart": Kind("the broker is stopped, and started after for_s", ("broker",), 1.0),
        "broker-kill": Kind("SIGKILL for the broker, which is started after for_s", ("broker",), 1.0),
        "delay": Kind("what passes a link comes late, each way", LINKS, 5.0, frozenset({"delay_ms"})),
        "cut": Kind("connections of a link are reset, new ones refused", LINKS, 4.0),
        "half-open": Kind("a link takes connections and lets nothing through", LINKS, 4.0),
        "errors": Kind("requests are answered with status 500", ("clickhouse", "service"), 5.0),
        "lost-answers": Kind("requests are done, and their answers lost", ("clickhouse", "service"), 5.0),
        "api-outage": Kind(
            "the service of api_agent is cut off, silent or answers 500, by the seed", ("service",), 8.0
        ),
        "agent-slow": Kind("an agent takes longer", ("agent",), 6.0, frozenset({"slow_ms"})),
        "agent-fails": Kind("an agent fails a share of its tasks", ("agent",), 6.0, _SHARE),
        "agent-hangs": Kind("an agent never answers a share of its tasks", ("agent",), 6.0, _SHARE),
        "agent-unsure": Kind("an agent has little confidence in a share of its answers", ("agent",), 6.0, _SHARE),
        "agent-wrong": Kind("an agent makes a share of its answers up", ("agent",), 6.0, _SHARE),
        "corrupt": Kind(
            "records that are none, on every topic", ("topics",), 0.0, frozenset({"records"}), from_outside=True
        ),
        "rebalance": Kind(
            "members that join a group and leave it", GROUPS, 8.0, frozenset({"every_s"}), from_outside=True
        ),
        "clock-jump": Kind("the wall clock of a process jumps, and back", ("worker", "host"), 5.0, frozenset({"by_s"})),
    }
)
assert set(KINDS) == set(get_args(FaultName))
