"""What a process has spent, as the bench of its start reads it."""

from __future__ import annotations

import os
import resource
import time

import pytest

from console.bench_start import MIB, cpu_s, memory_mib


def test_cpu_time_and_memory_are_those_that_the_system_counts() -> None:
    until = time.process_time() + 0.05
    while time.process_time() < until:
        pass
    assert cpu_s(os.getpid()) == pytest.approx(time.process_time(), abs=0.1)
    assert 0 < memory_mib(os.getpid()) <= resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 // MIB
