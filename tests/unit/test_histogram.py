"""The batch histogram beside the client library's own, which takes one value at a time."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram, generate_latest

from streams.transport.histogram import BatchHistogram

BOUNDS = (0.0, 0.005, 0.1, 1.0, 2.5)
values = st.floats(0, 5) | st.sampled_from(BOUNDS)


@given(st.lists(st.lists(values, max_size=20), max_size=5))
def test_it_shows_what_the_one_by_one_histogram_shows(batches: list[list[float]]) -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    batch = BatchHistogram("took", "How long.", buckets=BOUNDS, registry=ours)
    single = Histogram("took", "How long.", buckets=BOUNDS, registry=theirs)
    for each in batches:
        batch.observe(each)
        for value in each:
            single.observe(value)
    shown, wanted = (lines(registry) for registry in (ours, theirs))
    assert shown.keys() == wanted.keys()
    assert all(abs(shown[name] - wanted[name]) < 1e-9 * max(1.0, wanted[name]) for name in wanted)


def lines(registry: CollectorRegistry) -> dict[str, float]:
    text = generate_latest(registry).decode()
    found = re.findall(r"^(took\S*) (\S+)$", text, re.MULTILINE)
    assert found
    return {name: float(value) for name, value in found if "_created" not in name}
