"""What a load run has to say: one document, whose fields `docs/output.md` lists.

I/O: none.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from console.load.audit import Audited
from console.load.seen import Run, Spent, lag_of, rounded, void_reasons, warm_up_s, window_of, within
from console.load.values import Values, steps_of
from loadtest import measures
from loadtest.measures import Latencies, Window
from loadtest.thresholds import Verdict, judge

FORMAT = 1
CURVE = (50.0, 95.0, 99.0)


def report(run: Run) -> dict[str, Any]:
    """The document."""
    log, audit, scenario = run.audited.log, run.audited.audit, run.scenario
    window = window_of(run)
    taken = measures.latencies(log.ended, window)
    samples = within(run.samples, window)
    spent = Spent.of(samples, log.events)
    reasons = void_reasons(run)
    lag = lag_of(samples, window)
    steps = steps_of(run) if scenario.ramp else None
    values = Values(taken, spent, lag, run, window, steps)
    verdicts = judge(scenario.judged(), values)
    return {
        "format": FORMAT,
        "scenario": run.name,
        "about": scenario.about,
        "void": bool(reasons),
        "void_reason": "; ".join(reasons) or None,
        "sound": audit.sound,
        "events_per_second": rounded(values.throughput, 1),
        "tasks_per_second": rounded(values.tasks, 1),
        "accepted": audit.accepted,
        "results": audit.results,
        **{name: audit.breaches[name].count for name in _BREACHES},
        "history_missing": sum(kept.missing for kept in audit.history.values()),
        "history_duplicated": sum(kept.repeated for kept in audit.history.values()),
        "history_delay_ms": rounded(values.history_delay_ms, 0),
        "lag_end": sum(samples[-1].lag.values()) if samples and samples[-1].lag else None,
        "lag": lag,
        "latency_ms": None if scenario.drain else _latency(taken),
        "cpu_us_per_event": spent.per_event(),
        "cores": spent.cores(),
        "rss_mib": spent.memory(run.samples),
        "bytes": {
            "total": log.bytes,
            "per_event": rounded(log.bytes / max(log.records, 1), 1),
        },
        "generator": _generator(run, spent),
        "ramp": steps,
        "thresholds": [_verdict(each) for each in verdicts],
        "statuses": log.statuses.to_dicts(),
        "audit": _audit(run.audited),
        "window": {"from_ms": window.from_ms, "to_ms": window.to_ms, "warm_up_s": warm_up_s(scenario)},
        "series": _series(run, taken, window),
        **run.facts,
        "scenario_data": scenario.model_dump(mode="json"),
    }


_BREACHES = (
    "lost",
    "duplicated",
    "out_of_order",
    "wrong_decisions",
    "unasked",
    "asked_twice",
    "unburied",
    "unrecorded",
)


def _latency(taken: Latencies) -> dict[str, float | None]:
    named = {"p50": 50.0, "p75": 75.0, "p90": 90.0, "p95": 95.0, "p99": 99.0, "p999": 99.9, "max": 100.0}
    found = {name: rounded(taken.percentile(rank), 2) for name, rank in named.items()}
    return {**found, "avg": rounded(taken.aggregate("avg"), 2), "count": len(taken.ms)}


def _generator(run: Run, spent: Spent) -> dict[str, Any]:
    tasks = max(run.sent.tasks, 1)
    return {
        "tasks": run.sent.tasks,
        "seconds": round(run.sent.seconds, 3),
        "behind_s": [round(each, 3) for each in run.sent.behind_s],
        "behind_max_s": round(run.sent.behind_max_s, 3),
        "cpu_us_per_task": round(run.sent.cpu_s / tasks * 1e6, 2),
        "cores": spent.cores().get("generator"),
    }


def _verdict(verdict: Verdict) -> dict[str, Any]:
    return {**asdict(verdict), "value": rounded(verdict.value, 3)}


def _audit(audited: Audited) -> dict[str, Any]:
    audit, verdicts = audited.audit, audited.verdicts
    return {
        "submissions": audit.submitted,
        "dispatches": audit.dispatches,
        "agent_events": audit.events,
        "orchestrator_events": audit.notes,
        "dead": audit.dead,
        "lives": verdicts.kinds,
        "lives_judged": verdicts.judged,
        "tasks_judged_share": round(verdicts.share, 6),
        "history": {kind: asdict(kept) for kind, kept in audit.history.items()},
        "findings": list(audited.findings),
        "took_s": round(audited.took_s, 1),
    }


def _series(run: Run, taken: Latencies, window: Window) -> dict[str, Any]:
    """Second by second of the window; `samples` at their own times, seconds after its start, the warm-up included."""
    log = run.audited.log
    curves = measures.latency_by_second(log.ended, window, CURVE)
    seconds = max(1, round(window.seconds))
    at_ms = [window.from_ms + 1000 * number for number in range(1, seconds + 1)]
    samples = [
        {
            "at_s": round(sample.at_us / 1e6 - window.from_ms / 1e3, 2),
            "lag": dict(sample.lag),
            "rss_mib": {name: round(value, 1) for name, value in sample.rss_mib.items()},
            "cpu_s": {name: round(value, 3) for name, value in sample.cpu_s.items()},
        }
        for sample in run.samples
    ]
    return {
        "events": measures.by_second(log.events, window),
        "tasks": measures.by_second(log.done, window),
        "in_flight": measures.in_flight(log, at_ms),
        "latency_ms": {f"p{rank:g}": [rounded(each, 1) for each in curve] for rank, curve in curves.items()},
        "latency_curve": [[rank, rounded(taken.percentile(rank), 2)] for rank in measures.RANKS],
        "samples": samples,
    }
