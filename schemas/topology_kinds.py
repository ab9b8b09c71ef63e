"""Which keys belong to which kind of agent, and what may stand in those of services and programs.

I/O: none.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from schemas.codes import FaultCode
from schemas.topology_agent import Agent, Granted
from schemas.topology_finding import Finding

if TYPE_CHECKING:
    from schemas.topology import Topology
    from schemas.topology_yaml import KeyPath

SECRET_HEADER = re.compile(r"authorization|cookie|password|secret|token|api-?key", re.IGNORECASE)
SECRET_VARIABLE = re.compile(r"(^|_)(PASSWORD|PASSWD|SECRET|TOKEN|CREDENTIALS?|API_?KEY)$", re.IGNORECASE)
HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
VARIABLE_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)
# What the host says itself of each request, or what the protocol's frame is made of.
OWN_HEADERS = frozenset(
    {
        *("accept", "accept-encoding", "connection", "content-encoding", "content-length", "content-type", "expect"),
        *("host", "idempotency-key", "te", "traceparent", "trailer", "transfer-encoding", "upgrade"),
    }
)
# Keys that only some kinds have; the first one of a kind is the one that it cannot do without.
KEYS_OF_KINDS = {
    "python": ("run",),
    "batch": ("run",),
    "http": ("url", "headers", "connect_timeout_ms", "response_bytes_max"),
    "command": (
        *("command", "cwd", "env", "network", "sandbox"),
        *("memory_mib_max", "files_max", "response_bytes_max"),
    ),
}
NEEDED = {
    "python": "the code, as module:function",
    "batch": "the code, as module:function",
    "http": "the address that tasks are posted to",
    "command": "the program and its arguments",
}


def _kinds(topology: Topology) -> Iterator[Finding]:
    """Each kind's own key is there, and no other kind's."""
    for name, agent in topology.agents.items():
        own = KEYS_OF_KINDS[agent.kind]
        stated = [key for key in _KIND_KEYS if getattr(agent, key) != _default(key)]
        strange = [key for key in stated if key not in own]
        kind: KeyPath = ("agents", name, "kind")
        meant = [each for each, keys in KEYS_OF_KINDS.items() if keys[0] in strange]
        if own[0] not in stated and meant:
            # One slip of the pen, one finding: the kind is not the one that its keys speak of.
            text = f"is {agent.kind}, but the agent has {KEYS_OF_KINDS[meant[0]][0]}: state kind: {meant[0]}"
            yield Finding(
                FaultCode.KEY_OF_ANOTHER_KIND, kind, text, tuple(("agents", name, key) for key in (own[0], *strange))
            )
            continue
        if own[0] not in stated:
            text = f"is missing: an agent of kind {agent.kind} needs {NEEDED[agent.kind]}"
            yield Finding(FaultCode.MISSING_KEY, ("agents", name, own[0]), text, (kind,))
        for key in strange:
            kinds = " or ".join(each for each, keys in KEYS_OF_KINDS.items() if key in keys)
            text = f"is of kind {kinds}; this agent is of kind {agent.kind}"
            yield Finding(FaultCode.KEY_OF_ANOTHER_KIND, ("agents", name, key), text, (kind,))


_KIND_KEYS = tuple(dict.fromkeys(key for keys in KEYS_OF_KINDS.values() for key in keys))


def _default(key: str) -> Any:
    return Agent.model_fields[key].get_default(call_default_factory=True)


def _urls(topology: Topology) -> Iterator[Finding]:
    for name, agent in topology.agents.items():
        if agent.url is not None and (why := _url_fault(agent.url)):
            yield Finding(FaultCode.WRONG_FORM, ("agents", name, "url"), why)


def _url_fault(url: str) -> str | None:
    try:
        parts = urlsplit(url)
        usable = bool(parts.hostname) and parts.port != 0
    except ValueError:  # of a port that is no number up to 65535, of brackets that do not close
        usable = False
    return None if usable else "names no host, or no port from 1 to 65535"


def _commands(topology: Topology) -> Iterator[Finding]:
    for name, agent in topology.agents.items():
        for i, word in enumerate(agent.command or ()):
            if "\0" in word or (i == 0 and not word.strip()):
                text = "is no name of a program" if i == 0 else "holds a NUL"
                yield Finding(FaultCode.WRONG_FORM, ("agents", name, "command", i), text)


def _granted(topology: Topology) -> Iterator[Finding]:
    """Headers and variables: names that can be, one source each, and no secrets in the file."""
    for name, agent in topology.agents.items():
        for header, granted in agent.headers.items():
            path: KeyPath = ("agents", name, "headers", header)
            if not HEADER_NAME.fullmatch(header):
                yield Finding(FaultCode.WRONG_FORM, path, "is no name of a header")
            elif header.lower() in OWN_HEADERS:
                yield Finding(FaultCode.HEADER_OF_THE_HOST, path, "is set by the host: leave it out")
            else:
                yield from _source(path, granted, secret=bool(SECRET_HEADER.search(header)))
        for variable, granted in agent.env.items():
            path = ("agents", name, "env", variable)
            if not VARIABLE_NAME.fullmatch(variable):
                text = "is no name of a variable: use letters, digits and underscores, no digit first"
                yield Finding(FaultCode.WRONG_FORM, path, text)
            else:
                yield from _source(path, granted, secret=bool(SECRET_VARIABLE.search(variable)))


def _source(path: KeyPath, granted: Granted, *, secret: bool) -> Iterator[Finding]:
    if (granted.value is None) == (granted.env is None):
        depends: tuple[KeyPath, ...] = ((*path, "value"), (*path, "env"))
        text = "needs text, or {env: NAME} for what a variable of the host holds; one of them"
        yield Finding(FaultCode.WRONG_FORM, path, text, depends)
    elif secret and granted.value is not None:
        text = "secrets do not belong in this file: write {env: NAME}, and set that variable where the host runs"
        yield Finding(FaultCode.SECRET, path, text)
    elif granted.prefix and granted.value is not None:
        text = "belongs to env: write all of the text into value"
        yield Finding(FaultCode.WRONG_FORM, (*path, "prefix"), text)


def _summaries(topology: Topology) -> Iterator[Finding]:
    """Only what an agent is shown is summed up."""
    for name, agent in topology.agents.items():
        if agent.summary is not None and not agent.remembers:
            text = "has no use: this agent is not shown its conversations; leave it out, or set context to true"
            yield Finding(
                FaultCode.KEY_OF_ANOTHER_KIND, ("agents", name, "summary"), text, (("agents", name, "context"),)
            )


RULES: tuple[Callable[[Topology], Iterator[Finding]], ...] = (_kinds, _urls, _commands, _granted, _summaries)
