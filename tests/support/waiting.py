"""Waiting for what others bring about."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import confluent_kafka as ck

from streams.transport.bounded import close

C = TypeVar("C", bound=ck.Consumer)

POLL_S = 0.02
# Bounds are written for a machine that does little else; they tell a hang from work, and a busy machine hangs nobody.
PATIENCE = 4
# So much of a test's time limit stays for what it does when it gives up. The limit itself ends the whole process of
# tests: who reads the output then sees which test it was, and not for what it waited.
PARTING_S = 15.0


class Limit:
    """Of the test that runs: the monotonic time at which every wait of it has ended."""

    ends_at = math.inf


def limit_waits(limit_s: float) -> None:
    """Has waits of the test that begins now end before its time limit does; 0: it has none."""
    Limit.ends_at = time.monotonic() + max(limit_s / 2, limit_s - PARTING_S) if limit_s else math.inf


def patient_s(seconds: float) -> float:
    """How long a test waits from now on for what takes so long on a quiet machine at most."""
    return max(0.0, min(PATIENCE * seconds, Limit.ends_at - time.monotonic()))


def deadline_in(seconds: float) -> float:
    """The monotonic time at which it gives that up."""
    return time.monotonic() + patient_s(seconds)


def until(condition: Callable[[], bool], seconds: float) -> None:
    """Returns once it holds; AssertionError after PATIENCE times so many seconds."""
    deadline = deadline_in(seconds)
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass in time"
        time.sleep(POLL_S)


@contextmanager
def leaving(consumer: C) -> Iterator[C]:
    """A consumer of librdkafka that is closed at the end, and left behind where its close does not end.

    It may wait for itself, and a test that stands in the library hears no time limit.
    """
    try:
        yield consumer
    finally:
        close(consumer, PATIENCE * 5.0)
