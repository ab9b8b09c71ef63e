"""A run while it runs: samples once a second, processes taken away and brought back, a ramp stopped where it ends.

I/O: the clock; through what it is given.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from console.load.generator import Generator
from console.load.pipeline import Pipeline
from console.load.probe import LagMeter, Sample, busy_s, usage
from loadtest.scenario import Outage, Scenario
from schemas.errors import PointsmanError

SAMPLE_S = 1.0
OWN = "audit"  # this process, which samples and audits


@dataclass
class Meter:
    """CPU of each process added up over all that bore its name, so that one that was killed still counts."""

    pipeline: Pipeline
    lag: LagMeter
    extra: dict[str, int] = field(default_factory=dict)
    _before: dict[tuple[str, int], float] = field(default_factory=dict)
    _totals: dict[str, float] = field(default_factory=dict)

    def sample(self) -> Sample:
        memory: dict[str, float] = {}
        at_us = time.time_ns() // 1000
        for name, pid in {**self.pipeline.pids(), **self.extra}.items():
            found = usage(pid)
            if found is not None:
                cpu_s, memory[name] = found
                self._totals[name] = self._totals.get(name, 0.0) + cpu_s - self._before.get((name, pid), 0.0)
                self._before[name, pid] = cpu_s
        return Sample(at_us, dict(self._totals), memory, busy_s(), self._lag())

    def _lag(self) -> dict[str, int]:
        try:
            return self.lag.lag()
        except PointsmanError:  # a broker that is busy or away answers later
            return {}


class Outages:
    """Trouble on schedule. What fails in it is told by `check`."""

    def __init__(self, pipeline: Pipeline, outages: Sequence[Outage], note: Callable[[str], None]) -> None:
        self._pipeline, self._note = pipeline, note
        self._due = sorted(
            [
                *((outage.at_s, 0, outage) for outage in outages),
                *((outage.at_s + outage.for_s, 1, outage) for outage in outages),
            ],
            key=lambda each: each[:2],
        )

    def tend(self, elapsed_s: float) -> None:
        """`elapsed_s` since the measurement began; infinity brings back whatever is away. Raises ProcessEndedError."""
        while self._due and self._due[0][0] <= elapsed_s:
            _, back, outage = self._due.pop(0)
            if back:
                self._note(f"the {outage.process} comes back")
                self._pipeline.bring_back(outage.process, outage.how)
            else:
                self._note(f"the {outage.process} goes away ({outage.how}) for {outage.for_s:g} s")
                self._pipeline.take_away(outage.process, outage.how)


def watch(
    scenario: Scenario,
    generator: Generator,
    meter: Meter,
    outages: Outages,
    began_us: int,
    progress: Callable[[float, Sample], None],
) -> list[Sample]:
    """Samples on whole seconds after the start, until the generator ends.

    Raises ProcessEndedError when a process of the pipeline ends that should not.
    """
    samples: list[Sample] = []
    warm_up_s = 0.0 if scenario.drain else scenario.warm_up_s
    number = 0
    while True:
        due_s = number * SAMPLE_S
        while (wait_s := due_s - (time.time_ns() // 1000 - began_us) / 1e6) > 0 and generator.running:
            time.sleep(min(wait_s, 0.1))
        sample = meter.sample()
        samples.append(sample)
        if not generator.running:
            return samples
        meter.pipeline.check()
        elapsed_s = (sample.at_us - began_us) / 1e6
        outages.tend(elapsed_s - warm_up_s)
        progress(elapsed_s, sample)
        if scenario.ramp is not None and _is_beyond(scenario, elapsed_s, sample):
            generator.stop()
        number = max(number + 1, int((time.time_ns() // 1000 - began_us) / 1e6 / SAMPLE_S) + 1)


def _is_beyond(scenario: Scenario, elapsed_s: float, sample: Sample) -> bool:
    """Whether a ramp has left what can be sustained so far behind that more tells nothing."""
    assert scenario.ramp is not None
    at = 0.0
    rate = scenario.ramp.start
    for stage in scenario.schedule().stages:
        at, rate = at + stage.seconds, stage.rate
        if at > elapsed_s:
            break
    return sample.lag.get("worker", 0) > 4 * scenario.ramp.backlog_s_max * rate


def settle(meter: Meter, timeout_s: float, check: Callable[[], None]) -> tuple[bool, int]:
    """Waits until every group has committed all there is; whether it did, and when (microseconds since the epoch)."""
    until, calm = time.monotonic() + timeout_s, 0
    while time.monotonic() < until:
        check()
        try:
            lag = meter.lag.lag()
        except PointsmanError:
            lag = {"": 1}
        # Twice, for what was committed may have led to more.
        calm = calm + 1 if not any(lag.values()) else 0
        if calm == 1:
            at_us = time.time_ns() // 1000
        if calm > 1:
            return True, at_us
        time.sleep(0.1)
    return False, time.time_ns() // 1000
