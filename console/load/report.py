"""What a run has to say: one document, whose fields `docs/output.md` lists, and the values that thresholds are about.

I/O: none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import polars as pl

from console.load.audit import Audited
from console.load.probe import Sample
from loadtest import measures
from loadtest.column_audit import ColumnAudit
from loadtest.column_log import ColumnLog
from loadtest.driver import Sent
from loadtest.measures import Latencies, Window
from loadtest.scenario import Scenario
from loadtest.thresholds import Threshold, Verdict, judge
from schemas.access import PROCESSES

FORMAT = 1
PIPELINE_PARTS = ("broker", "worker", "host", "store")
CURVE = (50.0, 95.0, 99.0)


@dataclass(frozen=True)
class Run:
    """What was done and seen. `facts` are the machine, versions and the like, as they go into the report."""

    name: str
    scenario: Scenario
    facts: Mapping[str, Any]
    sent: Sent
    samples: Sequence[Sample]
    settled: bool
    settled_us: int | None
    audited: Audited
    faults: Sequence[str] = ()


def report(run: Run) -> dict[str, Any]:
    """The document."""
    log, audit, scenario = run.audited.log, run.audited.audit, run.scenario
    ended = measures.finished(log)
    window = window_of(run, ended)
    events = measures.events(log)
    taken = measures.latencies(ended, window)
    samples = within(run.samples, window)
    spent = _Spent.of(samples, events)
    reasons = void_reasons(run, log)
    lag = _lag(samples, window)
    steps = _steps(run, ended, log, events) if scenario.ramp else None
    values = _Values(taken, spent, audit, lag, run, events, window, ended, steps)
    verdicts = judge(scenario.judged(), values)
    return {
        "format": FORMAT,
        "scenario": run.name,
        "about": scenario.about,
        "void": bool(reasons),
        "void_reason": "; ".join(reasons) or None,
        "sound": audit.sound,
        "events_per_second": _rounded(values.throughput, 1),
        "tasks_per_second": _rounded(values.tasks, 1),
        "accepted": audit.accepted,
        "results": audit.results,
        **{name: audit.breaches[name].count for name in _BREACHES},
        "history_missing": sum(kept.missing for kept in audit.history.values()),
        "history_duplicated": sum(kept.repeated for kept in audit.history.values()),
        "history_delay_ms": _rounded(values.history_delay_ms, 0),
        "lag_end": sum(samples[-1].lag.values()) if samples and samples[-1].lag else None,
        "lag": lag,
        "latency_ms": None if scenario.drain else _latency(taken),
        "cpu_us_per_event": spent.per_event(),
        "cores": spent.cores(),
        "rss_mib": spent.memory(run.samples),
        "bytes": {
            "total": sum(log.bytes_of.values()),
            "per_event": _rounded(sum(log.bytes_of.values()) / max(log.records, 1), 1),
        },
        "generator": _generator(run, spent),
        "ramp": steps,
        "thresholds": [_verdict(each) for each in verdicts],
        "statuses": _statuses(log),
        "audit": _audit(run.audited),
        "window": {"from_ms": window.from_ms, "to_ms": window.to_ms, "warm_up_s": _warm_up_s(scenario)},
        "series": _series(run, log, ended, events, taken, window),
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


def _warm_up_s(scenario: Scenario) -> float:
    return 0.0 if scenario.drain else scenario.warm_up_s


def window_of(run: Run, ended: pl.DataFrame) -> Window:
    """The measured time: after the warm-up to the end of the schedule; of a drain, the first dispatch to the last
    result."""
    if run.scenario.drain and ended.height and run.audited.log.dispatches.height:
        first, last = run.audited.log.dispatches["appended_ms"].to_numpy().min(), ended["appended_ms"].to_numpy().max()
        return Window(int(first), int(last) + 1)
    began_ms = run.sent.began_us // 1000
    end_s = min(run.scenario.schedule().seconds, run.sent.seconds)
    return Window(began_ms + round(_warm_up_s(run.scenario) * 1000), began_ms + round(end_s * 1000))


def void_reasons(run: Run, log: ColumnLog) -> list[str]:
    """Why a run has no number."""
    found = list(run.faults)
    measured = run.sent.behind_s[1:] if _warm_up_s(run.scenario) else run.sent.behind_s
    late = max(measured, default=0.0)
    if run.scenario.ramp is None and late > run.sent.behind_max_s:
        found.append(
            f"the generator fell {late:.2f} s behind its schedule, and {run.sent.behind_max_s:.2f} s are allowed"
        )
    if not run.settled:
        found.append("the pipeline did not come to rest in time")
    if not log.records:
        found.append("nothing was recorded")
    return found


def within(samples: Sequence[Sample], window: Window) -> list[Sample]:
    """From the last one before the window to the first one after it, where there are such."""
    before = [each for each in samples if each.at_us // 1000 <= window.from_ms][-1:]
    inside = [each for each in samples if window.from_ms < each.at_us // 1000 < window.to_ms]
    after = [each for each in samples if each.at_us // 1000 >= window.to_ms][:1]
    return [*before, *inside, *after]


@dataclass(frozen=True)
class _Spent:
    """CPU between the first and the last sample of the window, and the events appended in between."""

    cpu_s: Mapping[str, float]
    others_s: float
    seconds: float
    events: int

    @classmethod
    def of(cls, samples: Sequence[Sample], events: pl.DataFrame) -> _Spent:
        if len(samples) < 2:  # noqa: PLR2004  nothing lies between fewer
            return cls({}, 0.0, 0.0, 0)
        first, last = samples[0], samples[-1]
        cpu_s = {name: total - first.cpu_s.get(name, 0.0) for name, total in last.cpu_s.items()}
        between = Window(first.at_us // 1000, last.at_us // 1000)
        others_s = last.busy_s - first.busy_s - sum(cpu_s.values())
        return cls(cpu_s, max(others_s, 0.0), between.seconds, measures.within(events, between))

    def per_event(self) -> dict[str, float] | None:
        """CPU microseconds; `total` is the pipeline's, without what measures it."""
        parts = {name: self.cpu_s[name] for name in PIPELINE_PARTS if name in self.cpu_s}
        if not parts or not self.events:
            return None
        each = {"total": sum(parts.values()), **parts}
        return {name: round(spent / self.events * 1e6, 2) for name, spent in each.items()}

    def cores(self) -> dict[str, float]:
        """How many each process kept busy; `others` is what is no part of this run."""
        if not self.seconds:
            return {}
        return {name: round(spent / self.seconds, 3) for name, spent in {**self.cpu_s, "others": self.others_s}.items()}

    def memory(self, samples: Sequence[Sample]) -> dict[str, float]:
        """The most of each process at any sample."""
        names = {name for sample in samples for name in sample.rss_mib}
        return {name: round(max(sample.rss_mib.get(name, 0.0) for sample in samples), 1) for name in sorted(names)}


