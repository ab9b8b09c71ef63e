"""`pointsman agents pause`, `resume` and `retire`: whom the whole fleet asks no more, and asks again.

The router passes such an agent over and says so; its hosts call it no more, and hand what waits in its inbox on along
the chains. What runs may finish. Its log stays as it is. I/O: Kafka, standard input, stdout, stderr.
"""

from __future__ import annotations

import sys
from typing import TextIO

from console.cli.agent_list import require_agent
from console.cli.confirm import confirm
from console.cli.deployment import Deployment
from console.cli.failures import ExitCode
from console.cli.output import Format, Output
from console.cli.pausing import ready, say, show, standing
from schemas.reasons import AgentState, PauseReason
from schemas.topology import Topology
from streams.transport.pauses import AGENT, Pause

PAUSE, RESUME, RETIRE = PauseReason.PAUSED_BY_HAND, PauseReason.RESUMED_BY_HAND, PauseReason.RETIRED


def change(
    deployment: Deployment,
    name: str,
    reason: PauseReason,
    *,
    why: str = "",
    yes: bool = False,
    form: Format,
    out: Output,
    answers: TextIO | None = None,
) -> ExitCode:
    """Says it to the fleet and to the history, unless it stands so already; asks before an agent retires, or returns.

    Raises NotFoundError, UnreachableError, DeliveryError; UsageError where nobody says yes.
    """
    require_agent(deployment, name)
    ready(deployment)
    shown = standing(deployment)
    now = shown.get(AGENT + name)
    if _stands(now, reason):
        out.note(f"{name} is {_state(now).lower()} already.")
    elif reason is PAUSE and now is not None and now.is_retired:
        out.note(f"{name} is retired, which is more than paused: nothing is changed.")
    else:
        if not yes and (reason is RETIRE or (now is not None and now.is_retired)):
            _ask(deployment.topology, name, reason, now, out, answers or sys.stdin)
        now = say(deployment, AGENT + name, now, reason, why)
        if now.paused:
            resting = {pause.name for scope, pause in shown.items() if scope.startswith(AGENT) and pause.paused}
            _warn(deployment.topology, resting | {name}, out)
    show(now, {"agent": name, "state": _state(now), "why": now.note if now else ""}, form, out)
    return ExitCode.OK


def _stands(now: Pause | None, reason: PauseReason) -> bool:
    if reason is RESUME:
        return now is None or not now.paused
    return now is not None and now.paused and now.is_retired == (reason is RETIRE)


def _state(now: Pause | None) -> AgentState:
    if now is None or not now.paused:
        return AgentState.ASKED
    return AgentState.RETIRED if now.is_retired else AgentState.PAUSED


def _ask(topology: Topology, name: str, reason: PauseReason, now: Pause | None, out: Output, answers: TextIO) -> None:
    """Raises UsageError unless somebody says yes."""
    if reason is RETIRE:
        on = [intent for intent, route in topology.routes.items() if name in route.plan]
        question = f"Retire {name}? Nothing is sent to it any more; it is on the routes: {', '.join(on) or 'none'}."
    else:
        question = f"{name} was retired by {now.by if now else ''}. Bring it back?"
    verb = "retire" if reason is RETIRE else "resume"
    confirm(
        question,
        nobody=f"Nobody can be asked here: `pointsman agents {verb} {name} --yes` does it without asking.",
        no="Nothing was changed.",
        out=out,
        answers=answers,
    )


def _warn(topology: Topology, resting: set[str], out: Output) -> None:
    """Says which routes nobody is left to answer."""
    for intent, route in topology.routes.items():
        if set(route.plan) <= resting:
            fallback = "their tasks fail" if route.fallback.answer is None else "its fallback answer is given"
            out.note(f"warning: every agent of the route {intent} is paused or retired: {fallback}.")
