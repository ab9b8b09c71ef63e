"""What an HTTP status says of an attempt, where the response's body does not say it itself.

docs/agents/protocol.md has the table. The question behind it, for agents that write: may the work have been done? A
status of the request's own fault (4xx) says no; a gateway or a server that broke down (5xx) does not know. I/O: none.
"""

from __future__ import annotations

from http import HTTPStatus

from agents.contract import AgentFailed, AgentOverloaded, AgentRefused, AgentWrongInput
from agents.outcome import OutcomeUnclear
from schemas.reasons import ErrorClass

OK, REDIRECTS, CLIENT_FAULTS, SERVER_FAULTS = range(200, 300), range(300, 400), range(400, 500), range(500, 600)

WRONG_INPUT = {400, 422}
REFUSALS = {413, 414, 431, 451}  # too large for this one, or forbidden to it: another agent may do it
NOT_LET_IN = {401, 403, 407}
NOT_THERE = {404, 405, 406, 410, 415, 421, 501, 505}  # the address is wrong, or what serves it speaks another language
OVERLOADED = {425, 429}
QUOTA = {402}
CONFLICT = 409
SEE_OTHER = {301, 302, 303}  # how servers answer a POST that they have carried out, among other things
TIMEOUT, UNAVAILABLE, GATEWAY_TIMEOUT = 408, 503, 504
GATEWAY = {502, 503}


def failure(status: int, *, retry_after: bool) -> Exception:  # noqa: C901  a table
    """What to raise for a response of this status; `retry_after`: it says when there will be room."""
    said = f"HTTP {status}{_phrase(status)}"
    if status in WRONG_INPUT:
        return AgentWrongInput(said)
    if status in REFUSALS:
        return AgentRefused(said)
    if status in NOT_LET_IN:
        return AgentFailed(f"{said}: the service does not take the credentials in `headers`", ErrorClass.UNREACHABLE)
    if status in NOT_THERE:
        return AgentFailed(f"{said}: `url` names nothing that answers such a request", ErrorClass.UNREACHABLE)
    if status in OVERLOADED or (status == UNAVAILABLE and retry_after):
        return AgentOverloaded(said)
    if status in QUOTA:
        return AgentFailed(said, ErrorClass.QUOTA)
    if status == TIMEOUT:
        return AgentFailed(said, ErrorClass.TIMEOUT)
    if status == CONFLICT:
        # Services that know the idempotency key answer so while an earlier request under it is in work.
        return OutcomeUnclear(said)
    if status in REDIRECTS:
        text = f"{said}: redirects are not followed; state the last address in `url`"
        return OutcomeUnclear(text) if status in SEE_OTHER else AgentFailed(text)
    if status in CLIENT_FAULTS:
        return AgentFailed(said)
    if status == GATEWAY_TIMEOUT:
        return OutcomeUnclear(said, ErrorClass.TIMEOUT)
    return OutcomeUnclear(said, ErrorClass.UNREACHABLE if status in GATEWAY else ErrorClass.INTERNAL)


def _phrase(status: int) -> str:
    try:
        return f" {HTTPStatus(status).phrase}"
    except ValueError:
        return ""