def _lag(samples: Sequence[Sample], window: Window) -> dict[str, Any]:
    """By group: at the end, at most, and how it grew in the second half of the window, in records a second."""
    found: dict[str, Any] = {}
    known = [each for each in samples if each.lag]
    middle_ms = (window.from_ms + window.to_ms) / 2
    for group in (*PROCESSES, "total"):
        lags = [(each.at_us / 1e6, sum(each.lag.values()) if group == "total" else each.lag[group]) for each in known]
        late = [(at, lag) for at, lag in lags if at * 1000 >= middle_ms]
        found[group] = {
            "end": lags[-1][1] if lags else None,
            "max": max((lag for _, lag in lags), default=None),
            "growth_per_s": _rounded(measures.growth([at for at, _ in late], [lag for _, lag in late]), 1),
        }
    return found


def _latency(taken: Latencies) -> dict[str, float | None]:
    named = {"p50": 50.0, "p75": 75.0, "p90": 90.0, "p95": 95.0, "p99": 99.0, "p999": 99.9, "max": 100.0}
    found = {name: _rounded(taken.percentile(rank), 2) for name, rank in named.items()}
    return {**found, "avg": _rounded(taken.aggregate("avg"), 2), "count": len(taken.ms)}


def _generator(run: Run, spent: _Spent) -> dict[str, Any]:
    tasks = max(run.sent.tasks, 1)
    return {
        "tasks": run.sent.tasks,
        "seconds": round(run.sent.seconds, 3),
        "behind_s": [round(each, 3) for each in run.sent.behind_s],
        "behind_max_s": round(run.sent.behind_max_s, 3),
        "cpu_us_per_task": round(run.sent.cpu_s / tasks * 1e6, 2),
        "cores": spent.cores().get("generator"),
    }


def _steps(run: Run, ended: pl.DataFrame, log: ColumnLog, events: pl.DataFrame) -> list[dict[str, Any]]:
    """A ramp's steps that were run to their end: whether each was sustained."""
    ramp = run.scenario.ramp
    assert ramp is not None
    began_ms, found = run.sent.began_us // 1000, []
    at_s = _warm_up_s(run.scenario)
    offset = 1 if at_s else 0
    for number, stage in enumerate(run.scenario.measured_stages()):
        window = Window(began_ms + round(at_s * 1000), began_ms + round((at_s + stage.seconds) * 1000))
        at_s += stage.seconds
        if at_s > run.sent.seconds + 0.5:
            break
        taken = measures.latencies(ended, window)
        (waiting,) = measures.in_flight(log, ended, [window.to_ms])
        late = run.sent.behind_s[number + offset]
        ok = waiting <= ramp.backlog_s_max * stage.rate and late <= run.sent.behind_max_s
        found.append(
            {
                "rate": round(stage.rate, 1),
                "sustained": ok,
                "events_per_second": round(measures.within(events, window) / window.seconds, 1),
                "waiting_end": waiting,
                "generator_behind_s": round(late, 3),
                "p50_ms": _rounded(taken.percentile(50), 1),
                "p99_ms": _rounded(taken.percentile(99), 1),
            }
        )
    return found


