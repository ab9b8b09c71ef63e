"""What a chaos run says of itself: recovery as results tell it, verdicts, expectations, and one object for programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from console.chaos.evidence import Evidence, sizes
from console.chaos.fleet import Ended, fleet_topology
from console.chaos.plan import Plan, parse_plan
from console.chaos.recovery import Injected, Results, overlapping, percentiles, recovery_s
from console.chaos.report import Outcome, growth, last_line, lines, outcome_of, summed
from console.chaos.schedule import Due
from console.chaos.verdict import Said, judge
from console.chaos.watch import Series, Usage
from loadtest.audit import audit
from loadtest.audit_log import Log
from loadtest.invariants import INVARIANTS, Dispatched, Submission
from loadtest.invariants import Ended as Result
from loadtest.invariants import Outcome as AgentOutcome
from schemas.topology import Topology
from tests.support.contract import breaches, promised_report

PLAN = parse_plan("description: A test.\nfaults:\n  - {fault: kill, on: worker, at_s: 1}\n", "test")
ALICE, BOB = ("chaos", "alice"), ("chaos", "bob")


def due(kind: str = "kill", on: str = "worker-1", for_s: float = 0.0) -> Due:
    return Due(1.0, for_s, on, PLAN.faults[0].model_copy(update={"fault": kind}), 1)


def results(*rows: tuple[int, int, int], failed: int = 0) -> Results:
    """Partition, when it was appended, when its task was meant to be sent; the first so many failed."""
    columns = np.array(rows, np.int64).reshape(-1, 3).T
    completed = np.arange(len(rows)) >= failed
    return Results(columns[0].astype(np.int32), columns[1], columns[2], completed, Counter(COMPLETED=len(rows)))


def test_a_crash_has_recovered_when_the_slowest_partition_answers_what_was_sent_after_it() -> None:
    found = results((0, 900, 800), (0, 1600, 1100), (1, 3000, 900), (1, 5000, 1200), (1, 5100, 1300))
    assert recovery_s(Injected(due(), 1000, 9999), found) == 4.0


def test_results_of_tasks_that_nobody_answered_are_no_recovery() -> None:
    found = results((0, 1200, 1100), (0, 2000, 1150), (0, 7000, 1300), failed=2)
    assert recovery_s(Injected(due(), 1000, 1000), found) == 6.0
    never = results((0, 1200, 1100), (0, 9000, 1150), (1, 1100, 1050), failed=2)
    assert recovery_s(Injected(due(), 1000, 1000), never) == 8.0, "at least"


def test_an_outage_counts_from_its_end() -> None:
    found = results((0, 4500, 1500), (0, 4800, 4100))
    assert recovery_s(Injected(due("cut", for_s=3.0), 1000, 4000), found) == 0.8


def test_while_the_broker_is_away_nothing_recovers() -> None:
    broker = Injected(due("broker-kill", "broker"), 900, 4000)
    crash = Injected(due(), 1000, 1000)
    found = results((0, 1100, 1050), (0, 4600, 4100))
    assert recovery_s(crash, found, [broker, crash]) == 0.6
    assert recovery_s(broker, found, [broker, crash]) == 0.6
    assert recovery_s(crash, found, [crash]) == 0.1


def test_a_broker_that_goes_before_a_fault_has_recovered_is_not_charged_to_it() -> None:
    crash, broker = Injected(due(), 1000, 1000), Injected(due("broker-kill", "broker"), 2000, 5000)
    pause = Injected(due("pause", "broker"), 4000, 5500)
    every, found = [crash, broker, pause], results((0, 6000, 1100))
    assert recovery_s(crash, found, every) == 1.5, "2 to 5.5 s there was no broker"
    assert recovery_s(crash, found, [crash]) == 5.0
    assert overlapping(crash, found, every) == [broker, pause]
    late = results((0, 1900, 1100), (0, 6000, 5600))
    assert recovery_s(crash, late, every) == 0.9, "it had recovered by then"
    assert overlapping(crash, late, every) == []


def test_other_faults_before_it_is_over_are_named_and_not_taken_off() -> None:
    crash, other = Injected(due(), 1000, 1000), Injected(due("stop", "worker-2"), 3000, 3000)
    store, model = Injected(due("kill", "store"), 2000, 2000), Injected(due("agent-slow", "first_agent"), 2000, 2500)
    found, every = results((0, 6000, 1100)), [crash, other, store, model]
    assert recovery_s(crash, found, every) == 5.0
    assert overlapping(crash, found, every) == [other]
    assert overlapping(store, found, every) == []


def test_the_history_does_not_recover_while_clickhouse_is_away_or_the_broker() -> None:
    found = results((0, 1200, 1100))
    pause = Injected(due("pause", "store", for_s=1.0), 1000, 2000, history_s=7.0)  # until 9000
    cut = Injected(due("cut", "clickhouse", for_s=2.0), 3000, 5000)
    broker = Injected(due("broker-kill", "broker"), 4500, 6000)
    slow = Injected(due("delay", "clickhouse", for_s=2.0), 6500, 8500)
    host = Injected(due("kill", "host"), 6000, 6000)
    assert recovery_s(pause, found, [pause, host, slow]) == 7.0, "none of these keeps it from what it needs"
    assert recovery_s(pause, found, [pause, cut]) == 5.0
    assert recovery_s(pause, found, [broker, cut, host, pause]) == 4.0, "3 to 6 s, what overlaps counted once"
    earlier = Injected(due("errors", "clickhouse", for_s=2.0), 0, 2500)
    assert recovery_s(pause, found, [earlier, pause]) == 6.5


def test_what_interrupts_nothing_has_no_recovery_and_the_history_has_its_own() -> None:
    found = results((0, 1600, 1100))
    assert recovery_s(Injected(due("corrupt", "topics"), 1000, 1000), found) is None
    assert recovery_s(Injected(due("agent-slow", "first_agent"), 1000, 1000), found) is None
    assert recovery_s(Injected(due("kill", "store"), 1000, 1000, history_s=7.5), found) == 7.5
    assert recovery_s(Injected(due(), 2000, 2000), found) is None, "nothing was sent afterwards"


def test_percentiles_are_values_that_were_measured() -> None:
    assert percentiles([None, 1.0, 2.0, 30.0]) == (2.0, 30.0)
    assert percentiles([None]) == (None, None)


def sound_log() -> Log:
    return Log(
        submissions=[Submission(*ALICE, None, 0, 0), Submission(*BOB, None, 1, 0)],
        dispatches=[
            Dispatched(*ALICE, "first_agent", 1, "WORK", 0, 0, 0),
            Dispatched(*BOB, "booking_agent", 1, "WORK", 0, 1, 0),
        ],
        outcomes=[AgentOutcome(*ALICE, "first_agent", 1, "WORK"), AgentOutcome(*BOB, "booking_agent", 1, "WORK")],
        results=[Result(*ALICE), Result(*BOB)],
        event_ids=["e1", "e2"],
    )


@pytest.fixture
def topology(tmp_path: Path) -> Topology:
    return fleet_topology(PLAN, tmp_path, 1)


def evidence_of(topology: Topology, log: Log | None = None, history: Log | None = None) -> Evidence:
    """Of two tasks that went well, but for what the test changes."""
    log = log or sound_log()
    facts = (history or log).facts()
    topics = topology.topics()
    return Evidence(
        log=log,
        report=audit(log, lambda kind: list(dict.fromkeys(facts[kind]))),
        results=results((0, 1200, 1000), (1, 1300, 1100)),
        acknowledged={ALICE, BOB},
        due_ms={ALICE: 5000, BOB: 5000},
        ended_ms={ALICE: 1200, BOB: 1300},
        late_ms=1000,
        calls=[("booking_agent", BOB)],
        writers=frozenset({"booking_agent"}),
        positions={
            "worker": {(topics.submitted, 0): 1, (topics.submitted, 1): 1},
            "host": {(topics.inbox("first_agent"), 0): 1, (topics.inbox("booking_agent"), 1): 1},
            "store": {},
        },
        unread={"worker": 0, "host": 0, "store": 0},
        topology=topology,
        injected=[Injected(due(), 1050, 1050)],
    )


def broken(evidence: Evidence) -> set[str]:
    return {verdict.name for verdict in judge(evidence) if verdict.said is Said.BROKEN}


def test_a_sound_run_breaks_nothing_and_every_invariant_has_its_verdict(topology: Topology) -> None:
    verdicts = judge(evidence_of(topology))
    assert [verdict.name for verdict in verdicts] == list(INVARIANTS)
    assert {verdict.said for verdict in verdicts} == {Said.HOLDS, Said.NOT_ASKED}
    assert all(verdict.found for verdict in verdicts if verdict.said is Said.NOT_ASKED), "each says why"


def test_with_transactions_their_own_invariant_is_asked_and_p12_is_not(topology: Topology) -> None:
    changed = topology.model_copy(update={"delivery": "exactly_once"})
    said = {verdict.name: verdict.said for verdict in judge(evidence_of(changed))}
    assert (said["P4"], said["P12"]) == (Said.HOLDS, Said.NOT_ASKED)


Sabotage = Callable[[Evidence], Evidence | None]


@pytest.mark.parametrize(
    ("sabotage", "names"),
    [
        (lambda evidence: evidence.log.results.pop(), {"P1", "P8"}),
        (lambda evidence: evidence.log.results.append(Result(*ALICE)), {"P1", "P5"}),
        (lambda evidence: evidence.acknowledged.add(("chaos", "carol")), {"P1"}),
        (lambda evidence: evidence.ended_ms.update({ALICE: 6001}), {"P1"}),
        (lambda evidence: evidence.log.outcomes.pop(), {"P3"}),
        (lambda evidence: evidence.calls.append(("booking_agent", BOB)), {"E1"}),
        (lambda evidence: evidence.unread.update({"host": 3}), {"Q1"}),
        (lambda evidence: evidence.log.results.append(Result("chaos", "nobody")), {"A1", "P8"}),
        (lambda evidence: evidence.log.dispatches.append(evidence.log.dispatches[0]), {"A2"}),
        (lambda evidence: replace(evidence, changed=("1 more results",)), {"P7"}),
        (lambda evidence: replace(evidence, deaf=("worker-1",)), {"P11"}),
        (lambda evidence: replace(evidence, ended=[Ended("worker-1", 1.0, 1, "it broke [E100]")]), {"Q2"}),
        (lambda evidence: replace(evidence, ended=[Ended("worker-1", 50.0, 1, "fine")]), {"Q2"}),
        (lambda evidence: replace(evidence, undelivered=2), {"A4"}),
        (lambda evidence: evidence.log.invalid.add(("tasks.submitted.v1", 0, 7)), {"A4"}),
    ],
)
def test_each_breach_breaks_the_invariant_that_names_it(
    topology: Topology, sabotage: Sabotage, names: set[str]
) -> None:
    evidence = evidence_of(topology)
    changed = sabotage(evidence)
    evidence = changed if isinstance(changed, Evidence) else evidence
    seen = sound_log().facts()
    evidence.report = audit(evidence.log, lambda kind: seen[kind])
    assert broken(evidence) == {*names, "P12"}


def test_a_process_that_gives_up_in_words_while_something_is_wrong_is_excused(topology: Topology) -> None:
    evidence = evidence_of(topology)
    evidence.ended = [Ended("worker-1", 12.0, 1, "records were not delivered [E102]")]
    evidence.outages = [(10.0, 11.0)]
    assert broken(evidence) == set()
    evidence.ended = [Ended("worker-1", 12.0, -11, "")]
    assert broken(evidence) == {"Q2", "P12"}, "a signal of its own is never excused"


def test_in_at_least_once_a_zombies_copies_are_counted_and_break_nothing(topology: Topology) -> None:
    evidence = evidence_of(topology)
    evidence.log.results.append(Result(*ALICE))
    evidence.zombies = True
    assert broken(evidence) == set()
    outcome = outcome_for(PLAN, evidence)
    assert (outcome.duplicated, outcome.extra_copies) == (0, 1)
    evidence.topology = topology.model_copy(update={"delivery": "exactly_once"})
    assert broken(evidence) == {"P1", "P5"}


def outcome_for(plan: Plan, evidence: Evidence, usage: Usage | None = None) -> Outcome:
    sender = SimpleNamespace(sent=2, retried=0, behind_s=0.1)
    skipped = [(due("clock-jump"), "libfaketime is not installed")]
    return outcome_of(plan, "test", 3, "pointsman chaos run test --seed 3", evidence, usage or Usage(), skipped, sender)


def test_a_report_has_its_figures_and_the_command_that_repeats_it(topology: Topology) -> None:
    outcome = outcome_for(PLAN, evidence_of(topology))
    page = "\n".join(lines(outcome))
    assert "2 accepted, 0 lost, 0 duplicated; 400 events a second" in page  # 8 records, in two hundredths of a second
    assert "libfaketime is not installed" in page
    assert last_line(outcome).endswith("passed")
    whole = summed([outcome])
    assert whole["command"] == "pointsman chaos run test --seed 3"
    assert whole["faults_injected"] == {"total": 1, "by_kind": {"kill": 1}}


def test_what_is_written_for_programs_is_what_the_page_promises(topology: Topology) -> None:
    evidence = evidence_of(topology)
    evidence.calls.append(("booking_agent", BOB))
    usage = Usage()
    usage.series["worker-1", 7] = Series([0.0], [100.0], [30])
    whole = summed([outcome_for(PLAN, evidence, usage), outcome_for(PLAN, evidence, usage)])
    runs = whole.pop("runs")
    top, each = promised_report()
    assert breaches([whole], top) == []
    assert breaches(runs, each) == []
    assert whole["passed"] is False
    assert whole["command"].endswith("--seed 3 --seeds 2")
    assert [found["verdict"] for found in whole["invariants"] if found["name"] == "E1"] == ["broken"]


def test_a_breaker_that_closes_by_the_clock_is_nothing_that_a_restart_has_added() -> None:
    log = sound_log()
    before = sizes(log)
    log.orchestrator_event_ids.append("closed")
    log.breaker_changes += 1
    assert sizes(log) == before
    log.orchestrator_event_ids.append("routed anew")
    assert sizes(log) != before


def test_a_breach_is_named_with_its_task(topology: Topology) -> None:
    evidence = evidence_of(topology)
    evidence.calls.append(("booking_agent", BOB))
    outcome = outcome_for(PLAN, evidence)
    assert "FAILED (P12, E1)" in last_line(outcome) or "FAILED (E1, P12)" in last_line(outcome)
    assert "run twice: chaos/bob" in "\n".join(lines(outcome))


def test_what_was_expected_and_did_not_come_fails_the_run(topology: Topology) -> None:
    expect = PLAN.expect.model_copy(
        update={"faults_min": 2, "recovery_p99_s": 0.1, "rss_growth_share": 0.1, "files_growth": 5}
    )
    usage = Usage()
    usage.series["worker-1", 7] = Series(
        [float(n) for n in range(9)], [1.0] * 3 + [100.0] * 3 + [120.0] * 3, [9] * 6 + [30] * 3
    )
    outcome = outcome_for(PLAN.model_copy(update={"expect": expect}), evidence_of(topology), usage)
    assert not outcome.broken
    assert not outcome.sound
    assert [text.split()[0:2] for text in outcome.unmet] == [
        ["1", "faults"],
        ["recovery", "took"],
        ["the", "worker-1"],
        ["the", "worker-1"],
    ]


def test_growth_leaves_the_warm_up_out_and_needs_some_samples() -> None:
    assert growth([1.0] * 8) is None
    assert growth([5.0] * 3 + [100.0] * 3 + [125.0] * 3) == (125.0, 0.25, 25.0)
