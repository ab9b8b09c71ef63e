"""Broken builds of hosts, and of what lies unread with them (docs/decisions/0033): each of these hurries somebody, or
blames somebody. I/O: none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from agents.dispatches import Dispatched, _child
from agents.event_log import EventLog
from agents.tenure import Tenure
from streams.core.cell import Cell
from streams.core.hosts import ALL_READ, Hosts
from tests.simulation.mutant import Mutant

if TYPE_CHECKING:
    import numpy.typing as npt

_tick, _heard, _time_out = Cell.tick, Hosts.heard, Cell._time_out_overdue


def _as_if_all_were_read(self: Cell, now_ms: int, *, blame: bool = True, hosts: Any = ALL_READ) -> Any:
    return _tick(self, now_ms, blame=blame, hosts=ALL_READ)


def _whoever_claims(self: Hosts, agent_id: str, epoch: int, routed_ms: int, now_ms: int) -> None:
    """What a host left unanswered counts as read by its successor."""
    _heard(self, agent_id, 0, routed_ms, now_ms)


def _blamed(self: Cell, task: Any, now_ms: int, hosts: Any, *, blame: bool) -> None:
    time_out = self.machine.time_out
    self.machine.time_out = lambda *given, **_: time_out(*given, blame=True)  # type: ignore[method-assign]
    try:
        _time_out(self, task, now_ms, hosts, blame=True)
    finally:
        self.machine.time_out = time_out  # type: ignore[method-assign]


def _from_when_it_was_routed(self: Dispatched) -> npt.NDArray[np.int64]:
    routed_at, timeout_ms = (_child(self.slips, name).to_numpy() for name in ("routed_at", "timeout_ms"))
    deadline_ms = _child(self.identities, "deadline_ms").to_numpy()
    return np.asarray(np.minimum(routed_at // 1000 + timeout_ms, deadline_ms), np.int64)


async def _settled_at_once(self: EventLog, timeout_s: float) -> bool:
    self._hand_over()
    return True


def _whatever_generation_it_is(self: Tenure, tps: Any, generation: int) -> Any:
    """What was another's in between is kept, too."""
    return self._inboxes.keys() & set(tps)


def _none_gone(self: Tenure, tps: Any, generation: int) -> Any:
    """What went is kept, too."""
    return set(self._inboxes) if generation == self._generation + 1 else set()


UNREAD = frozenset({"T2"})

HOSTS: Mapping[str, Mutant] = {
    "inboxes are given up before what was written for them is delivered": Mutant(
        "agents.event_log.EventLog.settle", _settled_at_once, frozenset({"P3"}), "moves"
    ),
    "what a host had before is as it was, whoever had it since": Mutant(
        "agents.tenure.Tenure._kept", _whatever_generation_it_is, frozenset({"E1"}), "deals"
    ),
    "what went to another host is kept": Mutant(
        "agents.tenure.Tenure._kept", _none_gone, frozenset({"P3", "P5"}), "doubts"
    ),
    "what lies unread is overdue": Mutant("streams.core.cell.Cell.tick", _as_if_all_were_read, UNREAD, "absent"),
    "what lies unread is held against its agent": Mutant(
        "streams.core.cell.Cell._time_out_overdue", _blamed, UNREAD, "absent"
    ),
    "a dispatch's time begins when it is routed": Mutant(
        "agents.dispatches.Dispatched.expires_ms", _from_when_it_was_routed, UNREAD, "pauses"
    ),
    "what a host left is read, whoever claims the inbox": Mutant(
        "streams.core.hosts.Hosts.heard", _whoever_claims, UNREAD, "writes"
    ),
}
