"""What a process has spent, as benches and load tests read it."""

from __future__ import annotations

import os
import resource
import time

import pytest

from console.load.probe import MIB, usage


def test_cpu_time_and_memory_are_those_that_the_system_counts() -> None:
    until = time.process_time() + 0.05
    while time.process_time() < until:
        pass
    used = usage(os.getpid())
    assert used is not None
    cpu_s, memory_mib = used
    assert cpu_s == pytest.approx(time.process_time(), abs=0.1)
    assert 0 < int(memory_mib) <= resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 // MIB
