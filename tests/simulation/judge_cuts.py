"""What the broker was told of positions: P3, P4, P5, A4; and P8, what was told of those of a store. I/O: none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from loadtest import invariants
from loadtest.audit_log import OUTCOMES
from loadtest.invariants import Place, TaskKey, Traces
from tests.simulation.evidence import Evidence, Seen, Shown, key_of, key_of_event
from tests.simulation.facts import Facts, Found, dispatched_of, outcome_of

if TYPE_CHECKING:
    from tests.simulation.run import Run


def of_workers(run: Run, facts: Facts) -> Found:
    margin_ms = run.scenario.topology.limits.clock_skew_margin_ms
    passed: list[str] = []
    watermarks: list[str] = []
    for seen in run.evidence.cuts:
        traces = _traces(run.evidence, facts, seen)
        number = seen.cut.partition
        passed += invariants.passed_over(seen.cut, facts.submissions, facts.invalid[number], traces)
        # What stands whole in the compacted topic, a recovery need not find in the logs.
        spilled = run.evidence.spilled(number, seen.ends[run.evidence.topics.spilled])
        held = traces._replace(ended={*traces.ended, *spilled})
        watermarks += invariants.watermark_passed(seen.cut, facts.submissions, held, margin_ms)
    yield "P3", [f"passed over: {each}" for each in passed]
    yield "P3", [f"a low watermark too late for {each}" for each in watermarks]
    yield "P4", [each for shown in run.evidence.shown for each in _ahead(run.evidence, facts, shown)]
    yield "P5", run.evidence.fallen
    unheard = {(key_of_event(row), row.fields["payload"]) for row in facts.void if row.fields["payload"] is not None}
    ends = [(end[:2], row.fields["payload"]) for row, end in facts.ended]
    yield "P5", [f"{key} rests on what a zombie wrote" for key, payload in ends if (key, payload) in unheard]
    wanted = [(number, at) for number, offsets in facts.invalid.items() for at in offsets]
    submitted = run.evidence.topics.submitted
    put_away = {
        (origin.partition, origin.offset) for _, _, origin in facts.buried if origin and origin.topic == submitted
    }
    part = invariants.compare("dead", wanted, put_away)
    yield "A4", [*part.missing, *part.surplus]


def _ahead(evidence: Evidence, facts: Facts, shown: Shown) -> Sequence[TaskKey]:
    """Tasks whose outputs readers of committed records saw, and that no position had passed."""
    outputs = {}
    for topic, end in shown.ends.items():
        for row in evidence.rows(topic, shown.number):
            if row.offset < end:
                task = row.fields.get("task", row.fields)
                outputs[task["tenant"], task["task_id"]] = (shown.number, row.offset)
    inputs: dict[TaskKey, Place] = {}
    for each in facts.submissions:
        inputs.setdefault(each[:2], (each.partition, each.offset))
    return invariants.uncommitted_outputs(outputs, inputs, {shown.number: shown.position})


def of_hosts(run: Run, facts: Facts) -> Found:
    evidence, found = run.evidence, []
    for cut in evidence.host_cuts:
        rows = evidence.rows(evidence.topics.events(cut.agent), cut.number)
        valid = [row for row in rows if row.offset < cut.end and not row.is_void]
        outcomes = {outcome_of(row) for row in valid if row.fields["kind"] in OUTCOMES}
        inbox = evidence.rows(evidence.topics.inbox(cut.agent), cut.number)
        found += invariants.unanswered(cut.position, [dispatched_of(cut.number, row) for row in inbox], outcomes)
    yield "P3", [f"unanswered: {each}" for each in found]


def _traces(evidence: Evidence, facts: Facts, seen: Seen) -> Traces:
    number, topics = seen.cut.partition, evidence.topics
    first_ms: dict[TaskKey, int] = {}
    for agent in evidence.topology.agents:
        inbox = topics.inbox(agent)
        for row in evidence.rows(inbox, number):
            if row.offset < seen.ends[inbox]:
                task = row.fields["task"]
                key = task["tenant"], task["task_id"]
                first_ms[key] = min(row.at_ms, first_ms.get(key, row.at_ms))
    results = evidence.rows(topics.results, number)
    ended = {key_of(row) for row in results if row.offset < seen.ends[topics.results]}
    buried = {
        origin.offset
        for at, offset, origin in facts.buried
        if origin and at == number and offset < seen.ends[topics.dead]
    }
    return Traces(first_ms, ended, buried)


def of_stores(run: Run, facts: Facts) -> Found:
    """At rest every fact once; and at no time a position past one that the history did not hold."""
    evidence = run.evidence
    if not any(slot.kind == "store" for slot in run.deployment.slots):
        return
    for kind, found in evidence.log().facts().items():
        part = invariants.compare(kind, found, run.house.facts(kind))
        yield "P8", [(kind, what) for what in (*part.missing, *part.surplus, *part.repeated)]
    stored_at: dict[tuple[str, int, int], int] = {}
    for at, place in enumerate(run.house.placed):
        stored_at.setdefault(place, at)
    ahead = [
        f"{cut.topic}[{cut.number}] at offset {row.offset}"
        for cut in evidence.store_cuts
        if evidence.topics.record_of(cut.topic) is not None
        for row in evidence.rows(cut.topic, cut.number)
        if row.offset < cut.position and stored_at.get((cut.topic, cut.number, row.offset), cut.rows) >= cut.rows
    ]
    yield "P8", [f"committed before it was stored: {each}" for each in ahead]
