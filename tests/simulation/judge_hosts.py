"""What hosts left unread, and whether it was waited for: T2. I/O: none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from loadtest import invariants
from loadtest.invariants import TaskKey, Verdict
from schemas.dispatch_wait import wait_ms
from tests.simulation.evidence import Row, key_of_event
from tests.simulation.facts import Facts, Found
from tests.simulation.judge_times import OVERDUE

if TYPE_CHECKING:
    from tests.simulation.run import Run

AttemptKey: TypeAlias = tuple[TaskKey, str, int]
ROUNDED_MS = 5
READ_LATE = "before the host read it"


@dataclass
class _Asked:
    """One attempt: every copy of its dispatch, with the partition's number, and the events about it."""

    rows: list[tuple[int, Row]] = field(default_factory=list)
    events: list[Row] = field(default_factory=list)

    @property
    def first(self) -> Row:
        return min((row for _, row in self.rows), key=lambda row: row.fields["slip"]["routed_at"])


class _Logs:
    """How far hosts had got with each inbox, as anybody could read: by agent and partition, rising."""

    def __init__(self, run: Run, facts: Facts) -> None:
        evidence = run.evidence
        self.asked: dict[AttemptKey, _Asked] = {}
        for row, each in facts.dispatched:
            self.asked.setdefault((each[:2], each.agent_id, each.attempt), _Asked()).rows.append((each.partition, row))
        self._begun: dict[tuple[str, int], list[tuple[int, int, int]]] = {}
        for agent in run.scenario.topology.agents:
            for number, row in evidence.all(evidence.topics.events(agent)):
                slip, epoch = row.fields["slip"], row.fields["epoch"]
                self._begun.setdefault((agent, number), []).append((row.at_ms, slip["routed_at"] // 1000, epoch))
                found = self.asked.get((key_of_event(row), agent, slip["attempt"]))
                if found is not None:
                    found.events.append(row)

    def begun_ms(self, agent: str, number: int, at_ms: int, claimed_ms: int = 0) -> int:
        """When the newest dispatch was routed that a host had begun by then; 0: none. What one left unanswered is
        unread again, once another had claimed the inbox by `claimed_ms`."""
        events = self._begun.get((agent, number), ())
        epoch = max((epoch for at, _, epoch in events if at <= claimed_ms), default=0)
        return max((routed for at, routed, own in events if at <= at_ms and own >= epoch), default=0)


def of_hosts(run: Run, facts: Facts) -> Found:
    logs, tolerance_ms = _Logs(run, facts), ROUNDED_MS + int(2000 * run.scenario.skew_s)
    yield "T2", invariants.too_soon(_of_workers(run, logs, tolerance_ms), tolerance_ms)
    yield "T2", invariants.too_soon(_of_hosts(run, logs), tolerance_ms)
    yield "T2", list(_blamed(run, logs))


def _of_workers(run: Run, logs: _Logs, tolerance_ms: int) -> Iterator[Verdict]:
    """What workers gave up of their own accord, while no host had begun it for as long as it takes to say more."""
    topology, reading_ms = run.scenario.topology, int(1000 * run.scenario.reading_s)
    for number, note in run.evidence.all(run.evidence.topics.orchestrator):
        fields, at_ms = note.fields, note.fields["at"] // 1000
        key = (fields["tenant"], fields["task_id"])
        asked = logs.asked.get((key, fields["agent_id"], fields["attempt"]))
        if (fields["kind"], fields["reason"]) not in OVERDUE or asked is None:
            continue
        if any(row.fields["kind"] != "STARTED" and row.at_ms <= at_ms + tolerance_ms for row in asked.events):
            continue  # its host said so
        slip = asked.first.fields["slip"]
        routed_ms, verdict_ms = slip["routed_at"] // 1000, slip["timeout_ms"] + topology.limits.timeout_grace_ms
        heard_ms = at_ms - verdict_ms + tolerance_ms
        if logs.begun_ms(fields["agent_id"], number, heard_ms, at_ms - reading_ms) >= routed_ms:
            continue
        deadline_ms = _deadline_ms(asked.first)
        waits_ms = wait_ms(topology.limits.dispatch_wait_ms, routed_ms, deadline_ms)
        yield Verdict(*key, fields["agent_id"], at_ms, min(routed_ms + verdict_ms + waits_ms, deadline_ms))


def _of_hosts(run: Run, logs: _Logs) -> Iterator[Verdict]:
    """What hosts took for overdue."""
    topics, most_ms = run.evidence.topics, run.scenario.topology.limits.dispatch_wait_ms
    for (key, agent, _), asked in logs.asked.items():
        for row in asked.events:
            if not _is_over(row.fields):
                continue
            earliest_ms = []
            for number, dispatch in asked.rows:
                read_ms = run.evidence.read_ms.get((row.writer, topics.inbox(agent), number, dispatch.offset))
                if read_ms is None:
                    continue
                slip, deadline_ms = dispatch.fields["slip"], _deadline_ms(dispatch)
                routed_ms = slip["routed_at"] // 1000
                begins_ms = min(max(routed_ms, read_ms), routed_ms + wait_ms(most_ms, routed_ms, deadline_ms))
                earliest_ms.append(min(begins_ms + slip["timeout_ms"], deadline_ms))
            if earliest_ms:
                yield Verdict(*key, agent, row.at_ms, min(earliest_ms))


def _is_over(fields: Mapping[str, Any]) -> bool:
    return fields["error_class"] == "TIMEOUT" or READ_LATE in (fields["error"] or "")


def _blamed(run: Run, logs: _Logs) -> Iterator[str]:
    """Failures that a worker has counted against an agent, beyond the attempts that a host had begun and that did not
    succeed in time."""
    windows: dict[tuple[str, str, int], dict[int, Row]] = {}
    for _, row in run.evidence.all(run.evidence.topics.health):
        place = (row.writer, row.fields["agent_id"], row.fields["partition"])
        windows.setdefault(place, {}).setdefault(row.fields["window_id"], row)  # a copy is no second one
    for (writer, agent, number), rows in windows.items():
        failures = 0
        for _, row in sorted(rows.items()):
            failures += row.fields["failures"]
            most = sum(
                _may_be_blamed(run, logs, asked, number, row.at_ms)
                for (_, name, _), asked in logs.asked.items()
                if name == agent
            )
            if failures > most:
                yield f"{agent}[{number}] for {failures} attempts of {most}, by {writer}"
                break


def _may_be_blamed(run: Run, logs: _Logs, asked: _Asked, number: int, at_ms: int) -> bool:
    slip, scenario = asked.first.fields["slip"], run.scenario
    routed_ms = slip["routed_at"] // 1000
    if all(each != number for each, _ in asked.rows) or logs.begun_ms(slip["agent_id"], number, at_ms) < routed_ms:
        return False
    read_by_ms = routed_ms + slip["timeout_ms"] + scenario.topology.limits.timeout_grace_ms
    came_by_ms = read_by_ms - int(1000 * scenario.reading_s)
    return not any(
        row.fields["kind"] == "COMPLETED" and not row.is_void and row.at_ms <= came_by_ms for row in asked.events
    )


def _deadline_ms(dispatch: Row) -> int:
    slip, task = dispatch.fields["slip"], dispatch.fields["task"]
    return int(slip["deadline_default_ms"] if task["deadline_ms"] is None else task["deadline_ms"])
