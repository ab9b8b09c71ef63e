"""`pointsman replay`: recorded tasks under another topology, compared with what became of them. Nothing is called and
nothing is written; what an agent would have said that was never asked is unknown, and counted as that.

I/O: ClickHouse, stdout.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from console.cli.failures import NotFoundError
from console.cli.history import opened
from console.cli.output import Format, Output
from console.cli.recorded import Ended, chunks
from schemas.codes import ErrorCode
from schemas.settings import Settings
from schemas.topology import Topology
from streams.core.policy import Policy
from streams.core.replay import Call, Replayed, replay

LISTED = 50
NO_ROUTE = "-"


@dataclass(frozen=True)
class Compared:
    """One task before and after. `status` and `reason` after are None where an outcome is unknown."""

    before: Ended
    after: Replayed

    @property
    def changed(self) -> bool:
        """Whether it goes elsewhere or ends otherwise; a task whose outcome is unknown goes elsewhere."""
        before, after = self.before, self.after
        if after.result is None or before.calls != after.calls:
            return True
        return (before.status, before.reason) != (after.result.status, after.result.reason)

    def row(self) -> dict[str, Any]:
        before, after = self.before, self.after
        result = after.result
        known = result is not None
        same = not self.changed
        return {
            "tenant": before.key[0],
            "task_id": before.key[1],
            "changed": self.changed,
            "unknown_agent": after.unknown.agent_id if after.unknown else None,
            **_side("before", before.intent, before.calls, before.status, before.reason),
            **_side("after", after.intent, after.calls, result.status if result else None, _reason(after)),
            "cost_before_microusd": before.cost_microusd,
            "cost_after_microusd": before.cost_microusd if same else result.cost_microusd if result else None,
            "before_ms": before.took_ms,
            "after_ms": before.took_ms if same else after.took_ms if known else None,
        }


def _reason(after: Replayed) -> str | None:
    return after.result.reason if after.result else None


def _side(
    when: str, intent: str | None, calls: Sequence[Call], status: str | None, reason: str | None
) -> dict[str, Any]:
    route = [call.agent_id if call.stage == "WORK" else f"{call.agent_id} ({call.stage})" for call in calls]
    return {f"intent_{when}": intent, f"route_{when}": route, f"status_{when}": status, f"reason_{when}": reason}


@dataclass
class _Group:
    """The tasks of one intent that one agent was the first to get; known ones have costs and times."""

    tasks: int = 0
    unknown: int = 0
    costs: list[int] = field(default_factory=list)
    times: list[int] = field(default_factory=list)

    def told(self, of: int) -> dict[str, Any]:
        p50, p95 = (round(float(np.percentile(self.times, p)), 1) if self.times else None for p in (50, 95))
        return {
            "tasks": self.tasks,
            "share": round(self.tasks / of, 4),
            "unknown": self.unknown,
            "cost_microusd": sum(self.costs),
            "p50_ms": p50,
            "p95_ms": p95,
        }


def compare(policy: Policy, parts: Iterable[Any]) -> Iterator[Compared]:
    """Task by task, oldest first. `parts` are `console.cli.recorded:Chunk`s."""
    for part in parts:
        for before, after in zip(part.ended, replay(policy, part.submissions, part.recorded), strict=True):
            yield Compared(before, after)


def summary(topology: Topology, compared: Sequence[Compared]) -> dict[str, Any]:
    """What changes in all, and by intent and first agent."""
    rows = [each.row() for each in compared]
    known = [row for row in rows if row["cost_after_microusd"] is not None]
    return {
        "topology_version": topology.version,
        "recorded_versions": dict(Counter(each.before.route_version for each in compared)),
        "tasks": len(rows),
        "changed": sum(row["changed"] for row in rows),
        "unknown": len(rows) - len(known),
        "cost_before_microusd": sum(row["cost_before_microusd"] for row in known),
        "cost_after_microusd": sum(row["cost_after_microusd"] for row in known),
        "unknown_agents": dict(Counter(row["unknown_agent"] for row in rows if row["unknown_agent"])),
        "by_agent": _by_agent(rows),
    }


def _by_agent(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    groups: dict[tuple[str, str], dict[str, _Group]] = {}
    for row in rows:
        for when in ("before", "after"):
            first = row[f"route_{when}"][0] if row[f"route_{when}"] else NO_ROUTE
            key = (row[f"intent_{when}"] or NO_ROUTE, first)
            group = groups.setdefault(key, {"before": _Group(), "after": _Group()})[when]
            group.tasks += 1
            cost, took = row[f"cost_{when}_microusd"], row[f"{when}_ms"]
            if cost is None:
                group.unknown += 1
            else:
                group.costs.append(cost)
                group.times.append(took)
    return [
        {"intent": intent, "agent": agent, **{when: group.told(len(rows)) for when, group in sides.items()}}
        for (intent, agent), sides in sorted(groups.items())
    ]


def print_replay(
    settings: Settings,
    topology: Topology,
    *,
    since_ms: int,
    until_ms: int,
    limit: int,
    form: Format,
    out: Output,
) -> None:
    """Raises NotFoundError where nothing ended in that time, UnreachableError, QueryError."""
    with opened(settings) as history:
        compared = list(compare(Policy.compile(topology), chunks(history, since_ms, until_ms, limit)))
    if not compared:
        raise NotFoundError(
            "The history has no finished task in that time. Choose an earlier --since; `pointsman history results` "
            "shows the latest.",
            code=ErrorCode.NO_TASK,
        )
    if len(compared) == limit:
        out.note(f"These are the latest {limit} tasks of that time; --limit takes more.")
    changed = [each.row() for each in compared if each.changed]
    told = summary(topology, compared)
    if form is Format.TABLE:
        _print(told, changed, out)
    elif form is Format.JSONL:
        out.records(changed, (), form)
    else:
        out.json({**told, "changes": changed})


def _print(told: dict[str, Any], changed: Sequence[dict[str, Any]], out: Output) -> None:
    known = told["tasks"] - told["unknown"]
    head = ["tasks", "changed", "outcome unknown", "known", "cost before", "cost after"]
    costs = (f"${told[f'cost_{when}_microusd'] / 1e6:.6f}" for when in ("before", "after"))
    out.table(head, [[told["tasks"], told["changed"], told["unknown"], known, *costs]], "In all; costs of those known")
    out.table(
        ["intent", "first agent", "tasks", "after", "unknown", "cost", "after", "p50 ms", "after", "p95 ms", "after"],
        [
            [row["intent"], row["agent"], before["tasks"], after["tasks"], after["unknown"]]
            + [side[name] for name in ("cost_microusd", "p50_ms", "p95_ms") for side in (before, after)]
            for row in told["by_agent"]
            for before, after in [(row["before"], row["after"])]
        ],
        "By intent and first agent; costs in millionths of a dollar",
    )
    if changed:
        title = f"Tasks that change: {len(changed)}" + (f", the last {LISTED}" if len(changed) > LISTED else "")
        head = ["tenant", "task", "before", "after", "ended", "would end"]
        out.table(head, [_cells(row) for row in changed[-LISTED:]], title)


def _cells(row: dict[str, Any]) -> list[str]:
    routes = (" > ".join(row[f"route_{when}"]) or NO_ROUTE for when in ("before", "after"))
    would = row["status_after"] or f"unknown: {row['unknown_agent']} was not asked then"
    return [row["tenant"], row["task_id"], *routes, row["status_before"], would]
