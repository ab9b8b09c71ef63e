"""`pointsman agents test`: one agent alone, and what the host would record and the worker make of it.

I/O: what the agent does, stdout, stderr.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Iterator, MutableMapping, Sequence
from typing import Any, NamedTuple

import structlog

from agents.process import run_loop
from agents.registry import resolve_one
from agents.targets import Program
from agents.trial import Tried, try_agent
from console.cli.deployment import Deployment
from console.cli.failures import ExitCode, NotFoundError
from console.cli.output import Format, Output, Row
from schemas.codes import ErrorCode
from schemas.nearest import suggest
from schemas.reasons import FailReason
from schemas.topology import Topology
from streams.client import Submission
from streams.client.submissions import columns_of
from streams.core.columns import outcomes
from streams.core.judge import AGAINST_THE_AGENT, LEAVES_DOUBT, judge
from streams.core.policy import Policy
from streams.core.task import Outcome

SHOWN = ("answer", "confidence", "vote_key", "payload", "citations", "facts", "error_class", "error")
SPENT = ("tokens_in", "tokens_out", "cost_microusd")
DEFAULT_TEXT = "hello"


class Verdict(NamedTuple):
    """What the worker would make of an outcome.

    `failure` is None where the answer counts; `breaker` is what the agent's breaker counts: success, failure, nothing.
    """

    failure: FailReason | None
    breaker: str
    means: str


def text_for(topology: Topology, agent_id: str) -> str:
    """What to ask where nothing is given: a phrase by which a route finds the agent."""
    routes = [route for route in topology.routes.values() if agent_id in route.plan]
    phrases = [phrase.phrase for route in routes for phrase in route.phrases]
    return phrases[0] if phrases else DEFAULT_TEXT


def try_out(
    deployment: Deployment, agent_id: str, tasks: Sequence[Submission], *, form: Format, out: Output
) -> ExitCode:
    """Asks the agent for each of the tasks, and prints what came of the last one. FAILED where that is no answer.

    Raises NotFoundError for an agent that there is not, TopologyError for one that cannot be called.
    """
    topology = deployment.topology
    if agent_id not in topology.agents:
        text = f"There is no agent {agent_id} in {topology.source}{suggest(agent_id, topology.agents)}"
        raise NotFoundError(text, code=ErrorCode.NO_AGENT)
    target = resolve_one(topology, agent_id)
    intent = tasks[-1].intent or _intent(topology, agent_id)
    agent = topology.agents[agent_id]
    if agent.effect == "write":
        out.note(f"{agent_id} writes: what it does now, it does")
    if isinstance(target, Program):
        out.note(f"{agent_id} is a program; between it and this machine stands {target.protection}")
    columns = columns_of(tasks, time.time_ns() // 1000)
    # What an agent prints is none of our data.
    with _log_for_people(out), contextlib.redirect_stdout(sys.stderr):
        tried = run_loop(try_agent(topology, agent_id, target, columns, len(tasks), intent))
    for name in tried.passed_over:
        out.note(f"the response has a field {name}, which nobody reads{suggest(name, [*SHOWN, *SPENT])}")
    verdict = _verdict(topology, agent_id, intent, outcomes(tried.events)[-1])
    row = _row(topology, agent_id, tried, verdict)
    if form is Format.TABLE:
        shown = [(name, value) for name, value in row.items() if isinstance(value, bool) or value not in (None, [], 0)]
        out.table(("field", "value"), shown)
    elif form is Format.JSON:
        out.json(row)
    else:
        out.json_line(row)
    return ExitCode.OK if verdict.failure is None else ExitCode.FAILED


def _intent(topology: Topology, agent_id: str) -> str:
    """A route that the agent is on; the first one where it is on none."""
    return next((name for name, route in topology.routes.items() if agent_id in route.plan), topology.default_route)


def _verdict(topology: Topology, agent_id: str, intent: str, outcome: Outcome) -> Verdict:
    agent = Policy.compile(topology).agents[agent_id]
    judged = judge(agent, outcome, topology.answers.confidence_min)
    if not isinstance(judged, FailReason):
        unstated = ", confidence_when_unstated" if outcome.confidence is None else ""
        return Verdict(None, "success", f"its answer counts, with confidence {judged:g}{unstated}")
    breaker = "failure" if judged in AGAINST_THE_AGENT else "nothing"
    if agent.write and judged in LEAVES_DOUBT:
        return Verdict(judged, breaker, "nobody knows what it did: the task ends as ESCALATED, WRITE_UNCERTAIN")
    if judged is FailReason.WRONG_INPUT:
        return Verdict(judged, breaker, "no agent could do it: the task ends as REJECTED")
    return Verdict(judged, breaker, f"{_why(topology, outcome, judged)}; {_next(topology, agent_id, intent)}")


def _why(topology: Topology, outcome: Outcome, failure: FailReason) -> str:
    said = {
        FailReason.LOW_CONFIDENCE: f"it is less sure than answers.confidence_min, {topology.answers.confidence_min:g}",
        FailReason.INVALID_CONFIDENCE: f"its confidence, {outcome.confidence}, is not within 0 and 1",
        FailReason.UNGROUNDED: "it is grounded, and its answer cites nothing",
        FailReason.REFUSED: "it will not do this",
        FailReason.TIMED_OUT: "it did not answer in time",
        FailReason.OVERLOADED: "it has no room now",
    }
    return said.get(failure, "it failed")


def _next(topology: Topology, agent_id: str, intent: str) -> str:
    """What a task of this intent comes to, where the agent was asked first."""
    route = topology.routes.get(intent)
    if route is None or agent_id not in route.plan:
        return "it is on no route of this intent"
    behind = route.plan[route.plan.index(agent_id) + 1 :]
    if behind:
        return f"on route {intent} the next one is asked, {behind[0]}"
    end = "its fallback answer" if route.fallback.answer is not None else "FAILED, CHAIN_EXHAUSTED"
    return f"on route {intent} nobody is left to ask, and the task ends with {end}"


def _row(topology: Topology, agent_id: str, tried: Tried, verdict: Verdict) -> Row:
    *before, event = tried.events.to_pylist()
    slow_ms = topology.breaker.slow_ms
    duration_ms = (event["finished_at"] - event["started_at"]) / 1000
    return {
        "agent_id": agent_id,
        "agent_kind": topology.agents[agent_id].kind,
        "kind": event["kind"],
        **{name: event[name] for name in SHOWN},
        "duration_ms": duration_ms,
        "slow": slow_ms is not None and duration_ms >= slow_ms,
        "started_logged": any(each["kind"] == "STARTED" for each in before),
        **{name: event[name] for name in SPENT},
        "counts": verdict.failure is None,
        "failure": verdict.failure,
        "breaker": verdict.breaker,
        "means": verdict.means,
    }


@contextlib.contextmanager
def _log_for_people(out: Output) -> Iterator[None]:
    """What the host would log, a program's standard error among it, as notes."""

    def note(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> str:
        fields = ", ".join(f"{name}={value}" for name, value in event.items() if name not in ("event", "agent"))
        out.note(f"{event['event']}: {fields}" if fields else str(event["event"]))
        raise structlog.DropEvent

    before = structlog.get_config()
    structlog.configure(processors=[note], wrapper_class=structlog.make_filtering_bound_logger(logging.INFO))
    try:
        yield
    finally:
        structlog.configure(**before)
