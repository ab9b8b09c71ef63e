"""Who is asked first: a task's confidence band, value tier and the breakers make its plan.

Rules R4 to R6 of docs/rules.md. I/O: none.
"""

from __future__ import annotations

from schemas.reasons import DispatchReason
from streams.core.availability import Availability
from streams.core.policy import Policy, RoutePolicy
from streams.core.task import Plan

SINGLE, PANEL, FALLBACK = "SINGLE", "PANEL", "FALLBACK"


def band_of(policy: Policy, confidence: float, tier: str) -> str:
    """The confidence band; the highest value tier always gets a panel."""
    bands = policy.topology.bands
    if tier == "HIGH" or bands.panel_above < confidence <= bands.single_above:
        return PANEL
    return SINGLE if confidence > bands.single_above else FALLBACK


def plan(
    policy: Policy, availability: Availability, route: RoutePolicy, confidence: float, tier: str, deadline_ms: int
) -> Plan | None:
    """The plan of a new task; None where nobody may be asked and the fallback answer stands alone.

    `deadline_ms` is that of tasks that state none. A probe that the plan uses is spent by the caller, who knows whether
    the plan is carried out.
    """
    band = band_of(policy, confidence, tier)
    if band == FALLBACK:
        return _fallback(route, confidence, tier, deadline_ms)
    if band == PANEL:
        seats = _seats(policy, availability, route, tier)
        if len(seats) >= policy.topology.consensus.quorum:
            return _panel(route, confidence, tier, deadline_ms, seats)
        return _single(availability, route, confidence, tier, deadline_ms, DispatchReason.PANEL_TOO_SMALL)
    return _single(availability, route, confidence, tier, deadline_ms, None)


def _fallback(route: RoutePolicy, confidence: float, tier: str, deadline_ms: int) -> Plan | None:
    agent = route.fallback_agent
    if agent is None:
        return None
    reasons = (DispatchReason.LOW_CONFIDENCE.value,)
    return Plan(route, confidence, FALLBACK, tier, (), (agent,), reasons, (0,), (), deadline_ms)


def _single(
    availability: Availability,
    route: RoutePolicy,
    confidence: float,
    tier: str,
    deadline_ms: int,
    because: DispatchReason | None,
) -> Plan:
    found = next((agent for agent in route.agents if availability.is_available(agent)), None)
    agent = route.agents[0] if found is None else found
    probe = availability.probe_epoch(agent) if found is not None else 0
    if because is not None:
        reason = because
    elif probe:
        reason = DispatchReason.PROBE
    elif found is None:
        reason = DispatchReason.BREAKER_FLOOR
    else:
        reason = DispatchReason.ROUTED if agent == route.agents[0] else DispatchReason.BREAKER_OPEN
    chain = tuple(each for each in route.chain if each != agent)
    return Plan(route, confidence, SINGLE, tier, (), (agent,), (reason.value,), (probe,), chain, deadline_ms)


Seat = tuple[str, DispatchReason, int]


def _seats(policy: Policy, availability: Availability, route: RoutePolicy, tier: str) -> list[Seat]:
    """Available voters first; then as many others as the quorum needs: an intent never goes without its last agents."""
    consensus = policy.topology.consensus
    size = consensus.high_value_panel_size if tier == "HIGH" else consensus.panel_size
    seats: list[Seat] = []
    for agent in route.voters:
        if len(seats) < size and availability.is_available(agent):
            probe = availability.probe_epoch(agent)
            seats.append((agent, DispatchReason.PROBE if probe else DispatchReason.PANEL, probe))
    seated = {agent for agent, _, _ in seats}
    for agent in route.voters:
        if len(seats) < consensus.quorum and agent not in seated:
            seats.append((agent, DispatchReason.BREAKER_FLOOR, 0))
    return seats


def _panel(route: RoutePolicy, confidence: float, tier: str, deadline_ms: int, seats: list[Seat]) -> Plan:
    agents = tuple(agent for agent, _, _ in seats)
    chain = tuple(each for each in route.chain if each not in agents)
    reasons = tuple(reason.value for _, reason, _ in seats)
    probes = tuple(probe for _, _, probe in seats)
    return Plan(route, confidence, PANEL, tier, agents, agents, reasons, probes, chain, deadline_ms)
