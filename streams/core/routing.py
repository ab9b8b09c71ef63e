"""Who is asked first: a task's confidence band, value tier, the breakers and pauses make its plan.

Rules R4 to R6 of docs/rules.md. I/O: none.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from schemas.reasons import DispatchReason, ResultReason
from streams.core.policy import Policy, RoutePolicy
from streams.core.task import Plan

SINGLE, PANEL, FALLBACK = "SINGLE", "PANEL", "FALLBACK"


class Available(Protocol):
    """Who may be asked now: streams.core.availability has it of one partition, and of all that see the same."""

    def is_paused(self, agent_id: str) -> bool: ...
    def is_available(self, agent_id: str) -> bool: ...
    def probe_epoch(self, agent_id: str) -> int: ...


class AtOnce(NamedTuple):
    """How a task ends of which nobody is asked; `is_unsure`: for want of confidence, which is noted, too."""

    status: str
    reason: ResultReason
    text: str | None
    is_unsure: bool = False


def band_of(policy: Policy, confidence: float, tier: str) -> str:
    """The confidence band; the highest value tier always gets a panel."""
    bands = policy.topology.bands
    if tier == "HIGH" or bands.panel_above < confidence <= bands.single_above:
        return PANEL
    return SINGLE if confidence > bands.single_above else FALLBACK


def by_rule(route: RoutePolicy, tier: str) -> AtOnce | None:
    """Rule R5: tasks of low value are answered by rule, where the route has one."""
    if tier != "LOW" or route.low_value_answer is None:
        return None
    return AtOnce("COMPLETED", ResultReason.RULE, route.low_value_answer.replace("{intent}", route.intent))


def plan(
    policy: Policy, availability: Available, route: RoutePolicy, confidence: float, tier: str, deadline_ms: int
) -> Plan | None:
    """The plan of a new task; None where nobody may be asked: `unasked` says what becomes of it.

    `deadline_ms` is that of tasks that state none. A probe that the plan uses is spent by the caller, who knows whether
    the plan is carried out.
    """
    band = band_of(policy, confidence, tier)
    if band == FALLBACK:
        return _fallback(availability, route, confidence, tier, deadline_ms)
    if band == PANEL:
        seats = _seats(policy, availability, route, tier)
        if len(seats) >= policy.topology.consensus.quorum:
            return _panel(route, confidence, tier, deadline_ms, seats)
        return _single(availability, route, confidence, tier, deadline_ms, DispatchReason.PANEL_TOO_SMALL)
    return _single(availability, route, confidence, tier, deadline_ms, None)


def unasked(policy: Policy, route: RoutePolicy, confidence: float, tier: str) -> AtOnce:
    """The end of a task without a plan: the route's own answer, else an honest failure, and why nobody was asked."""
    is_unsure = band_of(policy, confidence, tier) == FALLBACK
    unaided = is_unsure and route.fallback_agent is None
    reason = ResultReason.LOW_CONFIDENCE if unaided else ResultReason.AGENTS_PAUSED
    return AtOnce("FAILED" if route.fallback_answer is None else "DEGRADED", reason, route.fallback_answer, is_unsure)


def _fallback(
    availability: Available, route: RoutePolicy, confidence: float, tier: str, deadline_ms: int
) -> Plan | None:
    agent = route.fallback_agent
    if agent is None or availability.is_paused(agent):
        return None
    reasons = (DispatchReason.LOW_CONFIDENCE.value,)
    return Plan(route, confidence, FALLBACK, tier, (), (agent,), reasons, (0,), (), deadline_ms)


def _single(
    availability: Available,
    route: RoutePolicy,
    confidence: float,
    tier: str,
    deadline_ms: int,
    because: DispatchReason | None,
) -> Plan | None:
    found = next((agent for agent in route.agents if availability.is_available(agent)), None)
    # A breaker is overruled where nobody is left; a person who paused an agent is not. The last of the chain is the
    # fallback agent.
    agent = found or next((agent for agent in route.chain if not availability.is_paused(agent)), None)
    if agent is None:
        return None
    probe = availability.probe_epoch(agent) if found is not None else 0
    if because is not None:
        reason = because
    elif probe:
        reason = DispatchReason.PROBE
    elif found is None and agent in route.agents:
        reason = DispatchReason.BREAKER_FLOOR
    elif agent == route.agents[0]:
        reason = DispatchReason.ROUTED
    else:
        passed_over = availability.is_paused(route.agents[0])
        reason = DispatchReason.AGENT_PAUSED if passed_over else DispatchReason.BREAKER_OPEN
    chain = tuple(each for each in route.chain if each != agent)
    return Plan(route, confidence, SINGLE, tier, (), (agent,), (reason.value,), (probe,), chain, deadline_ms)


Seat = tuple[str, DispatchReason, int]


def _seats(policy: Policy, availability: Available, route: RoutePolicy, tier: str) -> list[Seat]:
    """Available voters first; then as many others as the quorum needs: an intent never goes without its last agents,
    unless a person paused them."""
    consensus = policy.topology.consensus
    size = consensus.high_value_panel_size if tier == "HIGH" else consensus.panel_size
    seats: list[Seat] = []
    for agent in route.voters:
        if len(seats) < size and availability.is_available(agent):
            probe = availability.probe_epoch(agent)
            seats.append((agent, DispatchReason.PROBE if probe else DispatchReason.PANEL, probe))
    seated = {agent for agent, _, _ in seats}
    for agent in route.voters:
        if len(seats) < consensus.quorum and agent not in seated and not availability.is_paused(agent):
            seats.append((agent, DispatchReason.BREAKER_FLOOR, 0))
    return seats


def _panel(route: RoutePolicy, confidence: float, tier: str, deadline_ms: int, seats: list[Seat]) -> Plan:
    agents = tuple(agent for agent, _, _ in seats)
    chain = tuple(each for each in route.chain if each not in agents)
    reasons = tuple(reason.value for _, reason, _ in seats)
    probes = tuple(probe for _, _, probe in seats)
    return Plan(route, confidence, PANEL, tier, agents, agents, reasons, probes, chain, deadline_ms)
