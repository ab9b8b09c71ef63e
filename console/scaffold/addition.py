"""Writes an agent into the text of a topology, where a person would, and touches nothing else of it.

I/O: none.
"""

from __future__ import annotations

import re

from schemas.codes import ErrorCode
from schemas.errors import ConfigurationError, TopologyError
from schemas.topology import Topology, parse_topology

INDENT = 2  # of the lines that are added


def with_agent(text: str, source: str, lines: str, name: str) -> str:
    """`text` with the sections `agents` and `routes` of `lines` put to the end of its own; a route that is there stays.

    Raises TopologyError for a text that is no topology, ConfigurationError for one that has the agent, or that is
    written in a form that takes no lines (flow style).
    """
    before = parse_topology(text, source)
    if name in before.agents:
        raise ConfigurationError(f"{source} has an agent {name} already.", code=ErrorCode.IN_THE_WAY)
    added = text
    for section, body in _sections(lines).items():
        if section == "agents" or name not in before.routes:
            added = _inserted(added, source, section, body)
    try:
        after = parse_topology(added, source)
    except TopologyError as error:
        raise _by_hand(source, str(error.faults[0])) from None
    if not _is_grown(before, after, name):
        raise _by_hand(source, "its sections are not where they seem to be")
    return added


def _sections(lines: str) -> dict[str, list[str]]:
    """The lines below each top-level key."""
    heads = re.findall(r"^(\w+):$", lines, re.MULTILINE)
    bodies = re.split(r"^\w+:$", lines, flags=re.MULTILINE)[1:]
    return {head: body.strip("\n").splitlines() for head, body in zip(heads, bodies, strict=True)}


def _inserted(text: str, source: str, section: str, body: list[str]) -> str:
    newline = "\r\n" if "\r\n" in text else "\n"
    lines = text.splitlines()
    head = next((i for i, line in enumerate(lines) if re.match(rf"{section}:\s*(#.*)?$", line)), None)
    if head is None:
        raise _by_hand(source, f"it has no line `{section}:` with its entries below")
    end = next((i for i in range(head + 1, len(lines)) if re.match(r"[^\s#]", lines[i])), len(lines))
    # What stands before the next key, unindented, is about that key.
    while end > head + 1 and (not lines[end - 1].strip() or lines[end - 1].startswith("#")):
        end -= 1
    first = next((line for line in lines[head + 1 : end] if line.strip() and not line.lstrip().startswith("#")), "")
    more = " " * max(len(first) - len(first.lstrip()) - INDENT, 0)
    lines[end:end] = [more + line for line in body]
    return newline.join([*lines, ""])


def _is_grown(before: Topology, after: Topology, name: str) -> bool:
    """Whether this agent and its route are all that is new."""
    grown = after.model_copy(
        update={
            "agents": {each: agent for each, agent in after.agents.items() if each != name},
            "routes": {each: route for each, route in after.routes.items() if each != name or name in before.routes},
        }
    )
    return name in after.agents and grown.model_dump() == before.model_dump()


def _by_hand(source: str, why: str) -> ConfigurationError:
    return ConfigurationError(
        f"The agent cannot be added to {source} by program: {why}. Add the lines by hand: leave out --add, and they "
        "are printed.",
        code=ErrorCode.BY_HAND,
    )
