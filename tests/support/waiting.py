"""Waiting for what others bring about."""

from __future__ import annotations

import time
from collections.abc import Callable

POLL_S = 0.02


def until(condition: Callable[[], bool], seconds: float) -> None:
    """Returns once it holds; AssertionError after so many seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass in time"
        time.sleep(POLL_S)
