"""What a load run did and what was seen of it: its window, what voids it, what processes spent, and how far they lag.

I/O: none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from console.load.audit import Audited
from console.load.probe import Sample
from loadtest import measures
from loadtest.driver import Sent
from loadtest.measures import Window
from loadtest.scenario import Scenario
from schemas.access import PROCESSES

PIPELINE_PARTS = ("broker", "worker", "host", "store")


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


def warm_up_s(scenario: Scenario) -> float:
    return 0.0 if scenario.drain else scenario.warm_up_s


def window_of(run: Run) -> Window:
    """The measured time: after the warm-up to the end of the schedule; of a drain, the first dispatch to the last
    result."""
    log = run.audited.log
    if run.scenario.drain and log.done.height and log.first_dispatch_ms is not None:
        return Window(log.first_dispatch_ms, int(log.done["appended_ms"][-1]) + 1)
    began_ms = run.sent.began_us // 1000
    end_s = min(run.scenario.schedule().seconds, run.sent.seconds)
    return Window(began_ms + round(warm_up_s(run.scenario) * 1000), began_ms + round(end_s * 1000))


def void_reasons(run: Run) -> list[str]:
    """Why a run has no number."""
    found = list(run.faults)
    measured = run.sent.behind_s[1:] if warm_up_s(run.scenario) else run.sent.behind_s
    late = max(measured, default=0.0)
    if run.scenario.ramp is None and late > run.sent.behind_max_s:
        found.append(
            f"the generator fell {late:.2f} s behind its schedule, and {run.sent.behind_max_s:.2f} s are allowed"
        )
    if not run.settled:
        found.append("the pipeline did not come to rest in time")
    if not run.audited.log.records:
        found.append("nothing was recorded")
    return found


def within(samples: Sequence[Sample], window: Window) -> list[Sample]:
    """From the last one before the window to the first one after it, where there are such."""
    before = [each for each in samples if each.at_us // 1000 <= window.from_ms][-1:]
    inside = [each for each in samples if window.from_ms < each.at_us // 1000 < window.to_ms]
    after = [each for each in samples if each.at_us // 1000 >= window.to_ms][:1]
    return [*before, *inside, *after]


@dataclass(frozen=True)
class Spent:
    """CPU between the first and the last sample of the window, and the events appended in between."""

    cpu_s: Mapping[str, float]
    others_s: float
    seconds: float
    events: int

    @classmethod
    def of(cls, samples: Sequence[Sample], events: pl.DataFrame) -> Spent:
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


def lag_of(samples: Sequence[Sample], window: Window) -> dict[str, Any]:
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
            "growth_per_s": rounded(measures.growth([at for at, _ in late], [lag for _, lag in late]), 1),
        }
    return found


def rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(float(value), digits)
