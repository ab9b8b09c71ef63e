"""The grammar of thresholds: what it takes, what it refuses, and what a verdict is."""

from __future__ import annotations

import pytest

from loadtest.thresholds import METRICS, Threshold, judge, parse


@pytest.mark.parametrize(
    ("metric", "expression", "value", "ok"),
    [
        ("e2e_latency", "p(99)<1000", 999.0, True),
        ("e2e_latency", "p(99)<1000", 1000.0, False),
        ("e2e_latency", " p( 99.9 ) <= 1e3 ", 1000.0, True),
        ("e2e_latency", "med>=10", 9.9, False),
        ("throughput", "rate>=200000", 200_000.0, True),
        ("throughput", "rate>200000", 200_000.0, False),
        ("lost", "count==0", 0.0, True),
        ("lost", "count===0", 1.0, False),
        ("lag", "growth<-5.5", -6.0, True),
        ("lost", "count!=3", 3.0, False),
        ("cpu_us_per_event{process:worker}", "value<=8", 8.0, True),
    ],
)
def test_a_threshold_is_read_and_held_against_a_value(metric: str, expression: str, value: float, ok: bool) -> None:
    [verdict] = judge([parse(metric, expression)], lambda _: value)
    assert (verdict.metric, verdict.threshold, verdict.value, verdict.ok) == (metric, expression, value, ok)


def test_its_parts_are_told_apart() -> None:
    found = parse("cpu_us_per_event{process:worker}", "value<=8")
    assert found == Threshold(
        "cpu_us_per_event{process:worker}", "value<=8", "cpu_us_per_event", "worker", "value", None, "<=", 8.0
    )
    assert parse("e2e_latency", "p(99.9)<1").rank == 99.9


def test_what_was_not_measured_is_not_good() -> None:
    [verdict] = judge([parse("e2e_latency", "p(50)<1")], lambda _: None)
    assert not verdict.ok
    assert verdict.value is None


@pytest.mark.parametrize(
    ("metric", "expression", "why"),
    [
        ("latency", "p(99)<1", "no metric"),
        ("e2e_latency", "p(101)<1", "no percentile"),
        ("e2e_latency", "count==0", "has no count; it has avg, max, med, min, p(N)"),
        ("lost", "p(99)<1", "has no p"),
        ("throughput", "rate", "is no threshold"),
        ("throughput", "rate=>5", "is no threshold"),
        ("throughput", "rate>=many", "is no threshold"),
        ("throughput", "rate>=1 && rate<=2", "is no threshold"),
        ("throughput{process:worker}", "rate>=1", "have parts"),
        ("rss_mib{host:a}", "max<1", "only part"),
        ("", "rate>1", "no metric"),
    ],
)
def test_what_is_wrong_with_one_is_said(metric: str, expression: str, why: str) -> None:
    with pytest.raises(ValueError, match=r".") as raised:
        parse(metric, expression)
    assert why in str(raised.value)


def test_each_metric_has_an_aggregation() -> None:
    assert all(METRICS.values())
