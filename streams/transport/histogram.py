"""A Prometheus histogram that takes a batch of values at once: the client library's own takes microseconds for each.

I/O: none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector


class BatchHistogram(Collector):
    """Without labels. `buckets`: upper bounds, inclusive and rising; the one above all is added."""

    def __init__(
        self, name: str, documentation: str, *, buckets: Sequence[float], registry: CollectorRegistry = REGISTRY
    ) -> None:
        self.name, self._documentation = name, documentation
        self._bounds = np.array(buckets, np.float64)
        self._counts = np.zeros(len(buckets) + 1, np.int64)
        self._sum = 0.0
        registry.register(self)

    def observe(self, values: npt.ArrayLike) -> None:
        """Adds all values."""
        given = np.asarray(values, np.float64)
        # The first bound that is not below the value; `left`, for bounds are inclusive.
        self._counts += np.bincount(np.searchsorted(self._bounds, given, "left"), minlength=len(self._counts))
        self._sum += float(given.sum())

    def collect(self) -> Iterator[HistogramMetricFamily]:
        bounds = [*(repr(float(bound)) for bound in self._bounds), "+Inf"]
        buckets = list(zip(bounds, np.cumsum(self._counts).tolist(), strict=True))
        yield HistogramMetricFamily(self.name, self._documentation, buckets=buckets, sum_value=self._sum)

    def describe(self) -> Iterator[HistogramMetricFamily]:
        return self.collect()
