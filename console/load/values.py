"""The values that thresholds are about, and whether a ramp's steps were sustained. I/O: none."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from console.load.seen import PIPELINE_PARTS, Run, Spent, rounded, warm_up_s
from loadtest import measures
from loadtest.measures import Latencies, Window
from loadtest.thresholds import Threshold

_OF_LAG = {"value": "end", "max": "max", "growth": "growth_per_s"}


def steps_of(run: Run) -> list[dict[str, Any]]:
    """A ramp's steps that were run to their end: whether each was sustained."""
    ramp = run.scenario.ramp
    assert ramp is not None
    log = run.audited.log
    began_ms, found = run.sent.began_us // 1000, []
    at_s = warm_up_s(run.scenario)
    offset = 1 if at_s else 0
    for number, stage in enumerate(run.scenario.measured_stages()):
        window = Window(began_ms + round(at_s * 1000), began_ms + round((at_s + stage.seconds) * 1000))
        at_s += stage.seconds
        if at_s > run.sent.seconds + 0.5:
            break
        taken = measures.latencies(log.ended, window)
        (waiting,) = measures.in_flight(log, [window.to_ms])
        late = run.sent.behind_s[number + offset]
        ok = waiting <= ramp.backlog_s_max * stage.rate and late <= run.sent.behind_max_s
        found.append(
            {
                "rate": round(stage.rate, 1),
                "sustained": ok,
                "events_per_second": round(measures.within(log.events, window) / window.seconds, 1),
                "waiting_end": waiting,
                "generator_behind_s": round(late, 3),
                "p50_ms": rounded(taken.percentile(50), 1),
                "p99_ms": rounded(taken.percentile(99), 1),
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


class Values:
    """What thresholds are about."""

    def __init__(
        self,
        taken: Latencies,
        spent: Spent,
        lag: Mapping[str, Any],
        run: Run,
        window: Window,
        steps: Sequence[Mapping[str, Any]] | None,
    ) -> None:
        self._taken, self._spent, self._lag, self._run, self._steps = taken, spent, lag, run, steps
        self._audit, log, seconds = run.audited.audit, run.audited.log, window.seconds
        self.throughput = measures.within(log.events, window) / seconds if seconds > 0 else None
        self.tasks = measures.within(log.done, window) / seconds if seconds > 0 else None
        self.history_delay_ms: float | None = None
        if log.events.height and run.settled_us is not None:
            last_ms = float(log.events["appended_ms"][-1])
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
