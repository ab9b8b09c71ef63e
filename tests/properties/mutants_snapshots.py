"""Broken builds of snapshots and rebuilds: what is taken that must not be, and what is lost on the way.

I/O: none.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from agents.memory import canonical, rebuild, snapshot
from agents.memory.model import (
    RECENT,
    Diverged,
    ForeignInteraction,
    Interaction,
    Key,
)
from agents.memory.snapshot import Part, Refused
from tests.properties import test_snapshots as snapshots
from tests.properties.mutant import Mutant
from tests.unit import test_memory_apart as apart

_misfit, _tail, _inflated, _interaction_of = (
    snapshot._misfit,
    rebuild.Rebuild._tail,
    snapshot._inflated,
    canonical._interaction_of,
)


def _without_facts(key: Key, found: Mapping[str, Any]) -> Interaction:
    return replace(_interaction_of(key, found), facts=())


class _Anybody:
    """Is whoever is asked for."""

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]


def _first_epoch(head: Part) -> tuple[int, int, int]:
    return -head.epoch, head.log_offset, head.inbox_offset


def _whoever_wrote(head: Part, *known: Any) -> Refused | None:
    why = _misfit(head, *known)
    return None if why is Refused.EPOCH else why


def _fits(*_: Any) -> None:
    return None


def _something(data: bytes, size: int) -> bytes | None:
    return _inflated(data, size) or None


def _one_memory(self: Any, key: Key, ordinal: int) -> Any:
    return _tail(self, key._replace(conversation_id="c0"), ordinal)


def _begins_anywhere(self: Any, key: Key, ordinal: int) -> Any:
    held = self._untouched.pop(key, None)
    if held is None:
        return rebuild._Tail()
    base = canonical.state_of(held)
    del ordinal
    return rebuild._Tail(base, base.count, base.epoch, facts=base.facts)


def _stays(self: Any, ordinal: int) -> None:
    """What another host counted stays beside what the newer one did."""
    del self, ordinal


def _any_kinds(value: bytes) -> Part | None:
    head, _, data = value.partition(b"\n")
    try:
        return Part(**json.loads(head), data=data)
    except (ValueError, TypeError):
        return None


SNAPSHOTS: Mapping[str, Mutant] = {
    "a state of a snapshot lacks its interactions' facts": Mutant(
        "agents.memory.canonical._interaction_of",
        _without_facts,
        (snapshots.test_snapshot_and_tail_are_the_full_fold_whoever_crashed_when,),
    ),
    "the oldest epoch's snapshot is taken": Mutant(
        "agents.memory.snapshot._rank",
        _first_epoch,
        (snapshots.test_the_newer_epoch_wins_in_whatever_order_the_hosts_write,),
    ),
    "a snapshot is taken whoever wrote it": Mutant(
        "agents.memory.snapshot._misfit",
        _whoever_wrote,
        (snapshots.test_a_snapshot_of_a_host_that_lost_the_log_is_refused,),
    ),
    "a snapshot's head is not sealed": Mutant(
        "agents.memory.snapshot._seal",
        lambda _head: "",
        (snapshots.test_whatever_is_changed_in_a_record_it_is_refused,),
    ),
    "a snapshot is not held against its log": Mutant(
        "agents.memory.snapshot._misfit",
        _fits,
        (snapshots.test_one_that_stands_for_more_than_the_log_has_is_refused_and_so_is_another_agents,),
    ),
    "a snapshot without memories is none": Mutant(
        "agents.memory.snapshot._inflated", _something, (snapshots.test_an_agent_without_memories_has_a_snapshot_too,)
    ),
    "copies that were not counted are folded twice": Mutant(
        "agents.memory.rebuild._Tail._recent",
        lambda _self: iter(()),
        (snapshots.test_a_rebuild_gives_what_a_host_holds_that_was_never_away,),
    ),
    "a rebuild keeps the recent interactions alone": Mutant(
        "agents.memory.rebuild.KEPT",
        RECENT,
        (snapshots.test_a_rebuild_gives_what_a_host_holds_that_was_never_away,),
    ),
    "another conversation's text is handed over": Mutant(
        "agents.memory.rebuild.Rebuild._tail",
        _one_memory,
        (snapshots.test_a_rebuild_gives_what_a_host_holds_that_was_never_away,),
        ForeignInteraction,
    ),
    "a conversation may begin in its middle": Mutant(
        "agents.memory.rebuild.Rebuild._begin",
        _begins_anywhere,
        (snapshots.test_a_conversation_that_began_before_the_log_is_cold,),
    ),
    "facts go with what is out of reach": Mutant(
        "agents.memory.rebuild.pin", lambda held, _new: held, (snapshots.test_a_long_conversation_keeps_its_facts,)
    ),
    "a record's fields may be of any kind": Mutant(
        "tests.properties.test_snapshots.of_record",
        _any_kinds,
        (snapshots.test_a_record_is_its_part_and_nothing_else_is,),
    ),
    "what a host counted stays beside what a newer one did": Mutant(
        "agents.memory.rebuild._Tail._step_back",
        _stays,
        (
            snapshots.test_a_rebuild_of_a_log_that_hosts_counted_differently_is_what_the_newest_knows_or_contradicts_the_snapshot,
        ),
        Diverged,
    ),
    "a snapshot's memory may be another's than it is said to be": Mutant(
        "agents.memory.snapshot.key_of",
        lambda _data: _Anybody(),
        (apart.test_a_snapshot_in_which_a_memory_stands_under_anothers_key_is_refused,),
    ),
}
