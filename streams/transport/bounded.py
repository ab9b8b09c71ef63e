"""Deadlines for those calls of a librdkafka consumer that have none: the synchronous commit, and the close.

A commit waits until the group has a coordinator. Mostly the session's end is that wait's, too. But it may be nobody's,
and all other calls of that consumer wait behind it, for confluent-kafka lets one thread in at a time. So the call is
made in a thread of its own, and left there; not from a rebalance callback, whose thread is the one that is in.
I/O: Kafka.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import confluent_kafka as ck

from streams.transport.clients import ConnectionWatch, StrandedError, opened
from streams.transport.stuck import not_for_ever
from streams.transport.threads import DaemonPool, has_ended

log = logging.getLogger("pointsman.kafka")

T = TypeVar("T")

LOOK_S = 10.0
LOOKS = 4
"""How often in a row another client hears of the broker before the one that waits is given up: for longer than the
15 s after which librdkafka asks again what was lost."""
OUTAGE_S = 120.0
"""Longer than any outage that we promise to sit out, and as long as producers wait."""
THREADS_MAX = 8
_ANSWER_S = 5.0
CLOSE_TIMEOUT_S = 5.0
STUCK_S = 15.0
"""Beyond the time of a close. Another thread may hold the interpreter for a while, and a machine may be busy."""

_calls = DaemonPool("pointsman-commit", THREADS_MAX)
_thread = threading.local()


@contextmanager
def rebalance_callback() -> Iterator[None]:
    """What this thread does within it, it does while its consumer polls."""
    _thread.is_called_back = True
    try:
        yield
    finally:
        _thread.is_called_back = False


def within(call: Callable[[], T], is_answered: Callable[[], bool]) -> T:
    """What the call gives. `is_answered`: whether the broker answers anybody else.

    Raises what the call raises, StrandedError where it takes for ever: the client is lost with it. In a rebalance
    callback there is no deadline but librdkafka's; there the coordinator has just been heard.
    """
    if getattr(_thread, "is_called_back", False):
        return call()
    pending = _calls.submit(call)
    began, looks = time.monotonic(), 0
    while not has_ended(pending, LOOK_S):
        looks = looks + 1 if is_answered() else 0
        waited_s = time.monotonic() - began
        if looks >= LOOKS or waited_s > OUTAGE_S:
            answers = "though the broker answers others" if looks else "and no broker can be reached"
            raise StrandedError(
                f"a commit was not answered for {waited_s:.0f} s, {answers}; the client waits for a coordinator of its "
                "consumer group, and for nothing else. Start the process again"
            )
    return pending.result()


def is_answering(config: Mapping[str, Any]) -> bool:
    """Whether the broker answers a new client of these settings, which joins no group, within seconds."""
    probe = opened(ck.Consumer, {**config, "client.id": "pointsman-probe"}, ConnectionWatch("probe"))
    try:
        probe.list_topics(timeout=_ANSWER_S)
    except ck.KafkaException:
        return False
    finally:
        close(probe, CLOSE_TIMEOUT_S)
    return True


def close(consumer: ck.Consumer, timeout_s: float) -> bool:
    """Whether the consumer closed within `timeout_s`; if not, it goes on closing in a daemon thread.

    A close may also keep every thread from going on, this one with them: then a process that serves ends.
    """
    closing = threading.Thread(target=consumer.close, name="pointsman-close", daemon=True)
    with not_for_ever(timeout_s + STUCK_S):
        closing.start()
        closing.join(timeout_s)
    if closing.is_alive():
        log.warning("a consumer did not close within %.1f s and is left behind", timeout_s)
    return not closing.is_alive()
