"""What is different between two topologies, in words, and which processes have to serve the new one for it to count.

I/O: none.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

from console.local.services import SERVICES
from schemas.topology import DECIDING_AGENT_FIELDS, Topology

VALUE_CHARS_MAX = 40
# Not in running processes: what is written lies in the topics of the old name, spread over the old count.
FIXED: Mapping[str, str] = {
    "prefix": "every topic would get another name, and what is in the old ones, tasks under way too, would be left "
    "behind. Start a deployment of its own with it: `pointsman dev --data OTHER_DIR`",
    "partitions": "tasks that are under way would no longer be found in their partitions. Use another prefix, too, and "
    'start a deployment of its own (docs/architecture.md, "Changing the partition count")',
}
EVERYBODY = frozenset({"store", "worker", "host"})
# Whom a key concerns; every other is the worker's alone, as all that decides.
SECTIONS: Mapping[str, frozenset[str]] = {"kafka": EVERYBODY, "limits": EVERYBODY}
HOSTS = (
    "host_inflight_max",
    "drain_ms",
    "context_interactions",
    "context_tokens",
    "context_tokens_max",
    "context_bytes_max",
)
LIMITS: Mapping[str, frozenset[str]] = {
    **dict.fromkeys(HOSTS, frozenset({"host"})),
    **dict.fromkeys(("history_rows_max", "history_interval_ms", "history_buffer_bytes_max"), frozenset({"store"})),
}
NAMES_OF_AGENTS = frozenset(SERVICES)  # they are names of topics, which all of them read or tell of
SECRETIVE = ("kafka",)


Found = tuple[str, AbstractSet[str]]  # the difference, and whom it concerns


@dataclass(frozen=True, slots=True)
class Changes:
    """`lines` say what is different, `refused` why it cannot be applied; `services` must serve the new topology."""

    lines: tuple[str, ...]
    refused: tuple[str, ...]
    services: frozenset[str]


def compare(old: Topology, new: Topology) -> Changes:
    """From the old to the new."""
    fields = type(old).model_fields
    refused = tuple(
        f"{key} cannot be changed from {shown(getattr(old, key))} to {shown(getattr(new, key))} while it runs: {why}"
        for key, why in FIXED.items()
        if getattr(old, key) != getattr(new, key)
    )
    lines: list[str] = []
    services: set[str] = set()
    for key in fields:
        if key in FIXED:
            continue
        match key:
            case "agents":
                found = list(_agents(old, new))
            case "routes":
                found = list(_routes(old, new))
            case _:
                found = list(_section(key, getattr(old, key), getattr(new, key)))
        for line, concerned in found:
            lines.append(line)
            services |= concerned
    return Changes(tuple(lines), refused, frozenset(services))


def _agents(old: Topology, new: Topology) -> Iterator[Found]:
    for name in _missing(new.agents, old.agents):
        yield f"agent {name} added", NAMES_OF_AGENTS
    for name in _missing(old.agents, new.agents):
        yield f"agent {name} removed (its topics stay)", NAMES_OF_AGENTS
    for name in old.agents:
        if name in new.agents and (keys := _keys(old.agents[name], new.agents[name])):
            concerned: set[str] = {"host", *(["worker"] if DECIDING_AGENT_FIELDS & set(keys) else [])}
            yield f"agent {name} changed: {', '.join(keys.values())}", concerned


def _routes(old: Topology, new: Topology) -> Iterator[Found]:
    worker = {"worker"}
    for name in _missing(new.routes, old.routes):
        yield f"route {name} added", worker
    for name in _missing(old.routes, new.routes):
        yield f"route {name} removed", worker
    for name in old.routes:
        if name in new.routes and (keys := _keys(old.routes[name], new.routes[name])):
            yield f"route {name} changed: {', '.join(keys.values())}", worker if set(keys) - {"description"} else set()
    kept = [name for name in old.routes if name in new.routes]
    if kept != [name for name in new.routes if name in old.routes]:
        yield "the order of the routes changed", worker


def _section(key: str, old: Any, new: Any) -> Iterator[Found]:
    if isinstance(old, str | int):
        if old != new:
            yield f"{key} {shown(old)} -> {shown(new)}", {"worker"}
        return
    for name, text in _keys(old, new, secretive=key in SECRETIVE).items():
        concerned = SECTIONS.get(key, {"worker"})
        yield f"{key}.{text}", LIMITS.get(name, concerned) if key == "limits" else concerned


def _keys(old: Any, new: Any, *, secretive: bool = False) -> dict[str, str]:
    """By key, what of two sections or mappings is different, in words."""
    before, after = (each if isinstance(each, Mapping) else dict(each) for each in (old, new))
    found = {}
    for key in [*before, *_missing(after, before)]:
        one, other = before.get(key), after.get(key)
        if one != other:
            plain = not secretive and _is_plain(one) and _is_plain(other)
            found[key] = f"{key} {shown(one)} -> {shown(other)}" if plain else key
    return found


def _is_plain(value: object) -> bool:
    return value is None or (isinstance(value, str | int | float) and len(str(value)) <= VALUE_CHARS_MAX)


def shown(value: object) -> str:
    """As a topology writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    return "null" if value is None else '""' if value == "" else str(value)


def _missing(names: Iterable[str], among: Iterable[str]) -> list[str]:
    there = set(among)
    return [name for name in names if name not in there]
