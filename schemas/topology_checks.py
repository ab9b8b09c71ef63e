"""What one part of a topology asks of another: each rule reports every place that breaks it.

I/O: none.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

from schemas import topology_kinds
from schemas.codes import FaultCode
from schemas.nearest import suggest
from schemas.topology_finding import Finding

if TYPE_CHECKING:
    from schemas.topology import Route, Topology
    from schemas.topology_yaml import KeyPath

TOPIC_CHARACTERS_MAX = 249  # Kafka's bound
AGENT_NAME = re.compile(r"[a-z][a-z0-9_]*")
AGENT_NAME_RULE = "use lower-case letters, digits and underscores, a letter first"
SECRET = re.compile(r"password|secret|\.pem$|oauthbearer\.config$")

# Which of librdkafka's properties are not the topology's to set, and why.
OWN_PROPERTIES = {
    **dict.fromkeys(("bootstrap.servers", "metadata.broker.list"), "--broker or POINTSMAN_BROKER names the brokers"),
    **dict.fromkeys(("group.id", "group.instance.id"), "pointsman names its groups, after the prefix"),
    **dict.fromkeys(
        ("enable.auto.commit", "enable.auto.offset.store", "auto.offset.reset"), "pointsman commits positions itself"
    ),
    "partitioner": "every producer of a deployment must have the same one",
}


def check(topology: Topology) -> Iterator[Finding]:
    """Every finding of every rule."""
    for rule in RULES:
        yield from rule(topology)


def _names(topology: Topology) -> Iterator[Finding]:
    for name in topology.agents:
        if not AGENT_NAME.fullmatch(name):
            need = f"is part of topic names: {AGENT_NAME_RULE}"
            yield Finding(FaultCode.AGENT_NAME, ("agents", name), need)
    for intent in topology.routes:
        if not intent.strip():
            yield Finding(FaultCode.INTENT_NAME, ("routes", intent), "an intent needs a name")
    if topology.default_route not in topology.routes:
        hint = suggest(topology.default_route, topology.routes)
        text = f"there is no route {topology.default_route}{hint}"
        yield Finding(FaultCode.UNKNOWN_ROUTE, ("default_route",), text, (("routes",),))


def _topic_lengths(topology: Topology) -> Iterator[Finding]:
    topics = topology.topics()
    for name in topology.agents:
        longest = max(len(topics.inbox(name)), len(topics.events(name)))
        if longest > TOPIC_CHARACTERS_MAX:
            text = f"makes a topic name of {longest} characters; Kafka takes {TOPIC_CHARACTERS_MAX}"
            yield Finding(FaultCode.TOPIC_NAME_TOO_LONG, ("agents", name), text, (("prefix",),))


def _chains(topology: Topology) -> Iterator[Finding]:
    for intent, route in topology.routes.items():
        yield from _agent_list(topology, ("routes", intent, "agents"), route.agents)
        last = route.fallback.agent
        if last is not None and last not in topology.agents:
            text = f"there is no agent {last}{suggest(last, topology.agents)}"
            yield Finding(FaultCode.UNKNOWN_AGENT, _fallback(intent, "agent"), text)
        if last is None and route.fallback.answer is None:
            text = "tasks can end without an answer: give it an agent, an answer, or both"
            either = (_fallback(intent, "agent"), _fallback(intent, "answer"))
            yield Finding(FaultCode.NO_FALLBACK, ("routes", intent, "fallback"), text, either)
        texts = ((_fallback(intent, "answer"), route.fallback.answer), (_low_value(intent), route.low_value_answer))
        for path, shown in texts:
            if shown is not None and not shown.strip():
                yield Finding(FaultCode.BLANK_ANSWER, path, "is blank: write what people shall read, or leave it out")


def _fallback(intent: str, key: str) -> KeyPath:
    return ("routes", intent, "fallback", key)


def _low_value(intent: str) -> KeyPath:
    return ("routes", intent, "low_value_answer")


def _agent_list(topology: Topology, path: KeyPath, names: tuple[str, ...]) -> Iterator[Finding]:
    for i, name in enumerate(names):
        if name not in topology.agents:
            yield Finding(
                FaultCode.UNKNOWN_AGENT, (*path, i), f"there is no agent {name}{suggest(name, topology.agents)}"
            )
        elif name in names[:i]:
            yield Finding(FaultCode.AGENT_TWICE, (*path, i), f"agent {name} is in this list already: take it out")


def _panels(topology: Topology) -> Iterator[Finding]:
    size = topology.consensus.panel_size
    for intent, route in topology.routes.items():
        if route.panel is None:
            continue
        path: KeyPath = ("routes", intent, "panel")
        yield from _agent_list(topology, path, route.panel)
        for i, name in enumerate(route.panel):
            if name in topology.agents and topology.agents[name].effect == "write":
                text = f"agent {name} writes, and a panel asks several agents at once: take it out"
                yield Finding(FaultCode.WRITER_IN_PANEL, (*path, i), text, (("agents", name, "effect"),))
        if len(set(route.panel)) < size:
            text = f"has {len(set(route.panel))} of the {size} agents that consensus.panel_size asks for"
            yield Finding(FaultCode.PANEL_TOO_SMALL, path, text, (("consensus", "panel_size"),))


def _deadlines(topology: Topology) -> Iterator[Finding]:
    limit = topology.limits.deadline_max_ms
    limit_path: KeyPath = ("limits", "deadline_max_ms")
    default = topology.defaults.deadline_ms
    if default > limit:
        text = f"{default} is above limits.deadline_max_ms, {limit}"
        yield Finding(FaultCode.DEADLINE_TOO_FAR, ("defaults", "deadline_ms"), text, (limit_path,))
    for tenant, own in topology.tenants.items():
        if own.deadline_ms is not None and own.deadline_ms > limit:
            text = f"{own.deadline_ms} is above limits.deadline_max_ms, {limit}"
            yield Finding(FaultCode.DEADLINE_TOO_FAR, ("tenants", tenant, "deadline_ms"), text, (limit_path,))
    for intent, route in topology.routes.items():
        path: KeyPath = ("routes", intent, "deadline_ms")
        if route.deadline_ms is not None and route.deadline_ms > limit:
            text = f"{route.deadline_ms} is above limits.deadline_max_ms, {limit}"
            yield Finding(FaultCode.DEADLINE_TOO_FAR, path, text, (limit_path,))
        yield from _too_slow(topology, intent, route)


def _too_slow(topology: Topology, intent: str, route: Route) -> Iterator[Finding]:
    """Agents that may take longer than the whole task has, by the route or by the defaults."""
    asked = dict.fromkeys((*route.plan, *(route.panel or ())))
    timeouts = {name: topology.agents[name].timeout_ms for name in asked if name in topology.agents}
    path: KeyPath = ("routes", intent, "deadline_ms")
    if route.deadline_ms is not None:
        yield from _below_timeouts(path, f"{route.deadline_ms}", route.deadline_ms, timeouts)
        return
    default = topology.defaults.deadline_ms
    default_path: KeyPath = ("defaults", "deadline_ms")
    mine = f"is not stated, and the default, {default},"
    yield from _below_timeouts(path, mine, default, timeouts, default_path)
    for tenant, own in topology.tenants.items():
        if own.deadline_ms is not None:
            path = ("tenants", tenant, "deadline_ms")
            mine = f"{own.deadline_ms}, which counts on route {intent},"
            stated: KeyPath = ("routes", intent, "deadline_ms")
            yield from _below_timeouts(path, mine, own.deadline_ms, timeouts, stated)


def _below_timeouts(
    path: KeyPath, mine: str, deadline_ms: int, timeouts: Mapping[str, int], *depends_on: KeyPath
) -> Iterator[Finding]:
    slow = {name: timeout for name, timeout in timeouts.items() if timeout > deadline_ms}
    if slow:
        text = f"{mine} is below the timeout of agent " + ", ".join(f"{name} ({slow[name]})" for name in slow)
        agents: list[KeyPath] = [("agents", name, "timeout_ms") for name in slow]
        yield Finding(FaultCode.DEADLINE_BELOW_TIMEOUT, path, text, (*agents, *depends_on))


def _phrases(topology: Topology) -> Iterator[Finding]:
    first: dict[str, str] = {}
    for intent, route in topology.routes.items():
        for i, rule in enumerate(route.phrases):
            # As phrase rules compare: ASCII letters have no case.
            folded = rule.phrase.strip().encode().lower().decode()
            path: KeyPath = ("routes", intent, "phrases", i)
            if folded in first:
                owner = "this route" if first[folded] == intent else f"route {first[folded]}"
                text = f"phrase {folded} is in {owner} already"
                yield Finding(FaultCode.PHRASE_TWICE, path, text, ((*path, "phrase"),))
            first.setdefault(folded, intent)


class _Order(NamedTuple):
    """A number that must not be above another."""

    low: tuple[str, str]
    high: tuple[str, str]
    at_low: bool = True  # where the finding is placed


_ORDERS = (
    _Order(("bands", "panel_above"), ("bands", "single_above")),
    _Order(("consensus", "quorum"), ("consensus", "panel_size")),
    _Order(("consensus", "panel_size"), ("consensus", "high_value_panel_size"), at_low=False),
    _Order(("breaker", "open_ms"), ("breaker", "open_ms_max")),
    _Order(("topic_policy", "min_insync_replicas"), ("topic_policy", "replication")),
    _Order(("limits", "health_interval_ms"), ("breaker", "window_ms")),
    _Order(("limits", "transaction_interval_ms"), ("limits", "transaction_timeout_ms")),
    _Order(("limits", "context_tokens"), ("limits", "context_tokens_max")),
    _Order(("limits", "record_bytes_max"), ("limits", "batch_bytes_max")),
    _Order(("limits", "record_bytes_max"), ("limits", "inflight_bytes_max")),
    _Order(("limits", "batch_bytes_max"), ("limits", "history_buffer_bytes_max"), at_low=False),
)


def _orders(topology: Topology) -> Iterator[Finding]:
    for low, high, at_low in _ORDERS:
        least, most = (getattr(getattr(topology, section), key) for section, key in (low, high))
        if None not in (least, most) and least > most:
            path, other, relation = (low, high, "above") if at_low else (high, low, "below")
            mine, theirs = (least, most) if at_low else (most, least)
            text = f"{mine} is {relation} {'.'.join(other)}, {theirs}"
            yield Finding(FaultCode.OUT_OF_ORDER, path, text, (other,))


def _retention(topology: Topology) -> Iterator[Finding]:
    """Recovery reads tasks as old as the farthest deadline, and results for the duplicate horizon."""
    policy = topology.topic_policy
    kept = min(("tasks_retention_ms", "logs_retention_ms"), key=lambda key: int(getattr(policy, key)))
    retention_ms = getattr(policy, kept)
    for key in ("deadline_max_ms", "duplicate_horizon_ms"):
        value = getattr(topology.limits, key)
        if value >= retention_ms:
            text = f"{value} is not below the time for which topics keep what recovery needs, topic_policy.{kept}"
            depends_on = (("topic_policy", kept),)
            yield Finding(FaultCode.BEYOND_RETENTION, ("limits", key), f"{text}, {retention_ms}", depends_on)


def _secrets(topology: Topology) -> Iterator[Finding]:
    for key in topology.kafka:
        if SECRET.search(key):
            text = "secrets do not belong in this file: put it in the one that POINTSMAN_KAFKA_CONFIG names"
            yield Finding(FaultCode.SECRET, ("kafka", key), text)


def _own_properties(topology: Topology) -> Iterator[Finding]:
    for key in topology.kafka:
        if key in OWN_PROPERTIES:
            yield Finding(FaultCode.KAFKA_PROPERTY, ("kafka", key), f"leave it out: {OWN_PROPERTIES[key]}")


RULES: tuple[Callable[[Topology], Iterator[Finding]], ...] = (
    _names,
    _topic_lengths,
    _chains,
    _panels,
    _deadlines,
    _phrases,
    _orders,
    _retention,
    _secrets,
    _own_properties,
    *topology_kinds.RULES,
)
