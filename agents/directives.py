"""What people say about the memory of agents: `control.memory.v1`, held in memory by every host, and written by people.

A compacted topic: the latest word on each fact, instruction and revocation counts, and a null value takes it back. So
it does not matter in which order it and the interactions arrive. I/O: Kafka, in a thread of the view's own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from agents.memory.model import NO_DIRECTIVES, Directives, Fact, Instruction, Key
from schemas.codec import Codec
from schemas.ids import fact_id
from schemas.records import table
from schemas.topology import Topology
from streams.transport.clients import BrokerSettings, client_config
from streams.transport.compacted import CompactedView
from streams.transport.producer import Sends

INSTRUCTION, PIN, UNPIN, REVOKE = "INSTRUCTION", "PIN", "UNPIN", "REVOKE"


@dataclass(frozen=True, slots=True)
class Directive:
    """One word of a person on one memory, or, as an instruction, on all of an agent's."""

    kind: str
    id: str
    agent_id: str
    tenant: str | None = None
    conversation_id: str | None = None
    text: str | None = None
    interactions: tuple[str, ...] = ()
    reason: str = ""
    by: str = ""
    at: int = 0

    @property
    def key(self) -> bytes:
        """Of its record: PIN and UNPIN of one fact of one memory share one, so the latest counts."""
        kind = FACT if self.kind in (PIN, UNPIN) else self.kind
        return fact_id(kind, self.agent_id, self.tenant or "", self.conversation_id or "", self.id).encode()

    @property
    def memory(self) -> Key | None:
        """The one that it is about; None where it is about an agent's every memory, or every one of a tenant."""
        if self.tenant is None or self.conversation_id is None:
            return None
        return Key(self.tenant, self.agent_id, self.conversation_id)


FACT = "FACT"


def instruction(agent_id: str, text: str, *, at: int, by: str, tenant: str | None = None) -> Directive:
    """The same text for the same agent and tenant is the same instruction."""
    return Directive(
        INSTRUCTION, fact_id(agent_id, tenant or "", "INSTRUCTION", text), agent_id, tenant, None, text, by=by, at=at
    )


def pinning(key: Key, fact: Fact, *, at: int, by: str, pinned: bool) -> Directive:
    """That a fact is pinned, or is not however often answers state it."""
    origins = (fact.origin,) if fact.origin else ()
    return Directive(
        PIN if pinned else UNPIN, fact.id, key.agent_id, key.tenant, key.conversation_id, fact.text, origins, "", by, at
    )


def revocation(key: Key, interactions: Sequence[str], *, reason: str, at: int, by: str) -> Directive:
    """That nothing derived may hold these interactions of one memory any more."""
    ids = tuple(sorted(set(interactions)))
    return Directive(
        REVOKE, fact_id(*key, "REVOKE", *ids), key.agent_id, key.tenant, key.conversation_id, None, ids, reason, by, at
    )


def publish(producer: Sends, codec: Codec, topic: str, directives: Sequence[Directive]) -> None:
    """Says it. Raises DeliveryError."""
    names = ("kind", "id", "agent_id", "tenant", "conversation_id", "text", "reason", "by", "at")
    columns: dict[str, Any] = {name: [getattr(each, name) for each in directives] for name in names}
    columns["interactions"] = [list(each.interactions) for each in directives]
    values = codec.encode(table("MemoryDirective", columns, len(directives)), "MemoryDirective")
    producer.send(topic, 0, values, [each.key for each in directives])


def withdraw(producer: Sends, topic: str, directives: Sequence[Directive]) -> None:
    """Takes it back. Raises DeliveryError."""
    producer.send(topic, 0, [None] * len(directives), [each.key for each in directives])


@dataclass(frozen=True, slots=True)
class _Indexed:
    """All words, by what they are about: a memory, or the agent and tenant (None: all tenants) of an instruction."""

    of_memory: Mapping[Key, tuple[Directive, ...]]
    of_agent: Mapping[tuple[str, str | None], tuple[Directive, ...]]
    resolved: dict[Key, Directives]


_NONE = _Indexed(MappingProxyType({}), MappingProxyType({}), {})
RESOLVED_MAX = 50_000


class DirectivesView(CompactedView[Directive]):
    """`codec` is this view's own: it is used in its thread. `of` may be asked in any."""

    def __init__(self, settings: BrokerSettings, topology: Topology, codec: Codec) -> None:
        config = client_config(settings, topology, "consumer", name="pointsman-memory-view")
        self._indexed = _NONE
        super().__init__(config, topology.topics().memory, lambda values: _directives(codec, values))

    def changed(self, values: Mapping[str, Directive]) -> None:
        of_memory: dict[Key, list[Directive]] = {}
        of_agent: dict[tuple[str, str | None], list[Directive]] = {}
        for each in values.values():
            if each.kind == INSTRUCTION:
                of_agent.setdefault((each.agent_id, each.tenant), []).append(each)
            elif each.memory is not None:
                of_memory.setdefault(each.memory, []).append(each)
        self._indexed = _Indexed(
            {key: tuple(each) for key, each in of_memory.items()},
            {key: tuple(each) for key, each in of_agent.items()},
            {},
        )

    def of(self, key: Key) -> Directives:
        indexed = self._indexed
        if not indexed.of_memory and not indexed.of_agent:
            return NO_DIRECTIVES
        found = indexed.resolved.get(key)
        if found is None:
            found = resolved(
                (
                    *indexed.of_agent.get((key.agent_id, None), ()),
                    *indexed.of_agent.get((key.agent_id, key.tenant), ()),
                    *indexed.of_memory.get(key, ()),
                )
            )
            if len(indexed.resolved) > RESOLVED_MAX:
                indexed.resolved.clear()
            indexed.resolved[key] = found
        return found


def resolved(directives: Sequence[Directive]) -> Directives:
    """What all words on one memory come to, oldest first."""
    if not directives:
        return NO_DIRECTIVES
    said = sorted(directives, key=lambda each: (each.at, each.id))
    return Directives(
        tuple(
            Instruction(each.id, each.agent_id, each.text or "", each.at, each.by, each.tenant or "")
            for each in said
            if each.kind == INSTRUCTION
        ),
        tuple(
            Fact(each.id, each.text or "", each.interactions[0] if each.interactions else "", 0, each.at, each.by)
            for each in said
            if each.kind == PIN
        ),
        frozenset(each.id for each in said if each.kind == UNPIN),
        frozenset(id_ for each in said if each.kind == REVOKE for id_ in each.interactions),
    )


def _directives(codec: Codec, values: Sequence[bytes]) -> list[Directive | None]:
    decoded = codec.decode(values, "MemoryDirective")
    found: list[Directive | None] = [None] * len(values)
    for row, fields in zip(decoded.rows.tolist(), decoded.batch.to_pylist(), strict=True):
        found[row] = Directive(**{**fields, "interactions": tuple(fields["interactions"])})
    return found
