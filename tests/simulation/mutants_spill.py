"""Broken builds of spilling: each takes away one thing that lets a low watermark pass a task in flight.

That output is delivered before a task is spilled, no seed of two hundred shows: whoever believes a dispatch that is not
there times it out. `tests/unit/test_spill.py` holds the order. I/O: none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from streams.core.spill import Spills
from streams.core.task import TaskKey
from streams.processors.cuts import Cuts
from tests.simulation.mutant import TWICE, Mutant

_changed = Spills.take_changed

LOST = frozenset({"P1", "P2", "P3", "P7", "Q1", "T1"})


def _never_anew(self: Spills, tasks: Mapping[TaskKey, object]) -> Iterable[TaskKey]:
    return [task_id for task_id in _changed(self, tasks) if task_id not in tasks]


def _never_away(self: Spills, tasks: Mapping[TaskKey, object]) -> Iterable[TaskKey]:
    return [task_id for task_id in _changed(self, tasks) if task_id in tasks]


def _not_waited_for(self: Cuts, spill: Any, low_watermarks_ms: Callable[[], Mapping[int, int]], drain_s: float) -> Any:
    if not self._producer.drained(drain_s):
        return None
    spill(self.positions)
    return self.cut(self.positions, low_watermarks_ms())


def _nothing_spilled(*_: Any) -> int:
    return 0


SPILL: Mapping[str, Mutant] = {
    "a spilled task is not written anew": Mutant(
        "streams.core.spill.Spills.take_changed", _never_anew, TWICE | {"T1"}, "halves"
    ),
    "a spilled task that is finished is not taken away": Mutant(
        "streams.core.spill.Spills.take_changed", _never_away, frozenset({"Q1", "P1"}), "crashes"
    ),
    "a low watermark passes a task that is not in the topic yet": Mutant(
        "streams.processors.cuts.Cuts.take", _not_waited_for, frozenset({"P3"}), "halves"
    ),
    "what was spilled is not read back": Mutant(
        "streams.processors.recovery.Recovery._take_spilled", _nothing_spilled, LOST, "crashes"
    ),
}