def sustained(steps: Sequence[Mapping[str, Any]]) -> float:
    """The highest rate up to which all were; 0 where the first was not."""
    best = 0.0
    for step in steps:
        if not step["sustained"]:
            break
        best = float(step["rate"])
    return best


class _Values:
    """What thresholds are about."""

    def __init__(
        self,
        taken: Latencies,
        spent: _Spent,
        audit: ColumnAudit,
        lag: Mapping[str, Any],
        run: Run,
        events: pl.DataFrame,
        window: Window,
        ended: pl.DataFrame,
        steps: Sequence[Mapping[str, Any]] | None,
    ) -> None:
        self._taken, self._spent, self._audit, self._lag, self._run, self._steps = taken, spent, audit, lag, run, steps
        seconds = window.seconds
        self.throughput = measures.within(events, window) / seconds if seconds > 0 else None
        self.tasks = measures.within(ended, window) / seconds if seconds > 0 else None
        self.history_delay_ms: float | None = None
        if events.height and run.settled_us is not None:
            last_ms = float(events["appended_ms"].to_numpy().max())
            self.history_delay_ms = max(run.settled_us / 1000 - last_ms, 0.0)

    def __call__(self, threshold: Threshold) -> float | None:
        asked: dict[str, Callable[[Threshold], float | None]] = {
            "e2e_latency": self._latency,
            "throughput": lambda _: self.throughput,
            "tasks": lambda _: self.tasks,
            "lag": self._behind,
            "history_delay": lambda _: self.history_delay_ms,
            "cpu_us_per_event": lambda each: (self._spent.per_event() or {}).get(each.part or "total"),
            "rss_mib": self._memory,
            "sustained": lambda _: None if self._steps is None else sustained(self._steps),
        }
        return asked.get(threshold.name, self._count)(threshold)

    def _latency(self, threshold: Threshold) -> float | None:
        if self._run.scenario.drain:
            return None
        if threshold.rank is not None:
            return self._taken.percentile(threshold.rank)
        return self._taken.aggregate(threshold.aggregation)

    def _behind(self, threshold: Threshold) -> float | None:
        found: float | None = self._lag["total"][_OF_LAG[threshold.aggregation]]
        return found

    def _memory(self, threshold: Threshold) -> float | None:
        memory = self._spent.memory(self._run.samples)
        if threshold.part is not None:
            return memory.get(threshold.part)
        return sum(memory.get(name, 0.0) for name in PIPELINE_PARTS) if memory else None

    def _count(self, threshold: Threshold) -> float | None:
        history = self._audit.history.values()
        counts = {name: breach.count for name, breach in self._audit.breaches.items()}
        counts["dead"] = self._audit.dead
        counts["history_missing"] = sum(kept.missing for kept in history)
        counts["history_duplicated"] = sum(kept.repeated for kept in history)
        return counts[threshold.name]


_OF_LAG = {"value": "end", "max": "max", "growth": "growth_per_s"}


def _verdict(verdict: Verdict) -> dict[str, Any]:
    return {**asdict(verdict), "value": _rounded(verdict.value, 3)}


def _statuses(log: ColumnLog) -> list[dict[str, Any]]:
    found = log.results.group_by("status", "reason").len("results").sort("results", "status", "reason", descending=True)
    return found.to_dicts()


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


def _series(
    run: Run, log: ColumnLog, ended: pl.DataFrame, events: pl.DataFrame, taken: Latencies, window: Window
) -> dict[str, Any]:
    """Second by second of the window; `samples` at their own times, seconds after its start, the warm-up included."""
    curves = measures.latency_by_second(ended, window, CURVE)
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
        "events": measures.by_second(events, "appended_ms", window),
        "tasks": measures.by_second(ended, "appended_ms", window),
        "in_flight": measures.in_flight(log, ended, at_ms),
        "latency_ms": {f"p{rank:g}": [_rounded(each, 1) for each in curve] for rank, curve in curves.items()},
        "latency_curve": [[rank, _rounded(taken.percentile(rank), 2)] for rank in measures.RANKS],
        "samples": samples,
    }


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(float(value), digits)
