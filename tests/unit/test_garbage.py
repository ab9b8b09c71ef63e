"""What a run has read back goes with it, though the collector was told to leave it alone."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from streams.transport.garbage import calm_collector, thaw


class Evidence:
    """In a cycle, as what a closure holds that its frame holds."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    thresholds = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*thresholds)


def test_what_was_frozen_goes_once_it_is_thawed() -> None:
    evidence = Evidence()
    seen = weakref.ref(evidence)
    calm_collector()
    del evidence
    gc.collect()
    assert seen() is not None  # that is what a collector is spared
    thaw()
    assert seen() is None
