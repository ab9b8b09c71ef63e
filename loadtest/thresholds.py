"""What a run must reach, in the grammar of k6's thresholds: `e2e_latency: ["p(99)<1000"]`.

    expression = aggregation operator number
    aggregation = p(0..100) | avg | min | med | max | count | rate | value | growth
    operator    = < | <= | > | >= | == | === | != | !==

A metric may name one of its parts as k6 does with tags: `cpu_us_per_event{process:worker}`. I/O: none.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

# Which aggregations mean something, by metric.
COUNTS = (
    *("lost", "duplicated", "out_of_order", "wrong_decisions", "unasked", "asked_twice", "dead"),
    *("history_missing", "history_duplicated"),
)
_TREND = frozenset({"avg", "min", "med", "max", "p"})
METRICS: Mapping[str, frozenset[str]] = {
    "e2e_latency": _TREND,  # ms, from the intended send to the append of the result
    "throughput": frozenset({"rate"}),  # events a second
    "tasks": frozenset({"rate"}),  # results a second
    "lag": frozenset({"value", "max", "growth"}),  # records appended and not committed; growth: records a second
    "history_delay": frozenset({"value"}),  # ms until the history was whole after the last record
    "cpu_us_per_event": frozenset({"value"}),
    "rss_mib": frozenset({"max"}),
    "sustained": frozenset({"rate"}),  # of a ramp: tasks a second
    **dict.fromkeys(COUNTS, frozenset({"count"})),
}
_OPERATORS: Mapping[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "===": operator.eq,
    "!=": operator.ne,
    "!==": operator.ne,
}
_METRIC = re.compile(r"(?P<name>[a-z0-9_]+)(?:\{(?P<tag>[a-z_]+):(?P<part>[\w.-]+)\})?")
_EXPRESSION = re.compile(
    r"\s*(?:(?P<word>[a-z]+)|p\(\s*(?P<rank>\d+(?:\.\d+)?)\s*\))\s*(?P<op>===|!==|<=|>=|==|!=|<|>)\s*"
    r"(?P<bound>-?\d+(?:\.\d+)?(?:e[+-]?\d+)?)\s*"
)


@dataclass(frozen=True)
class Threshold:
    """`rank` is that of p(rank). `part`: which process, where the metric has parts."""

    metric: str
    expression: str
    name: str
    part: str | None
    aggregation: str
    rank: float | None
    operator: str
    bound: float

    def holds_for(self, value: float) -> bool:
        return _OPERATORS[self.operator](value, self.bound)


@dataclass(frozen=True)
class Verdict:
    """A threshold, what was measured, and whether that is good. What was not measured is not good."""

    metric: str
    threshold: str
    value: float | None
    ok: bool


class Measured(Protocol):
    """Gives the value that a threshold is about; None where the run has none."""

    def __call__(self, threshold: Threshold, /) -> float | None: ...


def parse(metric: str, expression: str) -> Threshold:
    """Raises ValueError, saying what is wrong with it."""
    named = _METRIC.fullmatch(metric)
    if named is None or named["name"] not in METRICS:
        raise ValueError(f"there is no metric {metric}; known are {', '.join(METRICS)}")
    if named["tag"] not in (None, "process"):
        raise ValueError(f"{metric}: the only part that a metric has is {{process:NAME}}")
    if named["tag"] and named["name"] not in ("cpu_us_per_event", "rss_mib"):
        raise ValueError(f"{metric}: only cpu_us_per_event and rss_mib have parts")
    found = _EXPRESSION.fullmatch(expression)
    if found is None:
        raise ValueError(f'{metric}: "{expression}" is no threshold; one is, for example, "p(99)<1000"')
    rank = None if found["rank"] is None else float(found["rank"])
    aggregation = "p" if rank is not None else found["word"]
    if rank is not None and not 0 <= rank <= 100:  # noqa: PLR2004  per cent
        raise ValueError(f"{metric}: p({found['rank']}) is no percentile")
    allowed = METRICS[named["name"]]
    if aggregation not in allowed:
        choices = ", ".join("p(N)" if each == "p" else each for each in sorted(allowed))
        raise ValueError(f"{metric} has no {aggregation}; it has {choices}")
    return Threshold(
        metric, expression, named["name"], named["part"], aggregation, rank, found["op"], float(found["bound"])
    )


def judge(thresholds: Iterable[Threshold], measured: Measured) -> list[Verdict]:
    """The verdict on each."""
    found = []
    for each in thresholds:
        value = measured(each)
        ok = value is not None and each.holds_for(value)
        found.append(Verdict(each.metric, each.expression, value, ok))
    return found
