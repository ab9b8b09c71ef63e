"""What a report says of a run that was made up: its figures, when it is void, its page, and two of them compared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from console.cli.failures import ExitCode
from console.cli.output import Output
from console.load.audit import Audited
from console.load.compare import compared, differences, read_report
from console.load.html import page
from console.load.probe import Sample
from console.load.report import report
from console.load.run import verdict
from console.load.seen import Run
from console.load.text import print_report, summary
from console.load.values import sustained
from loadtest.column_audit import Breach, ColumnAudit, Kept
from loadtest.column_log import DISPATCHES, EVENTS, NOTES, RESULTS, SUBMISSIONS, ColumnLog
from loadtest.decisions import Verdicts
from loadtest.driver import Sent
from loadtest.measures import Latencies, growth, measured
from loadtest.scenario import Scenario
from schemas.errors import ConfigurationError

BEGAN_MS = 1_760_000_000_000
RATE, WARM_UP_S, SECONDS = 10, 2, 8
CHECKS = ("lost", "duplicated", "out_of_order", "wrong_decisions", "unasked", "asked_twice", "unburied", "unrecorded")
FACTS = {
    "machine": {"cpu": "a", "cores": 2, "memory_mib": 1, "kernel": "k", "architecture": "x"},
    "versions": {"python": "3"},
    "commit": "c",
    "config_hash": "h",
    "delivery": "at_least_once",
    "seed": 1,
    "command": "",
    "at": "",
}


def scenario(**more: Any) -> Scenario:
    shape = {"about": "made up", "rate": RATE, "duration_s": SECONDS, "warm_up_s": WARM_UP_S}
    return Scenario.model_validate({**shape, **more})


def frame(columns: dict[str, Any], schema: Any, n: int) -> pl.DataFrame:
    rest = {name: [None] * n for name in schema if name not in columns}
    return pl.DataFrame({**columns, **rest}, schema=dict(schema))


def log(took_ms: int = 40) -> ColumnLog:
    """Ten tasks a second, each appended when it was due, and answered so much later."""
    n = RATE * (WARM_UP_S + SECONDS)
    keys, due_ms = np.arange(1, n + 1), BEGAN_MS + np.arange(n) * 1000 // RATE
    place = {"key": keys, "fact": keys, "topic": [0] * n, "partition": [0] * n, "offset": np.arange(n)}
    asked = {**place, "appended_ms": due_ms, "sent_us": due_ms * 1000, "line": [0] * n}
    ended = {**asked, "appended_ms": due_ms + took_ms, "status": ["COMPLETED"] * n, "reason": ["ANSWERED"] * n}
    frames = {
        "tasks": frame(asked, SUBMISSIONS, n),
        "dispatches": frame({**place, "appended_ms": due_ms + 1, "routed_us": due_ms * 1000}, DISPATCHES, n),
        "agent_events": frame({**place, "appended_ms": due_ms + 2}, EVENTS, n),
        "results": frame(ended, RESULTS, n),
        "orchestrator_events": frame({}, NOTES, 0),
    }
    return ColumnLog(frames, ("t",), {"t": 4 * n * 100}, frozenset(), frozenset())


def run(
    *,
    breaches: dict[str, int] | None = None,
    behind_s: tuple[float, ...] = (9.0, 0.01),
    settled: bool = True,
    took_ms: int = 40,
    faults: tuple[str, ...] = (),
    **more: Any,
) -> Run:
    found = log(took_ms)
    n = found.submissions.height
    counts = {name: Breach((breaches or {}).get(name, 0)) for name in CHECKS}
    audit = ColumnAudit(n, n, n, n, n, 0, 0, counts, {"results": Kept(n, 0, 0, 0)})
    samples = [
        Sample(
            BEGAN_MS * 1000 + second * 1_000_000,
            {"worker": 0.1 * second, "broker": 0.2 * second, "generator": 0.5 * second},
            {"worker": 100.0 + second, "broker": 200.0},
            10.0 + second,
            {"worker": 5, "host": 1, "store": 2 * second},
        )
        for second in range(WARM_UP_S + SECONDS + 1)
    ]
    made = Audited(measured(found), audit, Verdicts(3, 3, 1.0, Breach()), (), 1.0)
    sent = Sent(n, float(WARM_UP_S + SECONDS), BEGAN_MS * 1000, list(behind_s), 0.5, 0.001)
    settled_us = (BEGAN_MS + (WARM_UP_S + SECONDS) * 1000 + 500) * 1000
    return Run("own", scenario(**more), FACTS, sent, samples, settled, settled_us, made, faults)


def test_its_figures_are_those_of_the_window_without_the_warm_up() -> None:
    document = report(run(thresholds={"e2e_latency": ["p(99)<41"], "rss_mib{process:worker}": ["max<50"]}))
    assert (document["void"], document["void_reason"], document["sound"]) == (False, None, True)
    assert document["tasks_per_second"] == pytest.approx(RATE, abs=0.2)
    assert document["events_per_second"] == pytest.approx(4 * RATE, abs=0.6)
    assert document["latency_ms"]["count"] == RATE * SECONDS
    assert document["latency_ms"]["p50"] == document["latency_ms"]["p999"] == 40.0
    # 0.1 and 0.2 core for eight seconds, over 320 events.
    assert document["cpu_us_per_event"]["worker"] == pytest.approx(2500, rel=0.02)
    assert document["cpu_us_per_event"]["total"] == pytest.approx(7500, rel=0.02)
    assert "generator" not in document["cpu_us_per_event"]
    assert document["cores"]["generator"] == 0.5
    assert document["cores"]["others"] == pytest.approx(0.2)
    assert document["lag"]["store"] == {"end": 20, "max": 20, "growth_per_s": 2.0}
    assert document["lag_end"] == 26
    assert document["bytes"]["per_event"] == 100.0
    assert sum(document["series"]["tasks"]) == pytest.approx(RATE * SECONDS, abs=1)
    verdicts = {(each["metric"], each["threshold"]): each["ok"] for each in document["thresholds"]}
    assert verdicts["e2e_latency", "p(99)<41"]
    assert not verdicts["rss_mib{process:worker}", "max<50"]
    assert verdict(document) == ExitCode.BREACHED


def test_a_late_warm_up_is_forgiven_and_a_late_measurement_is_not() -> None:
    assert not report(run(behind_s=(9.0, 0.5)))["void"]
    late = report(run(behind_s=(0.0, 0.6)))
    assert late["void"]
    assert "0.60 s behind" in late["void_reason"]
    assert verdict(late) == ExitCode.FAILED
    assert summary(late).startswith("load own: VOID;")


def test_a_run_that_does_not_come_to_rest_or_loses_a_process_is_void() -> None:
    assert "rest" in report(run(settled=False))["void_reason"]
    assert report(run(faults=("The host process ended with status 1",)))["void_reason"].startswith("The host process")


def test_a_finding_breaches_and_makes_the_run_unsound() -> None:
    document = report(run(breaches={"lost": 2}))
    assert not document["sound"]
    assert document["lost"] == 2
    assert verdict(document) == ExitCode.BREACHED
    # What no threshold is about makes it fail all the same.
    assert verdict(report(run(breaches={"unrecorded": 1}))) == ExitCode.FAILED
    assert verdict(report(run())) == ExitCode.OK


def test_a_ramp_is_sustained_up_to_the_first_step_that_is_not() -> None:
    ramp = {"start": RATE, "factor": 1.5, "steps": 3, "step_s": 2}
    document = report(run(behind_s=(0, 0, 0, 9), ramp=ramp, thresholds={"sustained": ["rate>=15"]}))
    assert [step["rate"] for step in document["ramp"]] == [10.0, 15.0, 22.5]
    assert [step["sustained"] for step in document["ramp"]] == [True, True, False]
    assert not document["void"]
    assert sustained(document["ramp"]) == 15.0
    assert sustained([{"sustained": False, "rate": 1}, {"sustained": True, "rate": 2}]) == 0.0


def test_percentiles_are_exact() -> None:
    taken = Latencies(np.arange(1.0, 1001.0))
    assert [taken.percentile(rank) for rank in (0, 50, 99, 99.9, 100)] == [1, 500, 990, 999, 1000]
    assert (taken.aggregate("avg"), taken.aggregate("max")) == (500.5, 1000)
    assert Latencies(np.array([])).percentile(50) is None
    assert growth([0, 1, 2], [5, 8, 11]) == pytest.approx(3)
    assert growth([0, 1], [5, 8]) is None


def test_the_page_holds_all_it_needs_and_takes_no_text_for_markup() -> None:
    document = report(run(about="</script><script>alert(1)</script>"))
    text = page(document)
    assert "</script><script>alert" not in text
    assert text.count("</script>") == 3
    assert "Permission is hereby granted" in text, "the licence of uPlot"
    data = json.loads(text.partition('id="data">')[2].partition("</script>")[0])
    assert data["about"] == document["about"]
    assert data["headline"]


def test_two_reports_are_compared_by_ratio_with_warnings(tmp_path: Path) -> None:
    a, b = report(run()), report(run(took_ms=80))
    b |= {"commit": "d+", "machine": {**b["machine"], "cpu": "another"}, "void": True, "void_reason": "late"}
    ratios = {row["metric"]: row["ratio"] for row in compared(a, b)}
    assert ratios["latency_ms.p50"] == 2.0
    assert ratios["cpu_us_per_event.worker"] == pytest.approx(1.0, abs=0.02)
    told = "\n".join(differences(a, b))
    for what in ("commit differs", "machine differs in cpu", "b is void: late", "changes that are in no commit"):
        assert what in told
    assert "python" not in told
    path = tmp_path / "a.json"
    path.write_text(json.dumps(a))
    assert read_report(path) == json.loads(json.dumps(a))
    path.write_text(json.dumps({**a, "format": 99}))
    with pytest.raises(ConfigurationError, match="no report"):
        read_report(path)


def test_it_is_printed_for_a_person(capsys: pytest.CaptureFixture[str]) -> None:
    print_report(report(run(breaches={"lost": 2})), Output())
    printed = capsys.readouterr().out
    assert "BREACHED" in printed
    assert "2 lost" in printed
    assert "latency p99, ms" in printed
